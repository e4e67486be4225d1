"""Laws of a mask that changes while a model trains: exact zeros, and the same bits however the run is cut or killed."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket.errors import ConfigError, MaskError, TrainingError
from reticket.models import build_model
from reticket.training import Callback, Recipe, Resume, Span, TrainingRun, TrainResult, TrainState, train
from reticket.training.snapshot import load_state, state_of
from reticket.training.state import read_checkpoint, write_checkpoint
from tests.ranks import Convolutions, RigL, data, mask_of

ORDER = ("masks", 0)
RECIPE = Recipe(epochs=5, batch_size=16, lr=0.05)  # of 4 steps each
TOTAL = 20
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: build_model("mlp", in_features=192, hidden=(24,), classes=4),
    "dropout": lambda: Convolutions(0.3),
    "batchnorm": lambda: build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4),
}


def trained(name: str, *callbacks: Callback, **options: Any) -> TrainResult:
    model = MODELS[name]()
    options = {"mask": mask_of(model), "callbacks": callbacks, **options}
    return train(model, data(), RECIPE, rng_label=ORDER, **options)


def same_bits(one: TrainState, other: TrainState) -> None:
    assert_close(one.tensors(), other.tensors(), rtol=0, atol=0)
    assert one.history == other.history


class Watching(Callback):
    """Notes the mask after each step, and that what it masks is 0 there."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def after_step(self, run: TrainingRun) -> None:
        self.seen.append(run.mask)
        for name, kept in run.mask.items():
            weight = run.model.get_parameter(name)
            assert weight.grad is not None
            for tensor in (weight.detach(), weight.grad):  # the gradient's tensor holds the velocity
                assert not tensor[~kept].any()
                assert not torch.signbit(tensor[~kept]).any()


@pytest.mark.parametrize("name", MODELS)
def test_a_changing_mask_keeps_its_count_and_exact_zeros(name: str) -> None:
    watching, begun = Watching(), mask_of(MODELS[name]())
    result = trained(name, RigL(), watching)
    assert len(watching.seen) == TOTAL
    for key, kept in begun.items():
        assert {int(mask[key].sum()) for mask in watching.seen} == {int(kept.sum())}
        changes = sum(not torch.equal(a[key], b[key]) for a, b in zip(watching.seen, watching.seen[1:], strict=False))
        assert changes == 6  # after steps 3, 6, ..., 18
        assert torch.equal(result.mask[key], watching.seen[-1][key])
        assert not result.weights[key][~result.mask[key]].any()
        grown = result.mask[key] & ~kept
        assert result.weights[key][grown].count_nonzero() == grown.sum()


@pytest.mark.parametrize("name", MODELS)
def test_a_run_with_a_changing_mask_cut_anywhere_gives_the_bits_of_a_whole_one(name: str) -> None:
    whole, state = trained(name, RigL()).state, None
    for cut in (3, 4, 8, 10):  # at a change, at an epoch's end, between
        part = trained(name, RigL(), span=Span(stop=cut), resume=Resume(state=state)).state
        state = TrainState.from_tensors(part.tensors(), part.metadata())
    assert state is not None
    same_bits(trained(name, RigL(), resume=Resume(state=state)).state, whole)
    with pytest.raises(AssertionError):  # the state needs its mask
        same_bits(trained(name, RigL(), resume=Resume(state=replace(state, mask={}))).state, whole)


KILLED = """
import os, signal, sys, torch
import reticket.training.resume as resuming
from reticket.training import Resume, train
from tests.laws.test_training_masks import MODELS, ORDER, RECIPE
from tests.ranks import RigL, data, mask_of
torch.set_num_threads(1)
write, left = resuming.write_checkpoint, int(sys.argv[2])
def writes_and_dies(*arguments):
    global left
    write(*arguments)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
resuming.write_checkpoint = writes_and_dies
model = MODELS["dropout"]()
train(model, data(), RECIPE, rng_label=ORDER, mask=mask_of(model), callbacks=[RigL()], resume=Resume(sys.argv[1], 0.0))
"""


@pytest.mark.slow
def test_killed_and_started_again_with_a_changed_mask(tmp_path: Path) -> None:
    """Killed right after step 9, in which the mask changed, was written."""
    path = tmp_path / "run.safetensors"
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), "9"], check=False, cwd=root)
    assert killed.returncode == -signal.SIGKILL
    watching = Watching()
    resumed = trained("dropout", RigL(), watching, resume=Resume(path, 0.0))
    assert len(watching.seen) == TOTAL - 9
    whole = trained("dropout", RigL())
    same_bits(resumed.state, whole.state)
    cut = trained("dropout", RigL(), span=Span(stop=9)).state
    begun = mask_of(MODELS["dropout"]())
    assert all(not torch.equal(cut.mask[name], kept) for name, kept in begun.items())


class Gradients(Callback):
    """Asks for the dense gradient after every step, and changes nothing."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def after_step(self, run: TrainingRun) -> None:
        self.seen.append(run.dense_gradient())


@pytest.mark.parametrize("name", MODELS)
def test_asking_for_the_dense_gradient_changes_nothing(name: str) -> None:
    """Not the statistics of BatchNorm, what dropout draws, the velocity, nor the data to come."""
    gradients = Gradients()
    same_bits(trained(name, gradients).state, trained(name).state)
    assert len(gradients.seen) == TOTAL


@pytest.mark.parametrize("name", ["mlp", "batchnorm"])
def test_the_dense_gradient_is_that_of_the_next_batch_at_masked_weights_too(name: str) -> None:
    """Against autograd on a model of one's own, whose masked weights are 0 and not held."""
    model = MODELS[name]().double()
    mask, images = mask_of(model), data()
    run = TrainingRun(model, images, RECIPE, rng_label=ORDER, mask=mask)
    run.go(6)
    found = run.dense_gradient()
    plain = MODELS[name]().double()
    plain.load_state_dict(run.model.state_dict())
    x, y = list(run.batches.epoch(1))[2]
    F.cross_entropy(plain(x), y).backward()
    for key, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert_close(found[key], parameter.grad, rtol=1e-9, atol=1e-12)
    assert all(found[key][~kept].any() for key, kept in mask.items())
    velocity = run.model.get_parameter(next(iter(mask))).grad
    assert velocity is not None
    assert not torch.equal(found[next(iter(mask))], velocity)


def test_the_dense_gradient_is_taken_in_parts_where_the_batch_is() -> None:
    model = MODELS["mlp"]().double()
    runs = [
        TrainingRun(model, data(), replace(RECIPE, accumulate=parts), rng_label=ORDER, mask=mask_of(model))
        for parts in (1, 3)
    ]
    step, sizes = runs[1].update, list[int]()
    once = step.loss_and_gradient

    def counted(x: Tensor, y: Tensor, n: int) -> Tensor:
        sizes.append(len(x))
        return once(x, y, n)

    step.loss_and_gradient = counted
    whole, parted = (run.dense_gradient() for run in runs)
    assert len(sizes) == 3
    for key, slope in whole.items():
        assert_close(parted[key], slope, rtol=1e-9, atol=1e-12)


class Begins(Callback):
    """Sets a mask at a step, of a run that may have had none."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_step(self, run: TrainingRun) -> None:
        if run.step == self.at:
            run.set_mask(mask_of(run.model))


def recorder(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
    """Warm up as a CUDA graph does, and replay by doing the work again."""
    work()
    undo()
    return work


def test_what_is_recorded_reads_the_mask_where_it_stays() -> None:
    """A recording goes on reading the same tensor; one that was made without a mask is made anew."""
    recorded: list[int] = []

    def counting(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        recorded.append(run.step)
        return recorder(work, undo)

    for callback, mask, steps in ((Begins(6), None, [0, 3, 6, 7]), (RigL(), mask_of(MODELS["mlp"]()), [0, 3])):
        run = TrainingRun(
            MODELS["mlp"](), data(), RECIPE, rng_label=ORDER, mask=mask, record=counting, callbacks=[callback]
        )
        before = run.parameters.keep
        run.go(TOTAL)
        assert recorded == steps
        assert before is None or before is run.parameters.keep
        recorded.clear()


@pytest.mark.parametrize("callback", [Begins(6), RigL()], ids=["begins", "changes"])
def test_recorded_steps_follow_the_mask(callback: Callback) -> None:
    states = []
    for record in (None, recorder):
        model = MODELS["batchnorm"]()
        mask = None if isinstance(callback, Begins) else mask_of(model)
        options: dict[str, Any] = {"mask": mask, "callbacks": [callback, Watching()], "record": record}
        run = TrainingRun(model, data(), RECIPE, rng_label=ORDER, **options)
        run.go(TOTAL)
        states.append(state_of(run))
    assert states[1].mask.keys() == mask_of(MODELS["batchnorm"]()).keys()
    assert_close(dict(states[1].mask), dict(states[0].mask), rtol=0, atol=0)
    assert_close(dict(states[1].weights), dict(states[0].weights), rtol=1e-6, atol=1e-6)


def test_a_run_goes_on_with_the_mask_that_began_in_it() -> None:
    """The run is called without a mask; what continues it has the one of the state."""
    whole = trained("dropout", Begins(6), mask=None).state
    part = trained("dropout", Begins(6), mask=None, span=Span(stop=9)).state
    same_bits(trained("dropout", Begins(6), mask=None, resume=Resume(state=part)).state, whole)
    assert not whole.weights["fc.weight"][~whole.mask["fc.weight"]].any()


def test_a_state_without_a_mask_is_held_by_that_of_the_run() -> None:
    dense = trained("mlp", mask=None, span=Span(stop=6)).state
    assert dense.mask == {}
    assert not any(name.startswith("mask/") for name in dense.tensors())
    result = trained("mlp", Watching(), resume=Resume(state=dense))
    for name, kept in mask_of(MODELS["mlp"]()).items():
        assert not result.weights[name][~kept].any()


def test_a_mask_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    run = TrainingRun(MODELS["mlp"](), data(), RECIPE, rng_label=ORDER)
    with pytest.raises(MaskError, match="the mask names 'other', which is no trainable parameter"):
        run.set_mask({"other": torch.ones(2, dtype=torch.bool)})
    state, name = trained("mlp", span=Span(stop=2)).state, "layers.0.weight"
    other = replace(state, mask={name: torch.ones(24, 3, dtype=torch.bool)})
    with pytest.raises(ConfigError, match=rf"'{name}' has shape \(24, 3\) of bool there and shape \(24, 192\) of bool"):
        load_state(run, other)
    with pytest.raises(ConfigError, match="'other' has shape"):
        load_state(run, replace(state, mask={"other": torch.ones(2, dtype=torch.bool)}))
    path = tmp_path / "run.safetensors"
    for wrong in (~state.mask[name], state.mask[name].float(), torch.ones(2, dtype=torch.bool)):
        write_checkpoint(path, replace(state, mask={name: wrong}), "run")
        with pytest.raises(TrainingError, match=f"the mask of '{name}' is not the one that its weight was held by"):
            read_checkpoint(path, "run")
