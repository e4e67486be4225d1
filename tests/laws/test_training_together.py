"""Laws of several processes that train one model: what one process gives, whoever stops, resumes or is killed."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from reticket.errors import TrainingError
from reticket.ranks import Ranks
from reticket.training import Resume, Span, TrainState, train
from reticket.training.state import read_checkpoint
from reticket.training.synchronised import SharedBatchNorm, synchronise
from tests.ranks import CASES, DIES, ORDER, callbacks_of, data, launch, mask_of

EXACT = ("convolutions", "mlp")
BEGUN = ("convolutions", "changing", "adamw")  # by one process
TOLERANCE = {"adamw": 1e-5}  # which divides by small numbers; of weights after 20 steps, else 1e-6


def state_of(folder: Path, name: str, rank: int = 0) -> TrainState:
    state = read_checkpoint(folder / f"{name}.rank{rank}", name)
    assert state is not None
    return state


def by_one(name: str, stop: int | None = None, state: TrainState | None = None) -> TrainState:
    build, recipe = CASES[name]
    model = build()
    options: dict[str, Any] = {"mask": mask_of(model), "span": Span(stop=stop), "resume": Resume(state=state)}
    return train(model, data(), recipe, rng_label=ORDER, callbacks=callbacks_of(name), **options).state


def run(*orders: str) -> None:
    processes = launch(2, "30", *orders)
    errors = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def close(one: Mapping[str, Tensor], two: Mapping[str, Tensor], tolerance: float) -> None:
    assert_close(dict(one), dict(two), rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that two processes do undisturbed, in one launch, because a launch costs more than the training."""
    folder = tmp_path_factory.mktemp("together")
    for name in BEGUN:
        build, recipe = CASES[name]
        model, every = build(), Resume(folder / "back" / f"{name}.checkpoint", seconds=0.0)
        options: dict[str, Any] = {"mask": mask_of(model), "span": Span(stop=9), "resume": every}
        train(model, data(), recipe, rng_label=ORDER, callbacks=callbacks_of(name), **options)
    (folder / "cut").mkdir()
    whole = [f"{name}:{folder}" for name in CASES]
    run(*whole, *(f"{name}:{folder / 'cut'}:9" for name in EXACT), *(f"{name}:{folder / 'back'}" for name in BEGUN))
    return folder


@pytest.mark.parametrize("name", ["convolutions", "mlp", "batchnorm", "interpolated", "adamw"])
def test_two_processes_give_what_one_gives(name: str, trained: Path) -> None:
    """20 steps in float32, with a mask, augmentation and a last batch of 5 that two processes cannot share evenly."""
    one, two = by_one(name), state_of(trained, name)
    assert two.step == 20
    close(two.weights, one.weights, TOLERANCE.get(name, 1e-6))
    close(two.momentum, one.momentum, 1e-6 if name in EXACT else 1e-5)
    assert [r.step for r in two.history] == [4, 8, 12, 16, 20]
    assert [r.loss for r in two.history] == pytest.approx([r.loss for r in one.history], abs=1e-6)
    for key, kept in mask_of(CASES[name][0]()).items():
        assert not two.weights[key][~kept].any()


@pytest.mark.parametrize("name", ["convolutions", "changing", "batchnorm", "interpolated", "dropout", "adamw"])
def test_every_process_holds_the_same_bits(name: str, trained: Path) -> None:
    one, two = (state_of(trained, name, rank) for rank in (0, 1))
    close(one.weights, two.weights, 0)
    assert not torch.equal(one.rng["cpu"], one.rng["cpu:1"]) or name != "dropout"


def test_a_mean_of_means_would_be_seen(trained: Path) -> None:
    """The proof that the first law can fail: parts of 2 and 3 weighted alike are another gradient."""
    model, (build, recipe) = CASES["convolutions"][0](), CASES["convolutions"]
    images = data()
    kept = [i for i in range(len(images.train_y)) if i != 7]  # an even last batch, which is another run
    other = train(build(), images.with_train_subset(torch.tensor(kept)), recipe, rng_label=ORDER, mask=mask_of(model))
    with pytest.raises(AssertionError):
        close(state_of(trained, "convolutions").weights, other.weights, 1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_one_process_goes_on_from_the_state_of_two(name: str, trained: Path) -> None:
    state = state_of(trained / "cut", name)
    assert state.step == 9
    close(by_one(name, state=state).weights, by_one(name).weights, 1e-6)


@pytest.mark.parametrize("name", BEGUN)
def test_two_processes_go_on_from_the_checkpoint_of_one(name: str, trained: Path) -> None:
    state, whole = state_of(trained / "back", name), by_one(name)
    close(state.weights, whole.weights, TOLERANCE.get(name, 1e-6))
    assert [r.loss for r in state.history] == pytest.approx([r.loss for r in whole.history], abs=1e-6)
    close(state.mask, whole.mask, 0)


def test_a_mask_that_changes_is_that_of_one_process_in_all(trained: Path) -> None:
    """Dense gradients are those of the whole batch; the mask has changed six times, and all processes hold it."""
    one, first, second = by_one("changing"), *(state_of(trained, "changing", rank) for rank in (0, 1))
    close(first.weights, one.weights, 1e-6)
    for state in (first, second, state_of(trained / "back", "changing", 1)):
        close(state.mask, one.mask, 0)
    begun = mask_of(CASES["changing"][0]())
    assert all(not torch.equal(begun[name], kept) for name, kept in one.mask.items())


@pytest.mark.slow
def test_one_is_killed_and_both_go_on_to_the_same_bits(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(DIES, "1")
        first, second = launch(2, "0", f"long:{tmp_path}")
    error = first.communicate(timeout=900)[1]
    second.communicate()
    assert (first.returncode, second.returncode) == (1, -signal.SIGKILL)
    assert (tmp_path / "long.checkpoint").exists()
    assert "lost touch with another one" in error
    assert "start them again" in error
    assert not (tmp_path / "long.rank0").exists()
    run(f"long:{tmp_path}")
    resumed, straight = state_of(tmp_path, "long"), state_of(trained, "long")
    close(resumed.weights, straight.weights, 0)
    assert resumed.history == straight.history


class OwnNorm(nn.BatchNorm2d):
    pass


def test_a_batchnorm_with_rules_of_its_own_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), OwnNorm(4))
    with pytest.raises(
        TrainingError, match=r"'1' is a OwnNorm, .* over 2 processes are not known; train this model in"
    ):
        synchronise(model, Ranks(0, 2))


@pytest.mark.parametrize("affine", [True, False])
def test_the_shared_batchnorm_of_one_process_is_torchs(affine: bool) -> None:
    """Values, gradients and running statistics, in float64."""
    x = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    seen = []
    for shared in (False, True):
        norm: nn.Module = nn.BatchNorm1d(3, affine=affine, momentum=0.3).double()
        if shared:
            norm = SharedBatchNorm(norm, Ranks())  # type: ignore[arg-type]
        y = norm(x)
        (gradient,) = torch.autograd.grad(y.pow(3).sum(), x)
        seen.append((y, gradient, dict(norm.state_dict())))
    assert_close(seen[1], seen[0], rtol=1e-12, atol=1e-12)
