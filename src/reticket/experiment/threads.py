"""Tasks as threads of one process: many small models on one GPU, each thread with a stream of its own.

A GPU that several processes use takes turns between them; within one process, streams run side by side. Data, libraries
and the device's memory are there once. On a CPU the same works, as far as Python lets threads compute at once.
"""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

import torch

from reticket.errors import InputError
from reticket.experiment.compute import TaskCallbacks, attempt, is_isolated
from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.memory import keep_freed_memory
from reticket.experiment.schedule import Outcome, Schedule
from reticket.experiment.store import Store
from reticket.experiment.task import Task
from reticket.experiment.until import OutOfTime, Until
from reticket.experiment.workers import alone
from reticket.rng import shared_by_threads

STREAMS = 32  # that torch hands out in turn on a device; two threads on one would record each other's work
TURN = 0.0005  # seconds for which one thread may keep Python's lock while others wait: a step is started in less


class Crew:
    """At most `execution.jobs` threads that carry out a schedule.

    Args:
        schedule: gives tasks and hears how they ended; used by the calling thread alone.
        store: where results are.
        runners: by kind of task, the runner as `package.module:function`.
        execution: jobs, threads, device.
    """

    def __init__(
        self, schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig
    ) -> None:
        self._schedule, self._store, self._runners, self._execution = schedule, store, runners, execution
        self._orders: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._until = Until()  # the threads' own; a thread ends at its task's next word on its progress
        self._members: list[threading.Thread] = []
        self._idle = 0

    def run(self) -> None:
        """Carry the schedule out.

        Raises:
            StoreError: when the store cannot be written.
        """
        while not self._schedule.finished:
            while self._has_hands() and (task := self._schedule.next(patient=False)) is not None:
                self._idle -= 1
                self._orders.put(task)
            if not self._schedule.finished:
                with contextlib.suppress(queue.Empty):
                    self._said.get(timeout=self._schedule.until.patience)()
            self._schedule.until.check()

    def stop(self) -> None:
        """End every thread at its task's next word on its progress; what they had not stored is lost."""
        self._until.now()
        for _ in self._members:
            self._orders.put(None)
        for member in self._members:
            member.join()
        while not self._said.empty():  # a task may have ended meanwhile
            with contextlib.suppress(OutOfTime):
                self._said.get()()

    def _has_hands(self) -> bool:
        """Return whether a thread is free, after starting one where there may be more."""
        if not self._idle and len(self._members) < self._execution.jobs and self._schedule.ready:
            member = threading.Thread(target=self._work, name=f"reticket-{len(self._members)}", daemon=True)
            self._members.append(member)
            member.start()
            self._idle += 1
        return self._idle > 0

    def _work(self) -> None:
        try:
            with own_stream(self._execution.device):
                torch.set_num_threads(self._execution.threads)
                while (task := self._orders.get()) is not None:
                    self._carry_out(task)
        except OutOfTime:
            return
        except BaseException as error:  # whatever it is: who waits for this thread must hear of it
            self._said.put(_raising(error))

    def _carry_out(self, task: Task) -> None:
        if is_isolated(self._runners[task.kind]):
            outcome = alone(task, self._store, self._runners, self._execution, self._callbacks(task), self._until)
        else:
            outcome = attempt(task, self._store, self._runners, self._execution, self._callbacks(task))
        self._said.put(lambda: self._end(task, outcome))

    def _end(self, task: Task, outcome: Outcome) -> None:
        """Note how a task ended; in the calling thread, as everything else that the schedule hears."""
        self._idle += 1
        self._schedule.ended(task, outcome)

    def _callbacks(self, task: Task) -> TaskCallbacks:
        def progress(fraction: float, text: str, seconds: float) -> None:
            self._said.put(lambda: self._schedule.progress(task, fraction, text, seconds))

        def notice(text: str) -> None:
            self._said.put(lambda: self._schedule.notice(task, text))

        def metrics(step: int, metrics: Mapping[str, float]) -> None:
            self._said.put(lambda: self._schedule.metrics(task, step, metrics))

        return TaskCallbacks(progress, notice, metrics, self._until.check)


def threads(schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig) -> None:
    """Carry a schedule out in up to `execution.jobs` threads of this process.

    Raises:
        InputError: for more threads on a GPU than torch has streams for.
        StoreError: when the store cannot be written.
    """
    if torch.device(execution.device).type == "cuda" and execution.jobs > STREAMS:
        raise InputError(
            f"jobs is {execution.jobs}, but torch has streams for {STREAMS} threads on a GPU; use fewer --jobs"
        )
    keep_freed_memory()
    before = torch.get_num_threads()
    crew = Crew(schedule, store, runners, execution)
    try:
        with shared_by_threads(), quick_turns(TURN):
            try:
                crew.run()
            finally:
                crew.stop()
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quick_turns(seconds: float) -> Iterator[None]:
    """While active, a thread keeps Python's lock for so long at most while others wait."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def own_stream(device: str) -> Iterator[None]:
    """While active, this thread computes on a stream of its own, where the device has streams."""
    if torch.device(device).type != "cuda":
        yield
        return
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        yield


def _raising(error: BaseException) -> Callable[[], None]:
    """Return what raises in the calling thread what ended another."""

    def again() -> None:
        raise error

    return again
