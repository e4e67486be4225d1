"""A model that does not fit the data is told once, before anything is computed or written."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reticket.errors import ConfigError
from reticket.experiment import Event, Summary
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment
from reticket.tasks.trial import try_model

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

    def __init__(self, outputs: int = 10, raising: str = "", double: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(64, outputs, dtype=torch.float64 if double else torch.float32)
        self.raising = raising

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.raising == "exit" or self.raising in sys.modules:
            raise SystemExit(3)
        if self.raising == "lines":
            raise ValueError("one line\nand another")
        torch.rand(1)
        return self.layer(x)


def noisy(**params: Any) -> str:
    texts = [f"{name} = {json.dumps(value).lower()}" for name, value in params.items()]
    return f'name = "{__name__}:Noisy"\nparams = {{ {", ".join(texts)} }}'


def run(tmp_path: Path, model: str, *settings: str, told: list[str] | None = None) -> Summary:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "experiment.toml").write_text(EXPERIMENT.format(model=model))
    name, config = load_config(str(tmp_path / "experiment.toml"), settings)
    notices = told if told is not None else []

    def listen(event: Event) -> None:
        if event.kind == "notice":
            notices.append(event.text)

    return run_experiment(config, tmp_path / "run", preset=name, on_event=listen)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (MLP.format(63, 10), r"model 'mlp' does not fit data set 'digits', .* \(64,\): .*; change model\.p"),
        (
            MLP.format(64, 5),
            r"'mlp' does not fit .* shape \(2, 5\), but \(2, 10\) was expected: build it for 10 classes; ch",
        ),
        (noisy(outputs=4), r"\(2, 4\), but \(2, 10\) was expected"),
        (noisy(outputs=12), r"\(2, 12\), but \(2, 10\) was expected"),
        (noisy(raising="exit"), r"does not fit .*: SystemExit"),
        (noisy(raising="lines"), r"does not fit .*: ValueError: one line \(.*test_tasks_trial\.py, line \d+\); change"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_one_sentence(tmp_path: Path, model: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as found:
        run(tmp_path, model)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_dtype_fits_as_it_trains(tmp_path: Path) -> None:
    assert run(tmp_path, noisy(double=True)).complete


def test_a_run_of_which_everything_is_stored_tries_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = noisy(raising="a_module_that_breaks_it")
    assert run(tmp_path, model).complete
    monkeypatch.setitem(sys.modules, "a_module_that_breaks_it", sys)
    assert run(tmp_path, model).complete
    with pytest.raises(ConfigError, match="SystemExit"):
        run(tmp_path, model, "grid.seeds=2")


def test_of_a_sweep_the_variant_is_named_and_all_that_differ_are_tried(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^outputs-12: model .* does not fit"):
        run(tmp_path, noisy(outputs=10), 'sweep."model.params.outputs"=[10, 12]')
    assert not (tmp_path / "run").exists()


def test_a_trial_draws_no_random_number_of_the_callers(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    with pytest.raises(ConfigError):
        run(tmp_path, noisy(outputs=4))
    assert torch.equal(torch.get_rng_state(), before)


KEPT = nn.Sequential(nn.Linear(64, 10))


def the_same_module() -> nn.Module:
    """Give one module to all."""
    return KEPT


def of_one_seed() -> nn.Module:
    """Begin at the same weights always."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 10))


def test_networks_that_share_parameters_are_refused_and_those_that_begin_alike_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the same parameters each time that it is built"):
        run(tmp_path, f'name = "{__name__}:the_same_module"')
    seen: list[str] = []
    for model in (f'name = "{__name__}:of_one_seed"', noisy()):
        run(tmp_path, model, told=seen)
        seen.append("")
    assert len(seen) == 3
    assert "begins with the same weights, so A and B are one initialisation" in seen[0]


def test_it_is_told_where_nothing_can_be_permuted(tmp_path: Path) -> None:
    seen: list[str] = []
    run(tmp_path, noisy(), 'grid.methods=["permuted"]', told=seen)
    assert any("no unit of this model may be permuted" in text for text in seen)


def test_a_model_is_not_tried_where_its_training_is_the_users(tmp_path: Path) -> None:
    summary = run(tmp_path, MLP.format(63, 10), f"dense.train={__name__}:untrained")
    assert "cannot be multiplied" in str(summary.failed)


def untrained(*args: Any, **options: Any) -> Any:
    """Call the model in a way of its own."""
    raise RuntimeError("mat1 and mat2 cannot be multiplied")


class Idle(nn.Module):
    """A network with a layer that `forward` never calls, one that may be frozen, and outputs beyond float32."""

    def __init__(self, frozen: bool = False, factor: float = 1.0) -> None:
        super().__init__()
        self.first, self.layer, self.idle = nn.Linear(64, 8), nn.Linear(8, 10), nn.Linear(8, 10)
        self.first.weight.requires_grad_(not frozen)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.first(x).relu()) * self.factor


def idle(**params: Any) -> str:
    return noisy(**params).replace(":Noisy", ":Idle")


def test_weights_without_a_part_in_the_loss_are_told_where_they_are_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    run(tmp_path, idle(), 'grid.methods=["dense","lth"]', told=seen)
    assert seen[0].startswith(
        f"'idle.weight' of model '{__name__}:Idle', 11.9 % of the weights that are pruned, had no part in what it gave "
        f"for 2 inputs; if they never have one, leave them out by prune.exclude"
    )
    tried = []
    monkeypatch.setattr("reticket.tasks.running.try_model", lambda one: tried.append(one) or try_model(one))
    for number, settings in enumerate((['prune.exclude=["idle"]'], ['grid.methods=["dense"]'])):
        run(tmp_path / str(number), idle(), 'grid.methods=["dense","lth"]', *settings, told=(seen := []))
        assert not any("had no part" in text for text in seen)
    assert len(tried) == 2


def test_a_loss_that_is_not_finite_from_the_beginning_is_no_matter_of_the_rate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not fit .* its loss is (nan|inf) before any training"):
        run(tmp_path, idle(factor=1e39))


@pytest.mark.parametrize(
    ("model", "setting", "said"),
    [
        (MLP.format(64, 10), 'prune.exclude=["nothing"]', "exclude 'nothing' matches no weight of MLP"),
        (MLP.format(64, 10), "grid.sparsities=[0.9999]", "density 0.0001 keeps 0 of 1184 weights in 'all layers'"),
        (MLP.format(64, 10), 'prune.pattern="7x2"', r"has 16 outputs, which blocks of 7 do not cover"),
        (idle(frozen=True), "prune.rate=0.2", r"'first.weight' is frozen .*; exclude by prune.exclude, as \['first.w"),
    ],
)
def test_what_cannot_be_pruned_is_said_before_training(tmp_path: Path, model: str, setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^pruning of model '.*': .*{said}"):
        run(tmp_path, model, 'grid.methods=["dense","lth"]', setting)
    assert not (tmp_path / "run").exists()
    assert run(tmp_path, model, setting).complete, "where nothing is pruned, nothing is said"


class Deep(nn.Module):
    """Layers whose running statistics, before any training, let activations grow beyond float32."""

    def __init__(self) -> None:
        super().__init__()
        layers = [part for _ in range(40) for part in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(64, 10))
        for layer in self.layers:
            if isinstance(layer, nn.Linear) and layer.out_features == 64:
                nn.init.normal_(layer.weight, std=2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_a_loss_that_is_finite_by_the_statistics_of_a_batch_is_no_fault(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        assert not Deep().eval()(torch.rand(2, 64)).isfinite().all()
    assert run(tmp_path, f'name = "{__name__}:Deep"').complete


def with_gaps(folder: Path | None = None) -> Any:
    """Give features of which some are missing, and a model that fills them in."""
    x, y = torch.linspace(0, 1, 600).reshape(150, 4), torch.arange(150) % 3
    x[:, 1] = float("nan")
    pairs = list(zip(x, y, strict=True))
    return pairs, pairs


def filling() -> nn.Module:
    """Take a number that is missing for 0."""
    return nn.Sequential(Filled(), nn.Linear(4, 3))


class Filled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.nan_to_num()


def test_numbers_that_are_none_are_told_and_the_model_may_be_made_for_them(tmp_path: Path) -> None:
    seen: list[str] = []
    assert run(tmp_path, f'name = "{__name__}:filling"', f"data.name={__name__}:with_gaps", told=seen).complete
    assert "100 of 100 inputs of data set" in seen[0]
    assert "hold NaN or infinite numbers; unless the model or the objective is made for them, leave them out" in seen[0]


def test_where_only_checks_prune_a_model_that_cannot_be_pruned_has_its_other_results(tmp_path: Path) -> None:
    summary = run(tmp_path, idle(frozen=True), "checks.overlap=true")
    assert summary.done
    assert all("IMP" in label for label, _ in summary.failed.values())
