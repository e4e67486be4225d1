"""What goes wrong in training is one sentence: where, what was seen, what was expected, what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reticket.data import load_dataset
from reticket.errors import ConfigError, MaskError, TrainingError
from reticket.models import build_model
from reticket.training import Recipe, Resume, Span, TrainState, evaluate, parse_position, train
from reticket.training.state import read_checkpoint, write_checkpoint

DATA = load_dataset("digits", train_size=70)
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05)
ORDER = ("messages",)


def small() -> nn.Module:
    return build_model("mlp", hidden=(8,))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"epochs": -1}, "epochs is -1, but it must be at least 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0.0}, r"lr is 0.0, but it must be above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0, but it must be from 0 to below 1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"warmup_epochs": 4}, "warmup_epochs is 4, but it must be from 0 to 3"),
        ({"milestones": (2, 1)}, r"milestones is \(2, 1\), but it must be in ascending order"),
        ({"gamma": 0.0}, "gamma is 0.0"),
    ],
)
def test_recipe(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Recipe(**{"epochs": 3, "batch_size": 16, "lr": 0.05, **change})


@pytest.mark.parametrize("text", ["5", "ep5", "-1it", "1.5ep", "", "5 epochs"])
def test_position_that_is_none(text: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"position '{text}' cannot be read; write steps as '300it' or epochs as '5ep'"
    ):
        parse_position(text, 11)


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (5, 4)])
def test_a_span_that_is_none(start: int, stop: int | None) -> None:
    with pytest.raises(ConfigError, match=f"step {start} to step {stop} is not possible; choose 0 <= start <= stop"):
        Span(start, stop)


def test_a_negative_time_between_checkpoints() -> None:
    with pytest.raises(ConfigError, match=r"resume: seconds is -1.0, but it must be at least 0"):
        Resume(seconds=-1.0)


@pytest.mark.parametrize(("start", "stop"), [(16, None), (0, 16)])
def test_impossible_start_and_stop(start: int, stop: int | None) -> None:
    with pytest.raises(ConfigError, match=r"in a recipe of 15 steps \(3 epochs of 5\)"):
        train(small(), DATA, RECIPE, rng_label=ORDER, span=Span(start, stop))


def test_state_of_another_place() -> None:
    state = train(small(), DATA, RECIPE, rng_label=ORDER, span=Span(stop=8)).state
    with pytest.raises(ConfigError, match="a state at step 8 of a run from step 0 cannot be continued to step 5"):
        train(small(), DATA, RECIPE, rng_label=ORDER, span=Span(stop=5), resume=Resume(state=state))
    with pytest.raises(ConfigError, match="of a run from step 3"):
        train(small(), DATA, RECIPE, rng_label=ORDER, span=Span(3), resume=Resume(state=state))
    with pytest.raises(
        ConfigError,
        match=r"the state's tensors do not fit this model \('layers.0.weight' has shape \(8, 64\) of float32 there and",
    ):
        train(build_model("mlp", hidden=(9,)), DATA, RECIPE, rng_label=ORDER, resume=Resume(state=state))


def test_divergence_names_the_step() -> None:
    with pytest.raises(
        TrainingError,
        match=r"(loss is (nan|inf)|weight is not finite) at step \d+ \(epoch \d, lr .*lower lr or add warmup",
    ):
        train(small(), DATA, Recipe(epochs=30, batch_size=16, lr=1e6, schedule="constant"), rng_label=ORDER)
    poisoned = small()
    with torch.no_grad():
        poisoned.get_parameter("layers.0.weight")[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"the loss is nan at step 0 \(epoch 0, lr 0.05\): training diverged"):
        train(poisoned, DATA, RECIPE, rng_label=ORDER)


def test_mask_of_another_model() -> None:
    with pytest.raises(MaskError, match=r"the mask names 'conv1.weight', which is no trainable parameter"):
        train(small(), DATA, RECIPE, rng_label=ORDER, mask={"conv1.weight": torch.ones(3, 3, dtype=torch.bool)})
    with pytest.raises(
        MaskError, match=r"'layers.0.weight' is torch.bool of shape \(8, 63\).*shape \(8, 64\) was expected"
    ):
        train(small(), DATA, RECIPE, rng_label=ORDER, mask={"layers.0.weight": torch.ones(8, 63, dtype=torch.bool)})


def test_models_that_cannot_be_trained() -> None:
    with pytest.raises(TrainingError, match="the model has none; convert it first"):
        train(nn.Flatten(), DATA, RECIPE, rng_label=ORDER)
    mixed = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 10).double())
    with pytest.raises(TrainingError, match=r"torch.float32.*torch.float64"):
        train(mixed, DATA, RECIPE, rng_label=ORDER)


def test_damaged_and_foreign_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    state = train(small(), DATA, RECIPE, rng_label=ORDER, span=Span(stop=8)).state
    write_checkpoint(path, state, "another run")
    with pytest.raises(TrainingError, match=r"run.safetensors' belongs to another run \(recipe, data, order"):
        train(small(), DATA, RECIPE, rng_label=ORDER, resume=Resume(path))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TrainingError, match=r"run.safetensors' is damaged \(.*\); delete it to start this run over"):
        train(small(), DATA, RECIPE, rng_label=ORDER, resume=Resume(path))
    path.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(TrainingError, match="is damaged"):
        read_checkpoint(path, "run")
    with pytest.raises(TrainingError, match=r"a training state of format 'old' was found"):
        TrainState.from_tensors(state.tensors(), {**state.metadata(), "format": "old"})
    with pytest.raises(TrainingError, match=r"is incomplete \(KeyError\('epoch_losses'\)\)"):
        TrainState.from_tensors({}, state.metadata())


def test_a_checkpoint_that_cannot_be_used_is_set_aside(tmp_path: Path) -> None:
    path, told = tmp_path / "run.safetensors", []
    state = train(small(), DATA, RECIPE, rng_label=ORDER, span=Span(stop=8)).state
    write_checkpoint(path, state, "another run")
    result = train(small(), DATA, RECIPE, rng_label=ORDER, resume=Resume(path, on_checkpoint_discarded=told.append))
    path.write_bytes(b"half a checkpoi")
    again = train(small(), DATA, RECIPE, rng_label=ORDER, resume=Resume(path, on_checkpoint_discarded=told.append))
    assert [line.partition("' ")[2] for line in told] == [
        "belongs to another run (recipe, data, order, mask or initial weights differ); it was set aside as "
        "'run.safetensors.damaged' and the run is started over",
        told[1].partition("' ")[2],
    ]
    assert "is damaged (" in told[1]
    assert told[1].endswith("it was set aside as 'run.safetensors.damaged' and the run is started over")
    assert (tmp_path / "run.safetensors.damaged").read_bytes() == b"half a checkpoi"
    for name, weight in result.weights.items():
        assert torch.equal(weight, again.weights[name])
    train(small(), DATA, RECIPE, rng_label=ORDER, resume=Resume(path, on_checkpoint_discarded=told.append))
    assert len(told) == 2


def test_evaluation_of_a_model_with_other_classes() -> None:
    with pytest.raises(
        TrainingError, match=r"output has shape \(500, 7\), but \(500, 10\) was expected: build it for 10"
    ):
        evaluate(build_model("mlp", classes=7), DATA)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parametrization": "signin"}, "unknown parametrization 'signin', did you mean 'sign-in'"),
        ({"parametrization_options": {"beta": 2.0}}, "parametrization 'plain' has no option 'beta'"),
        (
            {"parametrization": "sign-in", "parametrization_options": {"bta": 2.0}},
            "no option 'bta', did you mean 'beta'",
        ),
        (
            {"parametrization": "sign-in", "parametrization_options": {"beta": 0.0}},
            "beta of sign-in is 0.0, but it must",
        ),
        (
            {"parametrization": "sign-in", "parametrization_options": {"every": -1}},
            "every of sign-in is -1, but it must",
        ),
        ({"parametrization": "sign-in", "train": "math:sqrt"}, "use reticket.tickets.sign_in in that function"),
        ({"interpolate_norms": True, "train": "math:sqrt"}, "interpolate_norms is of this package's training, but"),
    ],
)
def test_a_parametrization_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Recipe(2, 16, 0.1, **changes)
