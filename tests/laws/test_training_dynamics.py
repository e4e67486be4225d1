"""Laws of dynamics in a training: counts, what comes begins at 0, and the same bits however the run is cut."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from reticket.errors import ConfigError
from reticket.models import build_model
from reticket.tasks.dynamics import ChangingMask
from reticket.tickets.dynamics import DYNAMICS, Updates
from reticket.training import Callback, Recipe, Resume, Span, TrainingRun, TrainResult, TrainState, train
from tests.ranks import Convolutions, data, mask_of

RECIPE = Recipe(epochs=5, batch_size=16, lr=0.05)  # of 4 steps each
OPTIONS = {"every": 4, "end": 0.75}
DENSITY = 0.2
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: build_model("mlp", in_features=192, hidden=(24,), classes=4),
    "dropout": lambda: Convolutions(0.3),
}


def changing(name: str, **options: Any) -> ChangingMask:
    own = {**DYNAMICS[name].options.settings({}), **OPTIONS, **options}
    return ChangingMask(DYNAMICS[name], own, DENSITY, ("B", 0, "order", 0, "dynamics"))


def trained(model: str, *callbacks: Callback, start: int = 0, **options: Any) -> TrainResult:
    made = MODELS[model]()
    options = {"span": Span(start), **options}
    return train(made, data(), RECIPE, rng_label=("masks", 0), mask=mask_of(made), callbacks=callbacks, **options)


class Watching(Callback):
    """Notes every mask, and that a weight that has just come is 0 as its velocity is."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[str, Tensor]] = {}
        self.before: dict[str, Tensor] = {}
        self.grown = 0

    def on_start(self, run: TrainingRun) -> None:
        self.before = run.mask

    def after_step(self, run: TrainingRun) -> None:
        now = run.mask
        if any(not torch.equal(now[name], kept) for name, kept in self.before.items()):
            self.seen[run.step - run.start] = now
        for name, kept in now.items():
            weight = run.model.get_parameter(name)
            assert weight.grad is not None
            new = kept & ~self.before[name]
            assert not weight.detach()[new].any()
            assert not weight.grad[new].any()  # the gradient's tensor holds the velocity
            self.grown += int(new.sum())
        self.before = now


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["set", "rigl", "srigl", "gradual"])
def test_a_mask_changes_when_it_is_time_and_what_comes_begins_at_0(name: str, model: str) -> None:
    watching, begun = Watching(), mask_of(MODELS[model]())
    result = trained(model, changing(name), watching, start=4)  # 16 steps, of which 12 change the mask
    assert list(watching.seen) == ([4, 8, 12] if name == "gradual" else [4, 8])
    assert (watching.grown > 0) == (name != "gradual")
    total = sum(int(kept.sum()) for kept in begun.values())
    for now in watching.seen.values():
        if name in ("set", "rigl"):
            assert {n: int(k.sum()) for n, k in now.items()} == {n: int(k.sum()) for n, k in begun.items()}
        if name == "srigl":
            assert all(len(set(kept.flatten(1).sum(1).tolist()) - {0}) == 1 for kept in now.values())
            assert 0.9 * total < sum(int(kept.sum()) for kept in now.values()) <= total
    if name == "gradual":
        masks = [begun, *watching.seen.values()]
        assert all(not bool((b[n] & ~a[n]).any()) for a, b in pairwise(masks) for n in b)
        size = sum(kept.numel() for kept in begun.values())
        assert sum(int(kept.sum()) for kept in result.mask.values()) == round(DENSITY * size)
    for key, kept in result.mask.items():
        assert not result.weights[key][~kept].any()


@pytest.mark.parametrize("name", ["set", "rigl", "srigl", "gradual"])
def test_a_run_that_is_cut_at_and_between_changes_gives_the_bits_of_a_whole_one(name: str) -> None:
    whole, state = trained("dropout", changing(name)).state, None
    for cut in (4, 7, 8, 15):
        part = trained("dropout", changing(name), span=Span(stop=cut), resume=Resume(state=state)).state
        state = TrainState.from_tensors(part.tensors(), part.metadata())
    assert_close(
        trained("dropout", changing(name), resume=Resume(state=state)).state.tensors(), whole.tensors(), rtol=0, atol=0
    )
    other = trained("dropout", changing(name, every=5)).state
    with pytest.raises(AssertionError):
        assert_close(other.tensors(), whole.tensors(), rtol=0, atol=0)


def test_each_change_draws_its_own_random_numbers() -> None:
    masks = []
    for label in ("one", "other", "one"):
        watching = Watching()
        own = {**DYNAMICS["set"].options.settings({}), **OPTIONS}
        trained("mlp", ChangingMask(DYNAMICS["set"], own, None, (label,)), watching)
        masks.append(watching.seen)
    assert_close(masks[0], masks[2])
    with pytest.raises(AssertionError):
        assert_close(masks[0], masks[1])


@pytest.mark.parametrize("length", [1, 10, 400, 32_000])
def test_changes_by_default_are_25_or_more_and_at_most_100_steps_apart(length: int) -> None:
    updates = Updates.of({"end": 0.75}, length)
    steps = [step for step in range(length + 1) if updates.progress(step)]
    assert updates.every <= 100
    assert len(steps) >= min(25, updates.last)
    assert steps[-1:] == [updates.last] * bool(updates.last)
    assert [updates.progress(step) for step in steps] == [step / updates.last for step in steps]


@pytest.mark.parametrize("name", ["set", "rigl", "srigl"])
def test_dynamics_that_revive_are_refused_where_entries_are_fixed(name: str) -> None:
    params: dict[str, Any] = {"in_features": 192, "hidden": (24,), "classes": 4}
    held, loose = (build_model("mlp", **params, asymmetric={"share": 0.3, "frozen": f}) for f in (True, False))
    with pytest.raises(ConfigError, match=f"dynamics '{name}' let pruned weights return, at 0, where a fixed entry"):
        train(held, data(), RECIPE, mask=mask_of(held), callbacks=[changing(name)])
    train(loose, data(), RECIPE, mask=mask_of(loose), callbacks=[changing(name)], span=Span(stop=1))
    train(held, data(), RECIPE, mask=mask_of(held), callbacks=[changing("gradual")], span=Span(stop=5))
