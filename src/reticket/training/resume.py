"""Going on where a run stopped: from a state, or from a checkpoint that is written while it goes."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reticket.errors import ConfigError, TrainingError
from reticket.training.run import Callback, TrainingRun
from reticket.training.snapshot import check_state, state_of
from reticket.training.state import TrainState, read_checkpoint, write_checkpoint

CHECKPOINT_SECONDS = 30.0
TOGETHER_STEPS = 16  # between two times that processes which train together agree on whether a checkpoint is due


@dataclass(frozen=True)
class Resume:
    """Where a run goes on from, and what it leaves behind to go on from.

    Args:
        checkpoint: file to go on from when it exists, written every `seconds`; in a run that takes less time none is
            written.
        seconds: between two checkpoints.
        state: of an earlier call with the same arguments and an earlier stop, to go on from; of state and checkpoint
            the later counts.
        on_checkpoint_discarded: is told a sentence when the checkpoint is damaged or of another run, which is then
            renamed and the run started over; without it that is an error.

    Raises:
        ConfigError: when the seconds are below 0.
    """

    checkpoint: str | Path | None = None
    seconds: float = CHECKPOINT_SECONDS
    state: TrainState | None = None
    on_checkpoint_discarded: Callable[[str], object] | None = None

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ConfigError(f"resume: seconds is {self.seconds!r}, but it must be at least 0")


class Checkpoints(Callback):
    """Writes a run's state to a file every so many seconds, as the last of what happens around a step.

    A disk that takes no checkpoint costs the checkpoint and not the run.

    Args:
        path: of the file.
        run: names the run the file belongs to.
        seconds: between two checkpoints.
    """

    def __init__(self, path: Path, run: str, seconds: float) -> None:
        self._path, self._run, self._seconds = path, run, seconds
        self._next = float("inf")
        self._saved = self._full = False

    def on_start(self, run: TrainingRun) -> None:
        """Start the clock, which is the first process's."""
        self._next = time.monotonic() + self._seconds

    def after_step(self, run: TrainingRun) -> None:
        """Write if it is time to; of several processes the first decides, every few steps."""
        if run.ranks.alone:
            due = time.monotonic() >= self._next
        elif run.step % TOGETHER_STEPS and run.step % run.steps_in_epoch:
            due = False
        else:
            due = run.ranks.broadcast_object(time.monotonic() >= self._next)
        if due:
            self._save(run)
            self._next = float("inf") if self._full else time.monotonic() + self._seconds

    def on_end(self, run: TrainingRun) -> None:
        """Leave the end in the file, if there is one."""
        if self._saved:
            self._save(run)

    def _save(self, run: TrainingRun) -> None:
        if run.losses:
            run.mean_loss()  # a diverged state is not worth keeping
        state = state_of(run)
        self._saved = True  # also where it is not: processes that train together stay alike
        if self._full or not run.ranks.first:
            return
        try:
            write_checkpoint(self._path, state, self._run)
        except OSError as error:
            self._full = True
            run.notify(
                f"a checkpoint cannot be written ({error.strerror}); the run goes on without, and starts over if it is "
                f"stopped: free space there"
            )


def fingerprint(run: TrainingRun) -> str:
    """Return a name for what decides a run that is at its beginning, for its checkpoint."""
    data = run.dataset
    digest = hashlib.sha256()
    recipe = run.recipe.decisive() | {"precision": run.recipe.precision}  # as it was named before it had a choice
    described = (recipe, run.batches.rng_label, run.start, data.name, data.input_shape, data.classes)
    digest.update(json.dumps(described).encode())
    for tensor in (*run.original.state_dict().values(), *run.first_mask.values(), data.labels("train")):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def later_state(state: TrainState | None, found: TrainState | None, stop: int) -> TrainState | None:
    """Return the later of two states that is not past `stop`.

    Args:
        state: one that counts in any case.
        found: one that counts if it is later than the other and not past the stop.
        stop: a step.
    """
    if found is None or found.step > stop or (state is not None and found.step <= state.step):
        return state
    return found


def read_or_discard(
    run: TrainingRun, path: Path, name: str, discarded: Callable[[str], object] | None
) -> TrainState | None:
    """Return the state in a checkpoint, or None when there is none that can be used.

    Args:
        run: at its beginning.
        path: of the checkpoint.
        name: the run's fingerprint.
        discarded: is told a sentence when a file that cannot be used is renamed.

    Raises:
        TrainingError: when it cannot be used and nobody is to be told of it.
    """
    try:
        return _fitting(read_checkpoint(path, name), path, run)
    except TrainingError as error:
        if discarded is None:
            raise
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        reason = str(error).partition(";")[0]
        discarded(f"{reason}; it was set aside as '{aside.name}' and the run is started over")
        return None


def _fitting(state: TrainState | None, path: Path, run: TrainingRun) -> TrainState | None:
    """Refuse a checkpoint that names this run and is none of its states: no run has written it."""
    if state is None:
        return None
    try:
        if state.start != run.start or state.step > run.total:
            raise ConfigError(
                f"it is at step {state.step} of a run from step {state.start}, this one goes from {run.start} to "
                f"{run.total}"
            )
        check_state(run, state)
    except ConfigError as reason:
        said = str(reason).partition(";")[0]
        raise TrainingError(f"checkpoint '{path}' cannot be used ({said}); delete it to start this run over") from None
    return state
