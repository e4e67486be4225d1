"""Carrying out one task: read its inputs from the store, call its runner, put the output back."""

import platform
import shutil
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from reticket.devices import deterministic, hardware_of
from reticket.errors import OF_OTHERS, InputError, RanksError, ReticketError, StoreError
from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.locking import owned
from reticket.experiment.result import Result
from reticket.experiment.schedule import Outcome
from reticket.experiment.store import MissingResult, Store
from reticket.experiment.task import Output, Task
from reticket.lookup import imported
from reticket.ranks import Ranks, here

DURABLE_ABOVE = 1.0  # seconds of work worth waiting for the disk
PROGRESS_EVERY = 0.2  # seconds between two words of one task on its progress


@dataclass(frozen=True)
class Context:
    """What a runner may know besides the task and its inputs; nothing of it may change the result.

    Args:
        threads: threads to compute with; torch is set to it already.
        device: where to compute.
        scratch: a folder for checkpoints; it outlives a crash and goes when the result is stored.
        earlier: those points of `task.resumes` whose results exist, the nearest first.
        settings: facts of the machine, such as where data lie.
        ranks: this process's place among those that compute the task together.
        tell: is told sentences that someone should read.
        log: is told the figures of a step of a training.
    """

    threads: int
    device: str
    scratch: Path
    earlier: Sequence[tuple[Task, Result]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    report: Callable[[float, str], None] = lambda fraction, text: None
    ranks: Ranks = field(default_factory=Ranks)
    tell: Callable[[str], None] = lambda text: None
    log: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None

    def progress(self, fraction: int | float, text: str = "") -> None:
        """Say how far the task is.

        Args:
            fraction: done, in [0, 1].
            text: a few words on where it is.
        """
        self.report(min(max(float(fraction), 0.0), 1.0), text)

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write figures of a training down, so that a context is a logger.

        Args:
            step: steps done.
            metrics: by name.
        """
        self.log(step, metrics)


Runner = Callable[[Task, Mapping[str, Result], Context], Output]


def collective(runner: Runner) -> Runner:
    """Mark a runner that all processes under torchrun call together; only the first one's output counts."""
    runner.collective = True  # type: ignore[attr-defined]
    return runner


def isolated(runner: Runner) -> Runner:
    """Mark a runner that changes what a process shares, such as torch's default dtype: no thread runs beside it."""
    runner.isolated = True  # type: ignore[attr-defined]
    return runner


def is_isolated(reference: str) -> bool:
    """Return whether the runner of this name needs a process of its own where tasks are threads."""
    return getattr(load_runner(reference), "isolated", False)


def is_collective(reference: str) -> bool:
    """Return whether the runner of this name is one that all processes call together."""
    return getattr(load_runner(reference), "collective", False)


@dataclass(frozen=True)
class TaskCallbacks:
    """Who hears of a task while it is computed.

    Args:
        progress: (fraction, text, seconds so far), at most five times a second.
        notice: sentences that someone should read.
        metrics: (steps done, figures by name) of a training.
        check: called whenever the task says how far it is, however often; it ends the task by raising.
    """

    progress: Callable[[float, str, float], None]
    notice: Callable[[str], None]
    metrics: Callable[[int, Mapping[str, float]], None]
    check: Callable[[], None] = lambda: None


def load_runner(reference: str) -> Runner:
    """Return the function that `package.module:function` names.

    Raises:
        InputError: when there is none.

    >>> load_runner("json:dumps")({"a": 1})
    '{"a": 1}'
    """
    return imported(reference, "runner", InputError)


def attempt(
    task: Task, store: Store, runners: Mapping[str, str], execution: ExecutionConfig, callbacks: TaskCallbacks
) -> Outcome:
    """Carry out a task and store its result.

    Args:
        task: what to compute; its inputs are in the store.
        store: where results are.
        runners: by kind of task, the runner as `package.module:function`.
        execution: threads, device, facts of the machine.
        callbacks: who hears of it.

    Returns:
        The time it took, the error it ended with, or that somebody else is at it.

    Raises:
        StoreError: when the store cannot be written, which would meet every other task too.
        RanksError: when processes that compute together lost touch.
    """
    try:
        return _compute(task, store, runners[task.kind], execution, callbacks)
    except OF_OTHERS as error:
        if isinstance(error, StoreError | RanksError) and not isinstance(error, MissingResult):
            raise
        if not here().alone and not isinstance(error, ReticketError) and is_collective(runners[task.kind]):
            raise  # perhaps only this process met it, and the others wait: ending is how they notice
        return Outcome(error=_words(error), traceback=traceback.format_exc())


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"its code called sys.exit({error.code!r}), which ends a program; let it return, or raise an error"
    return str(error) if isinstance(error, ReticketError) else f"{type(error).__name__}: {error}"


def _compute(task: Task, store: Store, runner: str, execution: ExecutionConfig, callbacks: TaskCallbacks) -> Outcome:
    started = time.perf_counter()
    said = started

    def throttled(fraction: float, text: str) -> None:
        nonlocal said
        callbacks.check()
        now = time.perf_counter()
        if now - said >= PROGRESS_EVERY:
            said = now
            callbacks.progress(fraction, text, now - started)

    with _claimed(task, store) as scratch:
        if scratch is None:
            return Outcome(busy=True)
        if here().alone and store.has(task.key):
            return Outcome(cached=True)
        inputs = {name: store.get(other.key) for name, other in task.inputs.items()}
        context = Context(
            threads=execution.threads,
            device=execution.device,
            scratch=scratch,
            earlier=_earlier(task.resumes, store),
            settings=execution.facts,
            report=throttled,
            ranks=here(),
            tell=callbacks.notice,
            log=callbacks.metrics,
        )
        with deterministic(execution.device):
            output = load_runner(runner)(task, inputs, context)
        if not isinstance(output, Output):
            raise TypeError(f"runner '{runner}' returned {type(output).__name__}, expected Output")
        seconds = time.perf_counter() - started
        store.put(task.key, output, provenance_of(task, execution, seconds), durable=seconds > DURABLE_ABOVE)
    return Outcome(seconds=seconds)


@contextmanager
def _claimed(task: Task, store: Store) -> Iterator[Path | None]:
    """Give the scratch folder of a task that nobody else is at; None where somebody is.

    Processes that train one model have begun together and cannot turn back: a folder of their own keeps them apart from
    whoever else is at the task, and the first result counts.
    """
    with store.claim(task.key) as scratch:
        if scratch is not None or here().alone:
            yield scratch
            return
        name = f"{task.key}~{uuid.uuid4().hex[:12]}"
        own = store.scratch(name)
        try:
            with owned(lambda: store.scratch(name)):
                yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def provenance_of(task: Task, execution: ExecutionConfig, seconds: float) -> dict[str, Any]:
    """Return how a result came about, and the task in full so that the store can be read without the program."""
    return {
        "seconds": seconds,
        "cost": task.cost,
        "device": execution.device,
        "hardware": hardware_of(execution.device),
        "threads": execution.threads,
        "processes": here().world,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "task": {
            "kind": task.kind,
            "version": task.version,
            "label": task.label,
            "spec": task.spec,
            "inputs": {name: other.key for name, other in task.inputs.items()},
        },
    }


def _earlier(resumes: Iterable[Task], store: Store) -> tuple[tuple[Task, Result], ...]:
    """Return the nearest stored points before a task; where one is missing, those before it."""
    found: dict[str, tuple[Task, Result]] = {}
    seen: set[str] = set()
    queue = list(resumes)
    for task in queue:  # grows while it is read
        if task.key in seen:
            continue
        seen.add(task.key)
        try:
            found[task.key] = (task, store.get(task.key))
        except MissingResult:
            queue += task.resumes
    return tuple(found.values())
