"""The seat of a logger: who writes the figures of a training down, and how a run gives each of its trainings one."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from reticket.errors import InputError
from reticket.experiment.events import Event, Listener
from reticket.extras import check_installed
from reticket.registry import Registry, first_line


@dataclass(frozen=True)
class LoggedTraining:
    """What a logger is told of a training before its first figures.

    Args:
        folder: where a logger may write; the trainings of a run share it.
        experiment: short name of the experiment.
        label: of the training, for readers.
        kind: of task, "dense", "prune-round" or "sparse" among others.
        key: of its result, by which it is one and the same when a run is taken up again.

    >>> LoggedTraining(Path("logs"), "digits", "lth 90%, 5ep, A0", "sparse", "0123456789abcdef").file_name
    'lth-90-5ep-A0-01234567'
    """

    folder: Path
    experiment: str
    label: str
    kind: str
    key: str

    @property
    def file_name(self) -> str:
        """A name for a file or folder of this training alone."""
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', self.label).strip('-')}-{self.key[:8]}"


@runtime_checkable
class Logger(Protocol):
    """Writes the figures of one training down: into a file, a table, a tracking service."""

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the figures of a step.

        Args:
            step: steps done, counted from the initialisation.
            metrics: by name; "loss" and "test_loss" in nats, "lr", "accuracy" in percent.
        """
        ...

    def close(self) -> None:
        """Finish: the training has ended, or the run was stopped."""
        ...


Build = TypeVar("Build", bound=Callable[[LoggedTraining], Logger])


@dataclass(frozen=True)
class LoggerKind:
    """A logger by name.

    Args:
        name: what users write as `--log`.
        build: makes the logger of a training.
        needs: the package that it imports, if it is an optional one.
    """

    name: str
    build: Callable[[LoggedTraining], Logger]
    needs: str | None = None

    def check_installed(self) -> None:
        """Refuse a logger whose package is not there.

        Raises:
            InputError: naming it.
        """
        if self.needs is not None:
            check_installed(self.needs, f"logger '{self.name}'")


LOGGERS = Registry[LoggerKind]("logger", "reticket.loggers", InputError, says=lambda kind: first_line(kind.build))


def logger(name: str, *, needs: str | None = None) -> Callable[[Build], Build]:
    """Register a logger, a class or a function that makes the logger of a `LoggedTraining`.

    Args:
        name: what users write as `--log`.
        needs: the package that it imports when it is made, if users may lack it.

    Raises:
        InputError: when the name is taken.
    """

    def register(build: Build) -> Build:
        LOGGERS.add(name, LoggerKind(name, build, needs))
        return build

    return register


class _LoggedRun:
    """Gives every training of a run its loggers, and passes events on."""

    def __init__(self, kinds: Sequence[LoggerKind], folder: Path, experiment: str, tell: Listener) -> None:
        self._kinds = list(kinds)
        self._folder, self._experiment, self._tell = folder, experiment, tell
        self._open: dict[tuple[str, str], Logger] = {}  # by the names of logger and task

    def __call__(self, event: Event) -> None:
        for kind in tuple(self._kinds):
            if event.kind == "metrics":
                self._guarded(kind, partial(self._write, kind, event))
            elif event.kind in ("task-done", "task-failed"):
                self._close(kind, event.key)
        self._tell(event)

    def close(self) -> None:
        """Close what is open still, as that of a training that was stopped."""
        for kind in tuple(self._kinds):
            for key in self._open_keys(kind):
                self._close(kind, key)

    def _open_keys(self, kind: LoggerKind) -> list[str]:
        return [key for name, key in self._open if name == kind.name]

    def _write(self, kind: LoggerKind, event: Event) -> None:
        place = (kind.name, event.key)
        if place not in self._open:
            training = LoggedTraining(self._folder, self._experiment, event.label, event.task, event.key)
            self._open[place] = kind.build(training)
        self._open[place].on_metrics(event.step or 0, event.metrics)

    def _close(self, kind: LoggerKind, key: str) -> None:
        found = self._open.pop((kind.name, key), None)
        if found is not None:
            self._guarded(kind, found.close)

    def _guarded(self, kind: LoggerKind, write: Callable[[], None]) -> None:
        """Write, and do without the logger from now on if that fails: figures are no reason to lose results."""
        try:
            write()
        except Exception as error:  # whatever their packages raise
            self._kinds.remove(kind)
            for key in self._open_keys(kind):
                with suppress(Exception):
                    self._open.pop((kind.name, key)).close()
            text = f"{type(error).__name__}: {error}; the run goes on without it, metrics.jsonl has the figures"
            self._tell(Event("notice", label=f"logger '{kind.name}'", text=text))


@contextmanager
def logged_by(names: Sequence[str], folder: Path, experiment: str, tell: Listener) -> Iterator[Listener]:
    """Give a listener that has loggers write the figures of every training down, and passes events on.

    Args:
        names: of members of `LOGGERS`.
        folder: where they may write; made by those that do.
        experiment: short name of the experiment.
        tell: is told of each event, and in a notice when a logger fails, which is done without from then on.

    Raises:
        InputError: for an unknown logger.
    """
    run = _LoggedRun([LOGGERS.named(name) for name in names], folder, experiment, tell)
    try:
        yield run
    finally:
        run.close()
