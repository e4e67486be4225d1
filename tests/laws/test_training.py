"""Laws of training: exact masks, the same bits however a run is cut, and nothing outside the run changes."""

import copy
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from reticket.data import Dataset, load_dataset
from reticket.errors import TrainingError
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.training import (
    Notices,
    Progress,
    Recipe,
    ReportProgress,
    Resume,
    Span,
    TrainingRun,
    TrainState,
    steps_per_epoch,
    train,
)
from reticket.training.flat import FlatParameters
from reticket.training.resume import fingerprint, read_or_discard
from reticket.training.sgd import SGD
from reticket.training.state import read_checkpoint, write_checkpoint

ORDER = ("laws", 0)


def images() -> Dataset:
    generator = generator_for("laws", "images")
    x = torch.randint(256, (50, 3, 8, 8), generator=generator, dtype=torch.uint8)
    y = torch.arange(50) % 4
    return Dataset("noise", x, y, x[:8], y[:8], tuple("abcd"), (0.5,) * 3, (0.25,) * 3, augmentation="flip-crop")


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.dropout(x))


RECIPE = Recipe(epochs=4, batch_size=16, lr=0.05)
TOTAL = 4 * steps_per_epoch(50, 16)


def random_mask(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.rand(p.shape, generator=generator_for(name)) < 0.2
        for name, p in model.named_parameters()
        if p.dim() > 1
    }


def same_bits(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert_close(dict(one), dict(two), rtol=0, atol=0)


@pytest.mark.parametrize("cuts", [(3,), (4,), (1, 6, 13), (TOTAL,)])
def test_a_run_cut_anywhere_gives_the_bits_of_a_whole_one(cuts: tuple[int, ...]) -> None:
    model, data = WithDropout(), images()
    mask = random_mask(model)
    whole = train(model, data, RECIPE, rng_label=ORDER, mask=mask)
    state = None
    for cut in cuts:
        part = train(model, data, RECIPE, rng_label=ORDER, mask=mask, span=Span(stop=cut), resume=Resume(state=state))
        assert part.state.step == cut
        state = TrainState.from_tensors(part.state.tensors(), part.state.metadata())
    continued = train(model, data, RECIPE, rng_label=ORDER, mask=mask, resume=Resume(state=state))
    same_bits(continued.weights, whole.weights)
    same_bits(continued.state.momentum, whole.state.momentum)
    assert continued.history == whole.history
    assert (continued.steps, continued.epochs) == (TOTAL, 4.0)


@pytest.mark.parametrize("lost", ["momentum", "rng"])
def test_continuing_needs_all_of_the_state(lost: str) -> None:
    """The proof that the law above can fail: without momentum or generator state the bits differ."""
    model, data = WithDropout(), images()
    whole = train(model, data, RECIPE, rng_label=ORDER)
    state = train(model, data, RECIPE, rng_label=ORDER, span=Span(stop=6)).state
    if lost == "momentum":
        state = replace(state, momentum={name: torch.zeros_like(v) for name, v in state.momentum.items()})
    else:
        state = replace(state, rng={"cpu": generator_for("other").get_state()})
    continued = train(model, data, RECIPE, rng_label=ORDER, resume=Resume(state=state))
    with pytest.raises(AssertionError):
        same_bits(continued.weights, whole.weights)


def test_the_rewind_point_itself_is_the_initialisation_or_the_snapshot() -> None:
    model, data = WithDropout(), images()
    same_bits(train(model, data, RECIPE, rng_label=ORDER, span=Span(stop=0)).weights, model.state_dict())
    end = train(model, data, RECIPE, rng_label=ORDER, span=Span(TOTAL))
    same_bits(end.weights, model.state_dict())
    assert (end.steps, end.history) == (0, ())


def test_data_order_begins_at_the_start_step() -> None:
    """With a constant rate and no momentum a run from k with the weights at k repeats the rest of the whole run."""
    data = load_dataset("digits", train_size=70)
    recipe = Recipe(epochs=3, batch_size=16, lr=0.05, momentum=0.0, schedule="constant")
    model = build_model("mlp", hidden=(16,))
    whole = train(model, data, recipe, rng_label=ORDER)
    rewound = copy.deepcopy(model)
    rewound.load_state_dict(dict(train(model, data, recipe, rng_label=ORDER, span=Span(stop=7)).weights))
    same_bits(train(rewound, data, recipe, rng_label=ORDER, span=Span(7)).weights, whole.weights)
    for other in (
        train(rewound, data, recipe, rng_label=ORDER, span=Span(8)),
        train(rewound, data, recipe, rng_label=("x",), span=Span(7)),
    ):
        with pytest.raises(AssertionError):
            same_bits(other.weights, whole.weights)


def test_order_decides_and_nothing_outside_changes() -> None:
    model, data = WithDropout(), images()
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    model.eval()
    one = train(model, data, RECIPE, rng_label=ORDER)
    torch.manual_seed(123)
    two = train(model, data, RECIPE, rng_label=ORDER)
    torch.set_rng_state(rng)
    other = train(model, data, RECIPE, rng_label=("laws", 1))
    same_bits(one.weights, two.weights)
    assert not torch.equal(one.weights["body.fc.weight"], other.weights["body.fc.weight"])
    same_bits(model.state_dict(), before)
    assert torch.equal(rng, torch.get_rng_state())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masked_weights_are_exactly_zero_after_every_step(dtype: torch.dtype) -> None:
    model = build_model("mlp", hidden=(16,)).to(dtype)
    mask, data, recipe = random_mask(model), load_dataset("digits", train_size=70), replace(RECIPE, lr=0.5)
    state = None
    for stop in range(1, 16):
        part, resume = Span(stop=stop), Resume(state=state)
        state = train(model, data, recipe, rng_label=ORDER, mask=mask, span=part, resume=resume).state
        for name, kept in mask.items():
            for tensor in (state.weights[name], state.momentum[name]):
                assert not tensor[~kept].any()
                assert not torch.signbit(tensor[~kept]).any()
            assert state.weights[name][kept].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_mask_holds_against_any_gradient_where_a_product_does_not(bad: float) -> None:
    model = build_model("mlp", in_features=3, hidden=(), classes=2)
    kept = torch.tensor([[True, False, True], [False, True, True]])
    flat = FlatParameters(model, {"layers.0.weight": kept}, channels_last=False)
    weight = model.get_parameter("layers.0.weight")
    assert weight.grad is not None
    gradient = torch.ones(2, 3).masked_fill(~kept, bad)
    product = gradient * kept
    sgd = SGD(flat, 0.9, 5e-4)
    sgd.before_backward()
    weight.grad.add_(gradient)
    sgd.after_backward(0.1)
    assert weight.detach().isfinite().all()
    assert not weight.detach()[~kept].any()
    assert not product.isfinite().all()


def test_progress_is_told_in_order_and_at_the_end() -> None:
    told: list[Progress] = []
    train(
        build_model("mlp", hidden=(8,)),
        load_dataset("digits", train_size=70),
        RECIPE,
        rng_label=ORDER,
        callbacks=[ReportProgress(told.append, seconds=0.0)],
    )
    assert [p.step for p in told] == sorted(p.step for p in told)
    assert told[-1].step == told[-1].stop == 20
    assert told[-1].epochs == 4
    assert told[-1].loss is not None
    assert told[0].lr == RECIPE.lr


class InterruptionError(Exception):
    """Stands for anything that ends a run."""


def test_a_checkpoint_resumes_to_the_same_bits(tmp_path: Path) -> None:
    model, data, path = WithDropout(), images(), tmp_path / "sub" / "run.safetensors"
    whole = train(model, data, RECIPE, rng_label=ORDER)
    seen = []

    def interrupt(at: Progress) -> None:
        seen.append(at.step)
        if at.step in (2, 5, 11) and at.step not in seen[:-1]:
            raise InterruptionError

    callbacks = [ReportProgress(interrupt, seconds=0.0)]
    for _ in range(3):
        with pytest.raises(InterruptionError):
            train(model, data, RECIPE, rng_label=ORDER, resume=Resume(path, 0.0), callbacks=callbacks)
    assert path.exists()
    resumed = train(model, data, RECIPE, rng_label=ORDER, resume=Resume(path, 0.0))
    same_bits(resumed.weights, whole.weights)
    assert resumed.history == whole.history
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again = train(model, data, RECIPE, rng_label=ORDER, resume=Resume(path))
    same_bits(again.weights, whole.weights)
    assert again.steps == TOTAL


def test_a_short_run_writes_no_checkpoint(tmp_path: Path) -> None:
    train(WithDropout(), images(), RECIPE, rng_label=ORDER, resume=Resume(tmp_path / "run.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_state_survives_the_file(tmp_path: Path) -> None:
    state = train(WithDropout(), images(), RECIPE, rng_label=ORDER, span=Span(stop=6)).state
    write_checkpoint(tmp_path / "a.safetensors", state, "run")
    found = read_checkpoint(tmp_path / "a.safetensors", "run")
    assert found is not None
    same_bits(found.tensors(), state.tensors())
    assert found.metadata() == state.metadata()
    assert read_checkpoint(tmp_path / "b.safetensors", "run") is None


KILLED = """
import os, signal, sys, torch
from pathlib import Path
import reticket.training.resume as resuming
from reticket.data import Dataset
from reticket.models import build_model
from reticket.training import Recipe, Resume, train
torch.set_num_threads(1)
write, left = resuming.write_checkpoint, int(sys.argv[3])
def writes_and_dies(*arguments):
    global left
    write(*arguments)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
resuming.write_checkpoint = writes_and_dies
x, y = torch.arange(9600).view(150, 64) % 17 / 17.0, torch.arange(150) % 10
data = Dataset("made", x, y, x, y, tuple("0123456789"), mean=(0.5,), std=(0.3,))
result = train(build_model("mlp", hidden=(16,)), data, Recipe(epochs=6, batch_size=16, lr=0.05), rng_label=("killed",),
               resume=Resume(Path(sys.argv[1]), 0.0))
torch.save(dict(result.weights), sys.argv[2])
"""


@pytest.mark.slow
def test_kill_9_and_start_again(tmp_path: Path) -> None:
    path, out = tmp_path / "run.safetensors", tmp_path / "weights.pt"
    command = [sys.executable, "-c", KILLED, str(path), str(out)]
    for writes in (1, 17):
        assert subprocess.run([*command, f"{writes}"], check=False).returncode == -signal.SIGKILL
        assert path.exists()
        assert not out.exists()
    subprocess.run([*command, "0"], check=True)
    x, y = torch.arange(9600).view(150, 64) % 17 / 17.0, torch.arange(150) % 10
    data = Dataset("made", x, y, x, y, tuple("0123456789"), mean=(0.5,), std=(0.3,))
    recipe = Recipe(epochs=6, batch_size=16, lr=0.05)
    whole = train(build_model("mlp", hidden=(16,)), data, recipe, rng_label=("killed",))
    same_bits(torch.load(out, weights_only=True), whole.weights)


def test_training_learns_the_digits() -> None:
    from reticket.training import evaluate

    data = load_dataset("digits")
    model = build_model("mlp")
    result = train(model, data, Recipe(epochs=8, batch_size=64, lr=0.1), rng_label=ORDER)
    assert evaluate(model, data, weights=result.weights).accuracy > 95
    assert result.history[-1].loss < result.history[0].loss
    assert result.epochs == 8


def small_run(model: nn.Module | None = None) -> TrainingRun:
    return TrainingRun(model or WithDropout(), images(), RECIPE, rng_label=ORDER)


def small_state() -> TrainState:
    weights, momentum = {"w": torch.randn(5, 4), "b": torch.randn(5)}, {"w": torch.randn(5, 4), "b": torch.zeros(5)}
    return TrainState(
        {**weights, "count": torch.tensor(3)}, momentum, {"cpu": torch.get_rng_state()}, torch.ones(3), 7, 2
    )


def no_flip_is_taken(path: Path, read: Callable[[], object]) -> None:
    """The law itself: whichever bit of a file is flipped, it is not read as a state."""
    good = path.read_bytes()
    header = int.from_bytes(good[:8], "little") + 8
    draw = random.Random(0)
    places = [*range(header), *(draw.randrange(header, len(good)) for _ in range(200))]
    taken = 0
    for at in places:
        damaged = bytearray(good)
        damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with suppress(TrainingError):
            taken += read() is not None
    assert taken == 0


def test_no_flipped_bit_of_a_checkpoint_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    write_checkpoint(path, small_state(), "run")
    no_flip_is_taken(path, lambda: read_checkpoint(path, "run"))
    write_checkpoint(path, small_state(), "run")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(TrainingError, match="does not match its checksum"):
        read_checkpoint(path, "run")


@pytest.mark.parametrize("name", ["format", "sha256", "run", "state"])
@pytest.mark.parametrize("value", [True, None, 10**30, [], {}])
def test_a_header_that_holds_no_text_is_damage(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    write_checkpoint(path, small_state(), "run")
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"][name] = value
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(TrainingError, match=r"is damaged \(its header is another\); delete it"):
        read_checkpoint(path, "run")


def test_the_law_of_checkpoints_can_fail(tmp_path: Path) -> None:
    """safetensors alone, without a checksum, takes most flips."""
    path = tmp_path / "run.safetensors"
    write_checkpoint(path, small_state(), "run")

    def without_checksum() -> object:
        try:
            return load(path.read_bytes())
        except Exception as error:
            raise TrainingError(str(error)) from error

    with pytest.raises(AssertionError):
        no_flip_is_taken(path, without_checksum)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": {"w": torch.full((5, 4), torch.nan)}}, "'w' holds values that are not finite"),
        ({"momentum": {"w": torch.full((5, 4), torch.inf)}}, "'w' holds values that are not finite"),
        (
            {"momentum": {"w": torch.zeros(4, 5)}},
            r"velocity of 'w' has shape \(4, 5\), but its weight has shape \(5, 4\)",
        ),
        ({"momentum": {"v": torch.zeros(4)}}, r"velocity of 'v' has shape \(4,\), but there is no such weight"),
        ({"epoch_losses": torch.tensor([0.3, torch.nan])}, "its losses are not finite numbers"),
        ({"rng": {"cpu": torch.zeros(3)}}, "generators' states are not rows of bytes"),
        ({"step": 1}, "at step 1 of a run from step 2"),
        ({"seconds": float("nan")}, "nan seconds were spent"),
    ],
)
def test_a_state_that_no_run_has_is_refused_and_set_aside(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A whole file, whose checksum is right, of something that cannot be."""
    path, told = tmp_path / "run.safetensors", []
    state = small_state()
    parts = {
        name: {**getattr(state, name), **part} if isinstance(part, dict) else part for name, part in change.items()
    }
    write_checkpoint(path, replace(state, **parts), "run")
    with pytest.raises(
        TrainingError, match=rf"run.safetensors' cannot be used \(.*{words}.*\); delete it to start this"
    ):
        read_checkpoint(path, "run")
    assert read_or_discard(small_run(), path, "run", told.append) is None
    assert told[0].endswith("it was set aside as 'run.safetensors.damaged' and the run is started over")
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors.damaged"]


def test_a_checkpoint_of_the_format_without_a_checksum_is_set_aside(tmp_path: Path) -> None:
    path, told, state = tmp_path / "run.safetensors", [], small_state()
    save_file(state.tensors(), path, metadata={"run": "run", "state": json.dumps(state.metadata())})
    assert read_or_discard(small_run(), path, "run", told.append) is None
    assert "is damaged (it is of an earlier format, without a checksum); it was set aside" in told[0]


NAME = "body.fc.weight"


def of_weights(state: TrainState, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> TrainState:
    return replace(state, weights=change(dict(state.weights)), momentum=change(dict(state.momentum)))


UNFITTING: dict[str, tuple[Callable[[TrainState], TrainState], str]] = {
    "shape": (
        lambda s: of_weights(s, lambda w: {**w, NAME: torch.ones(4, 3)}),
        r"'body.fc.weight' has shape \(4, 3\) of float32 there and shape \(4, 8\) of float32 here",
    ),
    "dtype": (
        lambda s: of_weights(s, lambda w: {**w, NAME: w[NAME].double()}),
        r"'body.fc.weight' has shape \(4, 8\) of float64 there and",
    ),
    "name": (
        lambda s: of_weights(s, lambda w: {("other" if name == NAME else name): t for name, t in w.items()}),
        r"'other' has shape \(4, 8\) of float32 there and no tensor here",
    ),
    "momentum": (
        lambda s: replace(s, momentum={name: t for name, t in s.momentum.items() if name != NAME}),
        "'body.fc.weight' has no tensor there",
    ),
    "losses": (
        lambda s: replace(s, epoch_losses=torch.ones(3)),
        "has 1 complete epochs and 3 losses, which is not what this run has at step 6",
    ),
    "history": (lambda s: replace(s, history=()), "has 0 complete epochs and 2 losses"),
    "step": (lambda s: replace(s, step=5), "has 1 complete epochs and 2 losses, which is not"),
    "beyond": (lambda s: replace(s, step=TOTAL + 6), "at step 22 of a run from step 0, this one goes from 0 to 16"),
    "start": (lambda s: replace(s, start=4), "at step 6 of a run from step 4, this one goes from 0 to 16"),
    "short generator": (lambda s: replace(s, rng={"cpu": s.rng["cpu"][:9]}), "generator 'cpu' cannot be taken up"),
    "no generator": (lambda s: replace(s, rng={}), "the state has no generator 'cpu'"),
}


@pytest.fixture(scope="module")
def at_six() -> tuple[TrainState, TrainState]:
    """The states at step 6, in the second epoch, and at the end."""
    model = WithDropout()
    first = train(model, images(), RECIPE, rng_label=ORDER, span=Span(stop=6)).state
    return first, train(model, images(), RECIPE, rng_label=ORDER).state


@pytest.mark.parametrize("kind", ["", *UNFITTING])
def test_a_whole_checkpoint_that_is_no_state_of_its_run_is_set_aside(
    kind: str, at_six: tuple[TrainState, TrainState], tmp_path: Path
) -> None:
    """Its checksum is right and it names this run; the results are those of a run without a checkpoint."""
    path, told, model = tmp_path / "run.safetensors", [], WithDropout()
    change, words = UNFITTING.get(kind, (lambda state: state, ""))
    write_checkpoint(path, change(at_six[0]), fingerprint(small_run(model)))
    if kind:
        with pytest.raises(
            TrainingError, match=rf"run.safetensors' cannot be used \(.*{words}.*\); delete it to start"
        ):
            train(model, images(), RECIPE, rng_label=ORDER, resume=Resume(path))
    result = train(model, images(), RECIPE, rng_label=ORDER, resume=Resume(path, on_checkpoint_discarded=told.append))
    same_bits(result.weights, at_six[1].weights)
    assert result.history == at_six[1].history
    assert [line.partition("; ")[2] for line in told] == (
        ["it was set aside as 'run.safetensors.damaged' and the run is started over"] if kind else []
    )


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told, tried = tmp_path / "run.safetensors", [], []

    def full(handle: int) -> None:
        tried.append(handle)
        raise OSError(28, "No space left on device")

    whole = train(WithDropout(), images(), RECIPE, rng_label=ORDER)
    monkeypatch.setattr("reticket.files.os.fsync", full)
    notices = [Notices(told.append)]
    result = train(WithDropout(), images(), RECIPE, rng_label=ORDER, resume=Resume(path, 0.0), callbacks=notices)
    same_bits(result.weights, whole.weights)
    assert told == [
        "a checkpoint cannot be written (No space left on device); the run goes on without, and starts over if it is "
        "stopped: free space there"
    ]
    assert len(tried) == 1
    assert list(tmp_path.iterdir()) == []
