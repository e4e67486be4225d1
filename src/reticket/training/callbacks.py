"""Callbacks for what most runs want: progress, and sentences for someone to read."""

import time
from collections.abc import Callable

from reticket.training.run import Callback, TrainingRun
from reticket.training.state import Progress

PROGRESS_SECONDS = 0.5


class ReportProgress(Callback):
    """Tells how far a run is, every so many seconds and at the end.

    Args:
        report: is told.
        seconds: between two reports.
    """

    def __init__(self, report: Callable[[Progress], object], seconds: float = PROGRESS_SECONDS) -> None:
        self._report, self._seconds = report, seconds
        self._begun = self._next = 0.0

    def on_start(self, run: TrainingRun) -> None:
        """Start the clock."""
        self._begun = time.monotonic()
        self._next = self._begun + self._seconds

    def after_step(self, run: TrainingRun) -> None:
        """Report if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._tell(run, now)
            self._next = now + self._seconds

    def on_end(self, run: TrainingRun) -> None:
        """Report the end."""
        self._tell(run, time.monotonic())

    def _tell(self, run: TrainingRun, now: float) -> None:
        loss = run.history[-1].loss if run.history else None  # this epoch's would have to wait for the device
        lr = run.lr(run.step - 1) if run.step > run.start else None
        epochs = run.step / run.steps_in_epoch
        self._report(Progress(run.step, run.start, run.stop, epochs, loss, lr, now - self._begun))


class Notices(Callback):
    """Passes on the sentences that someone should read.

    Args:
        tell: is told each.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def on_notice(self, text: str) -> None:
        """Pass it on."""
        self._tell(text)
