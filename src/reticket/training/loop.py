"""The training loop: a copy of the model in, weights and state out; the caller's model is not touched."""

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reticket.data import Dataset, DataSource
from reticket.devices import current, deterministic
from reticket.errors import ConfigError, TrainingError
from reticket.ranks import ALONE, Ranks
from reticket.training.clock import Clock
from reticket.training.graphs import cuda_graph
from reticket.training.randomness import Randomness
from reticket.training.recipe import Recipe
from reticket.training.run import Run
from reticket.training.state import Progress, TrainResult, TrainState, read_checkpoint, write_checkpoint

CHECKPOINT_SECONDS = 30.0


def train(
    model: nn.Module,
    dataset: DataSource,
    recipe: Recipe,
    *,
    order: tuple[str | int, ...],
    mask: Mapping[str, Bool[Tensor, "..."]] | None = None,
    start: int = 0,
    stop: int | None = None,
    state: TrainState | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    set_aside: Callable[[str], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    device: str | torch.device = "cpu",
    ranks: Ranks = ALONE,
    graphs: bool | None = None,
    notice: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a copy of a model by SGD on the cross entropy; the model itself stays as it is.

    Everything is decided by the arguments: the order of the data and the augmentation by `order` and the epoch, dropout
    by `order`. So a run that is stopped and continued, by `state` or by `checkpoint`, gives the bits of one that
    never stopped, on the same device with the same number of threads. torch's global generator is left as it was.
    A GPU holds the data too, once for all runs of this process, and cuDNN takes only kernels that give the same bits
    each time; the host reads losses at the end of an epoch and for a checkpoint, nothing in between.

    Args:
        model: its weights and buffers are the beginning; trained in its own floating-point type.
        dataset: the training data.
        recipe: length, batch size, SGD's constants, schedule.
        order: labels that decide data order, augmentation and dropout, for instance `("A", 0, "dense")`.
        mask: for some parameters which weights are kept (True); the others are exactly 0 at every step.
        start: step k that the initial weights belong to: data order begins there, the schedule spans the rest.
        stop: step at which to stop (a snapshot); the end of the recipe without it.
        state: of an earlier call with the same arguments and an earlier `stop`, to continue from.
        checkpoint: file to resume from when it exists, written every `checkpoint_seconds`; in a run that takes
            less time none is written.
        checkpoint_seconds: between two checkpoints.
        set_aside: is told a sentence when the checkpoint is damaged or of another run, which is then renamed and the
            run started over; without it that is an error.
        progress: called at most every half second, and at the end.
        device: where to compute.
        ranks: processes that train this one model together: each calls this with the same arguments and its own
            rank and device, and has its part of every batch. The batches, the checkpoint and, but for rounding, the
            weights are those of one process. The first one's state and checkpoint count; it alone writes.
        graphs: do each step as one CUDA graph, which gives the same bits; None for doing so where it can be: one
            process on a GPU, data in memory, a model that reads nothing from the device.
        notice: is told a sentence when a step could not be recorded as a graph and is done operation by operation.

    Returns:
        The weights and state after step `stop`.

    Raises:
        ConfigError: when `start` or `stop` is outside the recipe, `state` is not of this run, or `graphs` cannot be.
        MaskError: when the mask does not fit the model.
        TrainingError: when the loss is not finite, or the checkpoint is damaged or of another run.
        RanksError: when touch is lost with a process that trains along.
    """
    possible = ranks.alone and torch.device(device).type == "cuda" and isinstance(dataset, Dataset)
    if graphs and not possible:
        raise ConfigError(
            f"graphs need one process on a GPU and data in memory, not {ranks.world} on '{device}' with "
            f"'{dataset.name}'; leave graphs off"
        )
    record = cuda_graph if possible and graphs is not False else None
    give_up = None if graphs else notice or (lambda text: None)
    with current(device):
        run = Run(model, dataset, recipe, order, mask, start, torch.device(device), ranks, record, give_up)
    stop = run.total if stop is None else stop
    _check_steps(run, stop)
    save = None
    if checkpoint is not None and ranks.first:
        name = run.fingerprint(model, mask)
        state = _later(state, _read(checkpoint, name, run, set_aside), stop)
        save = lambda at: write_checkpoint(checkpoint, at, name)  # noqa: E731
    _check_state(state, start, stop)
    labels = (*order, "start", start) if ranks.first else (*order, "start", start, "rank", ranks.rank)
    own = Randomness(run.flat.device, labels)
    with current(device), deterministic(device), own as run.randomness, closing(run):
        if state is not None and ranks.first:
            run.load(state)
        run.follow_first(state)
        clock = Clock(run, stop, save, checkpoint_seconds, progress, notice)
        run.go(stop, clock.tick)
        clock.finish()
        return run.result()


def _check_steps(run: Run, stop: int) -> None:
    if not 0 <= run.start <= stop <= run.total:
        raise ConfigError(
            f"training from step {run.start} to step {stop} is not possible in a recipe of {run.total} steps "
            f"({run.recipe.epochs} epochs of {run.batches.steps}); choose 0 <= start <= stop <= {run.total}"
        )


def _read(path: Path, name: str, run: Run, set_aside: Callable[[str], None] | None) -> TrainState | None:
    """Return the state in a checkpoint, or None when there is none that can be used."""
    try:
        return _fitting(read_checkpoint(path, name), path, run)
    except TrainingError as error:
        if set_aside is None:
            raise
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        set_aside(f"{str(error).partition(';')[0]}; it was set aside as '{aside.name}' and the run is started over")
        return None


def _fitting(state: TrainState | None, path: Path, run: Run) -> TrainState | None:
    """Refuse a checkpoint that names this run and is none of its states: no run has written it."""
    if state is None:
        return None
    try:
        if state.start != run.start or state.step > run.total:
            raise ConfigError(
                f"it is at step {state.step} of a run from step {state.start}, this one goes from {run.start} to "
                f"{run.total}"
            )
        run.check(state)
    except ConfigError as reason:
        said = str(reason).partition(";")[0]
        raise TrainingError(f"checkpoint '{path}' cannot be used ({said}); delete it to start this run over") from None
    return state


def _later(state: TrainState | None, found: TrainState | None, stop: int) -> TrainState | None:
    """Return the later of two states that is not past `stop`."""
    if found is None or found.step > stop or (state is not None and found.step <= state.step):
        return state
    return found


def _check_state(state: TrainState | None, start: int, stop: int) -> None:
    if state is not None and not (state.start == start <= state.step <= stop):
        raise ConfigError(
            f"a state at step {state.step} of a run from step {state.start} cannot be continued to step {stop} of a "
            f"run from step {start}; give the state of this run, from before step {stop}"
        )
