"""A model that does not fit the data is told once, before anything is computed or written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reticket.errors import ConfigError
from reticket.experiment import Summary
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment

EXPERIMENT = """
[data]
name = "digits"
train_size = 100
test_size = 50

[model]
{model}

[dense]
epochs = 1
batch_size = 50
lr = 0.1

[sparse]
lr = 0.1

[prune]
style = "finetune"
epochs = 1
lr = 0.1

[grid]
seeds = 1
sparsities = [0.2]
rewinds = ["0ep"]
methods = ["dense"]

[checks]
barriers = false
overlap = false
"""
MLP = 'name = "mlp"\nparams = {{ in_features = {}, hidden = [16], classes = {} }}'


class Noisy(nn.Module):
    """A network of the digits that draws random numbers, and raises where it is told to."""

    def __init__(self, outputs: int = 10, raising: bool = False) -> None:
        super().__init__()
        self.layer, self.raising = nn.Linear(64, outputs), raising

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.raising:
            raise SystemExit(3)
        torch.rand(1)
        return self.layer(x)


def noisy(**params: Any) -> str:
    texts = [f"{name} = {json.dumps(value)}" for name, value in params.items()]
    return f'name = "{__name__}:Noisy"\nparams = {{ {", ".join(texts)} }}'


def run(tmp_path: Path, model: str, *settings: str) -> Summary:
    (tmp_path / "experiment.toml").write_text(EXPERIMENT.format(model=model))
    name, config = load_config(str(tmp_path / "experiment.toml"), settings)
    return run_experiment(config, tmp_path / "run", preset=name)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (MLP.format(63, 10), r"model 'mlp' does not fit data set 'digits', .* \(64,\): .*; change model\.p"),
        (MLP.format(64, 5), r"model 'mlp' has 5 outputs, but data set 'digits' has 10 classes; change model\.p"),
        (noisy(outputs=4), r"has 4 outputs, .* 10 classes"),
        (noisy(outputs=12), r"has 12 outputs, .* 10 classes"),
        (noisy(raising=True), r"does not fit .*: SystemExit"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_one_sentence(tmp_path: Path, model: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as found:
        run(tmp_path, model)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_a_trial_draws_no_random_number_of_the_callers(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    with pytest.raises(ConfigError):
        run(tmp_path, noisy(outputs=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_is_not_tried_where_its_training_is_the_users(tmp_path: Path) -> None:
    summary = run(tmp_path, MLP.format(63, 10), f"dense.train={__name__}:untrained")
    assert "cannot be multiplied" in str(summary.failed)


def untrained(*args: Any, **options: Any) -> Any:
    """Call the model in a way of its own."""
    raise RuntimeError("mat1 and mat2 cannot be multiplied")
