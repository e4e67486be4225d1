"""Steps recorded as CUDA graphs: nothing is read in an epoch, dropout goes on drawing, a failure leaves no trace."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reticket.data import Dataset
from reticket.training import Callback, Notices, Placement, Recipe, Resume, Span, TrainingRun
from reticket.training.graphs import RecordingError, cuda_graph
from tests.cuda.cases import (
    MODELS,
    ORDER,
    RECIPE,
    images,
    nothing_read,
    recorder,
    same_bits,
    trained,
    zeros_kept,
)
from tests.ranks import RigL, mask_of

pytestmark = pytest.mark.cuda

UNRECORDABLE = ("curious", "curious and drawing", "waiting", "waiting and drawing")


class Ticks(Callback):
    """Notes each step that it hears of."""

    def __init__(self, ticks: list[int]) -> None:
        self.ticks = ticks

    def after_step(self, run: TrainingRun) -> None:
        self.ticks.append(run.step)


def run_of(name: str, device: str, *, graphs: bool) -> TrainingRun:
    model, where = MODELS[name](), Placement(device, graphs=graphs)
    record = (cuda_graph if device == "cuda" else recorder) if graphs else None
    return TrainingRun(model, images(), RECIPE, rng_label=ORDER, mask=mask_of(model), where=where, record=record)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", ["conv-small", "dropout", "mlp", "resnet20"])
def test_the_host_reads_nothing_within_an_epoch(name: str, graphs: bool, device: str) -> None:
    """From the second epoch on, its beginning included; in the first, libraries are loaded and steps recorded."""
    run = run_of(name, device, graphs=graphs)
    run.steps_within_epoch(0, 4)
    run.mean_loss()
    run.losses = []
    ticks: list[int] = []
    run.add_callbacks([Ticks(ticks)])
    with nothing_read(device):
        run.steps_within_epoch(1, 8)
    assert ticks == [5, 6, 7]
    assert run.step == 8
    with nothing_read(device), pytest.raises(RuntimeError, match="called a synchronizing"):
        run.mean_loss()
    assert run.mean_loss() > 0
    run.close()


def test_a_model_that_reads_is_seen(device: str) -> None:
    run = run_of("curious", device, graphs=False)
    run.steps_within_epoch(0, 4)
    with nothing_read(device), pytest.raises(RuntimeError, match="called a synchronizing"):
        run.steps_within_epoch(1, 8)


def test_dropout_gives_the_bits_of_single_operations(device: str) -> None:
    model = MODELS["dropout"]()
    one, two, eager = (trained(model, device, graphs=graphs) for graphs in (True, True, False))
    same_bits(one, two)
    same_bits(one, eager)
    other = trained(model, device, graphs=True, rng_label=("cuda", 1))
    with pytest.raises(AssertionError, match="not equal"):
        same_bits(one, other)


class Begins(Callback):
    """Sets a mask after a step of a run that had none."""

    def after_step(self, run: TrainingRun) -> None:
        if run.step == 6:
            run.set_mask(mask_of(run.original))


@pytest.mark.parametrize("callback", [RigL(), Begins()], ids=["changes", "begins"])
@pytest.mark.parametrize("name", ["conv-small", "dropout", "mlp"])
def test_a_mask_that_changes_gives_the_bits_of_single_operations(name: str, callback: Callback, device: str) -> None:
    model = MODELS[name]()
    options: dict[str, Any] = {"mask": mask_of(model) if isinstance(callback, RigL) else None, "callbacks": [callback]}
    recorded, eager = (trained(model, device, graphs=graphs, **options) for graphs in (True, False))
    plain = trained(model, device, graphs=True, mask=options["mask"])
    same_bits(recorded, eager)
    zeros_kept(recorded.weights, recorded.mask)
    with pytest.raises(AssertionError):
        same_bits(recorded, plain)
    part = trained(model, device, graphs=True, span=Span(stop=10), **options)
    same_bits(trained(model, device, graphs=True, resume=Resume(state=part.state), **options), recorded)


def still_losses(name: str, device: str) -> Tensor:
    """Return the losses of steps that differ in nothing but what the model draws: equal inputs, weights that stay."""
    some = images(n=64)
    data = Dataset(
        "still", some.train_x[:1].repeat(64, 1, 1, 1), torch.zeros(64, dtype=torch.int64), some.test_x, some.test_y,
        some.classes, some.mean, some.std,
    )  # fmt: skip
    recipe = Recipe(epochs=3, batch_size=8, lr=1e-30, momentum=0.0, weight_decay=0.0, schedule="constant")
    result = trained(MODELS[name](), device, recipe, graphs=True, data=data, span=Span(stop=8 + 7))
    assert len(result.state.epoch_losses) == 7
    return result.state.epoch_losses


def test_recorded_dropout_draws_anew_at_every_step(device: str) -> None:
    assert len(still_losses("dropout", device).unique()) == 7
    assert len(still_losses("mlp", device).unique()) == 1, "nothing else differs from step to step"


@pytest.mark.parametrize("name", UNRECORDABLE)
def test_what_cannot_be_recorded_is_done_operation_by_operation(name: str, device: str) -> None:
    model, told = MODELS[name](), list[str]()
    eager = trained(model, device, graphs=False)
    if device == "cuda":
        same_bits(trained(model, device, graphs=None, callbacks=[Notices(told.append)]), eager)
        assert len(told) == 1
        assert told[0].startswith("a training step cannot be recorded (")
        assert told[0].endswith("; it is done operation by operation instead")
    with pytest.raises(RecordingError, match=r"a training step cannot be recorded \(.+\); train with graphs=False"):
        trained(model, device, graphs=True)
    same_bits(trained(model, device, graphs=False), eager)


@pytest.mark.parametrize("failing", UNRECORDABLE)
@pytest.mark.parametrize("name", ["dropout", "conv-small"])
def test_after_a_failure_others_are_recorded_as_before(name: str, failing: str, device: str) -> None:
    whole = trained(MODELS[name](), device, graphs=True)
    for _ in range(2):
        with pytest.raises(RecordingError):
            trained(MODELS[failing](), device, graphs=True)
        same_bits(trained(MODELS[name](), device, graphs=True), whole)
        same_bits(trained(MODELS[name](), device, graphs=False), whole)


def test_memory_does_not_grow_with_the_recordings(device: str) -> None:
    if device != "cuda":
        recipe = replace(RECIPE, epochs=1)
        trained(MODELS["conv-small"](), device, recipe, graphs=True)
        return
    reserved: list[int] = []
    for seed in range(8):
        name = ("conv-small", "resnet20")[seed % 2]
        trained(
            MODELS[name](), device, replace(RECIPE, epochs=1), graphs=True, data=images(side=32), rng_label=("m", seed)
        )
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[7] - reserved[2] < 64 * 2**20, [size // 2**20 for size in reserved]
