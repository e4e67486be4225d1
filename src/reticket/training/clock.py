"""When a run says how far it is and when it writes a checkpoint."""

import time
from collections.abc import Callable

from reticket.training.run import Run
from reticket.training.state import Progress, TrainState

PROGRESS_SECONDS = 0.5
TOGETHER_STEPS = 16  # between two times that processes which train together agree on whether a checkpoint is due


class Clock:
    """Decides when a checkpoint is written and progress is told.

    Args:
        run: the run.
        stop: the step at which it will stop.
        save: writes a checkpoint; None for none.
        save_seconds: between two checkpoints.
        tell: is told of the progress; None when nobody asks.
        notice: is told a sentence when a checkpoint cannot be written, and the run goes on without.
    """

    def __init__(
        self,
        run: Run,
        stop: int,
        save: Callable[[TrainState], None] | None,
        save_seconds: float,
        tell: Callable[[Progress], None] | None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.run, self.stop, self.save, self.tell = run, stop, save, tell
        self.notice = notice or (lambda text: None)
        now = time.monotonic()
        self.begun, self.save_seconds, self.saved = now, save_seconds, False
        self.next_save = now + save_seconds if save else float("inf")
        self.next_tell = now + PROGRESS_SECONDS if tell else float("inf")

    def tick(self) -> None:
        """Do what is due; of several processes the first decides, every few steps."""
        if not self.run.ranks.alone:
            self._tick_together()
            return
        now = time.monotonic()
        if now >= self.next_tell:
            self._tell(now)
            self.next_tell = now + PROGRESS_SECONDS
        if now >= self.next_save:
            self._save()
            self.next_save = time.monotonic() + self.save_seconds

    def _tick_together(self) -> None:
        run = self.run
        if run.step % TOGETHER_STEPS and run.step % run.batches.steps:
            return
        now = time.monotonic()
        if self.tell is not None and now >= self.next_tell:
            self._tell(now)
            self.next_tell = now + PROGRESS_SECONDS
        if run.ranks.say(now >= self.next_save):
            self._save()
            self.next_save = time.monotonic() + self.save_seconds

    def finish(self) -> None:
        """Do what belongs to the end."""
        self._tell(time.monotonic())
        if self.saved:
            self._save()

    def _tell(self, now: float) -> None:
        run = self.run
        if self.tell is not None:
            loss = run.history[-1].loss if run.history else None  # this epoch's would have to wait for the device
            lr = run.lr(run.step - 1) if run.step > run.start else None
            epochs = run.step / run.batches.steps
            self.tell(Progress(run.step, run.start, self.stop, epochs, loss, lr, now - self.begun))

    def _save(self) -> None:
        if self.run.losses:
            self.run.mean_loss()  # a diverged state is not worth keeping
        state = self.run.state()
        if self.save is not None:
            try:
                self.save(state)
            except OSError as error:
                self.save = None
                self.save_seconds = float("inf")
                self.notice(
                    f"a checkpoint cannot be written ({error.strerror}); the run goes on without, and starts over if "
                    f"it is stopped: free space there"
                )
        self.saved = True  # also where it was not: processes that train together stay alike
