"""Models, data and runs for the tests that need a GPU; `python -m tests.cuda.cases` is the run that gets killed.

Where RETICKET_CUDA_TESTS is "cpu" the tests are rehearsed on the CPU: what a GPU records is done again by calling it.
"""

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from reticket.data import Dataset
from reticket.models import build_model
from reticket.rng import generator_for, global_generators
from reticket.training import Placement, Progress, Recipe, ReportProgress, Resume, TrainingRun, TrainResult, train
from reticket.training.loop import AFRESH
from tests.ranks import Convolutions, mask_of

REHEARSED = os.environ.get("RETICKET_CUDA_TESTS") == "cpu"
ORDER: tuple[str | int, ...] = ("cuda", 0)
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.05)
TOTAL = 16  # steps of it on the 53 images
KILLED_AFTER = 6


def images(folder: Path | None = None, n: int = 53, side: int = 8) -> Dataset:
    """Return images; of 53 in batches of 16 the last has 5. Experiments name it `tests.cuda.cases:images`."""
    x = torch.randint(256, (n, 3, side, side), generator=generator_for("cuda images", side), dtype=torch.uint8)
    y = torch.arange(n) % 4
    x[:, 0] = (x[:, 0] // 2) + (y * 30).to(torch.uint8).view(-1, 1, 1)  # there is something to learn
    return Dataset("noise", x, y, x[:24], y[:24], tuple("abcd"), (0.5,) * 3, (0.25,) * 3, augmentation="flip-crop")


class Curious(Convolutions):
    """Looks at a value of each batch, or waits for the device otherwise, so that its step cannot be recorded."""

    def __init__(self, dropout: float = 0.0, *, waits: bool = False) -> None:
        super().__init__(dropout)
        self.waits = waits

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        if self.waits and x.is_cuda:
            torch.cuda.current_stream().synchronize()
        elif x.sum().item() > 1e9:
            raise ValueError
        return super().forward(x)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: build_model("resnet20", classes=4),
    "conv-small": lambda: build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4),
    "mlp": lambda: build_model("mlp", in_features=192, hidden=(24, 20), classes=4),
    "dropout": lambda: Convolutions(0.3),
    "curious": Curious,
    "curious and drawing": lambda: Curious(0.3),
    "waiting": lambda: Curious(waits=True),
    "waiting and drawing": lambda: Curious(0.3, waits=True),
}


def trained(
    model: nn.Module,
    device: str,
    recipe: Recipe = RECIPE,
    *,
    graphs: bool | None = None,
    data: Dataset | None = None,
    rng_label: tuple[str | int, ...] = ORDER,
    **options: Any,
) -> TrainResult:
    """Train as `train` does; in a rehearsal a graph is what `recorder` makes."""
    _rehearsal.graphs = graphs
    try:
        asked = graphs if device != "cpu" else None
        where = Placement(device, graphs=asked)
        return train(model, data or images(), recipe, rng_label=rng_label, device=where, **options)
    finally:
        _rehearsal.graphs = None


def same_bits(one: TrainResult, other: TrainResult) -> None:
    """Compare all that decides the rest of two runs, and how they went."""
    assert_close(one.state.tensors(), other.state.tensors(), rtol=0, atol=0)
    assert one.history == other.history


def zeros_kept(weights: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> None:
    """Compare masked weights with 0, and see that the others are not."""
    for name, kept in mask.items():
        assert not weights[name][~kept.to(weights[name].device)].any(), name
        assert weights[name][kept.to(weights[name].device)].any(), name


def own_stream(device: str) -> AbstractContextManager[Any]:
    """Compute on a stream of one's own, as the executor's threads do."""
    return torch.cuda.stream(torch.cuda.Stream()) if device == "cuda" else contextlib.nullcontext()


@contextmanager
def nothing_read(device: str) -> Iterator[None]:
    """While active, whatever makes the host wait for the device is an error."""
    if device != "cuda":
        with _NoReading():
            yield
        return
    _debug_reading("error")
    try:
        yield
    finally:
        _debug_reading("default")


def _debug_reading(mode: str) -> None:
    with warnings.catch_warnings():  # torch says that it may overlook some
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode(mode)


# ---------------------------------------------------------------- the rehearsal


class _Rehearsal(threading.local):
    graphs: bool | None = None


_rehearsal = _Rehearsal()


class _NoReading(TorchDispatchMode):
    """Raises where a value becomes a Python number."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("called a synchronizing operation")
        return func(*args, **(kwargs or {}))


def recorder(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
    """Warm up and record as a CUDA graph does; replay by doing the work again."""
    with global_generators():
        work()
        undo()
        with _NoReading():
            work()
        undo()
    return work


class RehearsedRun(TrainingRun):
    """A run on the CPU that does what one on a GPU does, where `trained` said whether with graphs."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if _rehearsal.graphs:
            options |= {"record": recorder, "where": Placement(graphs=True)}
        super().__init__(*arguments, **options)

    def _rates(self, epoch: int) -> Any:
        rates = super()._rates(epoch)
        return rates if _rehearsal.graphs is None else torch.tensor(rates, dtype=self.parameters.dtype).unbind()


# ---------------------------------------------------------------- the run that is killed


def killed_run(checkpoint: Path, device: str, told: Callable[[Progress], None], *, keep: bool = True) -> TrainResult:
    """Train with dropout and a mask, from the checkpoint if there is one, which is written after every step."""
    model = MODELS["dropout"]()
    resume, callbacks = Resume(checkpoint, 0.0) if keep else AFRESH, [ReportProgress(told, seconds=0.0)]
    mask = mask_of(model)
    return train(model, images(), RECIPE, rng_label=ORDER, mask=mask, resume=resume, callbacks=callbacks, device=device)


def main(checkpoint: str, device: str) -> None:
    """Say when step 6 is done, and wait at the last but one: whoever kills this, does so before it has ended."""

    def tell(at: Progress) -> None:
        if at.step == KILLED_AFTER:
            print(f"step {at.step}", flush=True)
        if at.step == TOTAL - 1:
            sys.stdin.read()

    torch.set_num_threads(1)
    killed_run(Path(checkpoint), device, tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
