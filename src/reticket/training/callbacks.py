"""Callbacks for what most runs want: progress, sentences for someone to read, figures for a logger."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from reticket.training.evaluation import evaluate
from reticket.training.run import Observer
from reticket.training.state import Progress
from reticket.training.watched import WatchedRun

PROGRESS_SECONDS = 0.5


class ReportProgress(Observer):
    """Tells how far a run is, every so many seconds and at the end.

    Args:
        report: is told.
        seconds: between two reports.
    """

    def __init__(self, report: Callable[[Progress], object], seconds: float = PROGRESS_SECONDS) -> None:
        self._report, self._seconds = report, seconds
        self._begun = self._next = 0.0

    def on_start(self, run: WatchedRun) -> None:
        """Start the clock."""
        self._begun = time.monotonic()
        self._next = self._begun + self._seconds

    def after_step(self, run: WatchedRun) -> None:
        """Report if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._tell(run, now)
            self._next = now + self._seconds

    def on_end(self, run: WatchedRun) -> None:
        """Report the end."""
        self._tell(run, time.monotonic())

    def _tell(self, run: WatchedRun, now: float) -> None:
        loss = run.history[-1].loss if run.history else None  # this epoch's would have to wait for the device
        lr = run.lr(run.step - 1) if run.step > run.start else None
        epochs = run.step / run.steps_in_epoch
        self._report(Progress(run.step, run.start, run.stop, epochs, loss, lr, now - self._begun))


class Notices(Observer):
    """Passes on the sentences that someone should read.

    Args:
        tell: is told each.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def on_notice(self, text: str) -> None:
        """Pass it on."""
        self._tell(text)


@runtime_checkable
class MetricsLogger(Protocol):
    """Whoever writes figures down: a file, a table, a tracking service."""

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the figures of a step.

        Args:
            step: steps done, counted from the initialisation.
            metrics: by name; "loss" in nats, "lr", "accuracy" in percent.
        """
        ...


class LogMetrics(Observer):
    """Gives a logger the training loss, the learning rate and, if asked for, the accuracy on the test part.

    Results do not depend on it. Of several processes the first one logs.

    Args:
        logger: takes the figures in.
        every: steps between two of them, each with the loss of that step, for which the host waits for the device; None
            for the end of every epoch, with the epoch's mean loss, for which it waits anyway.
        accuracy: whether the model is evaluated each time, which takes a pass over the test part; where numbers are to
            be predicted by the metric of the recipe's objective, under its name.

    >>> class Printed:
    ...     def on_metrics(self, step, metrics):
    ...         print(step, sorted(metrics), f"lr {metrics['lr']:.3f}")
    >>> from reticket import Recipe, build_model, load_dataset, train
    >>> data, model = load_dataset("digits", train_size=70), build_model("mlp", hidden=(8,))
    >>> recipe = Recipe(epochs=2, batch_size=16, lr=0.05, schedule="constant")
    >>> result = train(model, data, recipe, callbacks=[LogMetrics(Printed(), accuracy=True)])
    5 ['accuracy', 'loss', 'lr'] lr 0.050
    10 ['accuracy', 'loss', 'lr'] lr 0.050
    """

    def __init__(self, logger: MetricsLogger, *, every: int | None = None, accuracy: bool = False) -> None:
        self._logger, self._every, self._accuracy = logger, every, accuracy

    def after_step(self, run: WatchedRun) -> None:
        """Log a step's loss, if steps are asked for."""
        if self._every is not None and run.step % self._every == 0:
            self._log(run, run.last_loss())

    def after_epoch(self, run: WatchedRun) -> None:
        """Log an epoch's mean loss, if epochs are asked for."""
        if self._every is None:
            self._log(run, run.history[-1].loss)

    def _log(self, run: WatchedRun, loss: float) -> None:
        if run.ranks.first:
            metrics = {"loss": loss, "lr": run.lr(run.step - 1)}
            if self._accuracy:
                metrics |= _measured(run)
            self._logger.on_metrics(run.step, metrics)


def _measured(run: WatchedRun) -> dict[str, float]:
    """Return the accuracy on the test part, or the metric of an objective whose labels are numbers."""
    options: dict[str, Any] = {"weights": run.model.state_dict(), "device": run.device}
    if not run.dataset.labels("test").is_floating_point():
        return {"accuracy": evaluate(run.original, run.dataset, **options).accuracy}
    found = evaluate(run.original, run.dataset, loss=run.recipe.objective, **options)
    metric = found.objective.metric
    return {} if metric is None or found.metric is None else {metric.name: found.metric}
