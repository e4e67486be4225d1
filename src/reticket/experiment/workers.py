"""A small pool of worker processes: started when needed, noticed when they die, gone when the parent is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from reticket.errors import ReticketError, StoreError
from reticket.experiment.compute import TaskCallbacks
from reticket.experiment.events import Event
from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.plan import Plan
from reticket.experiment.schedule import Outcome, Schedule
from reticket.experiment.serving import pass_on, setup_for
from reticket.experiment.store import Store
from reticket.experiment.task import Task
from reticket.experiment.until import Until

GRACE = 2.0  # seconds a worker has to leave by itself
RETRIES = 1  # of starting a worker that was killed meanwhile
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
# A fresh interpreter, not multiprocessing's spawn: the caller's script is not imported again, and the environment is
# set before torch is imported. The parent's sys.path goes along, so that runners resolve as they do there.
ENTRY = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = json.loads(sys.argv[2]); "
    "from reticket.experiment.worker import main; main(int(sys.argv[1]))"
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class WorkerError(ReticketError):
    """Worker processes cannot be started."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        code: what it left with, or less the number of the signal that ended it.

    >>> str(Ended(3)), str(Ended(-15)), str(Ended(-9))
    ('exit code 3', 'killed by SIGTERM', 'killed by SIGKILL, perhaps for lack of memory')
    """

    code: int

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return self.code < 0

    @property
    def advice(self) -> str:
        """What to do where it happened twice."""
        if not self.killed:
            return "its code, or a library, ended the process; what it printed stands above"
        if -self.code == signal.SIGKILL:
            return "give it more memory or fewer --jobs and run again"
        if -self.code in CRASHES:
            return "a library that it calls crashed; python -X faulthandler -m reticket run ... --jobs 1 shows where"
        return "somebody ended it; run again"

    def __str__(self) -> str:
        if not self.killed:
            return f"exit code {self.code}"
        memory = ", perhaps for lack of memory" if -self.code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-self.code).name}{memory}"


class Worker:
    """One process and the parent's end of its pipe.

    Args:
        threads: threads it computes with, set in its environment before it imports anything.
    """

    def __init__(self, threads: int) -> None:
        self.task: Task | None = None
        self.since = 0.0
        self.ready = False
        self.connection, theirs = Pipe()
        variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        # blocked while the child is born, a Ctrl-C is not lost here and cannot interrupt the child's start there
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ENTRY, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=variables,
            )
        except OSError as error:
            self.connection.close()
            raise WorkerError(f"a worker process cannot be started ({error.strerror}); use fewer --jobs") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; one that a dead worker cannot take is dealt with when its pipe is read."""
        with suppress(OSError):
            self.connection.send_bytes(json.dumps(message).encode())

    def order(self, task: Task) -> None:
        """Give the worker a task."""
        self.task, self.since = task, time.perf_counter()
        self.send({"key": task.key})

    def end(self) -> Ended:
        """Return how a worker that closed its pipe ended."""
        self.connection.close()
        try:
            code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return Ended(code)


class Pool:
    """At most `execution.jobs` workers that carry out a schedule.

    Args:
        schedule: gives tasks and hears how they ended.
        store: where results are.
        runners: by kind of task, the runner as `package.module:function`.
        execution: jobs, threads, device.
    """

    def __init__(
        self, schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig
    ) -> None:
        self._schedule = schedule
        self._store = store
        self._execution = execution
        self._workers: dict[Connection, Worker] = {}
        self._lost: set[str] = set()  # tasks that lost a worker once
        self._unborn = 0  # workers in a row that ended before they could start
        self._setup = setup_for(schedule, store, runners, execution)

    def run(self) -> None:
        """Carry the schedule out.

        Raises:
            WorkerError: when workers cannot be started.
            StoreError: when the store cannot be written.
        """
        while not self._schedule.finished:
            self._assign()
            if not self._schedule.finished:
                for connection in wait(list(self._workers), self._schedule.until.patience):
                    self._listen(self._workers[connection])  # type: ignore[index]
                self._bury_silent()
                self._schedule.until.check()

    def stop(self) -> None:
        """End every worker at once; what they had not stored is lost, what they stored is whole."""
        for worker in self._workers.values():
            worker.connection.close()
        deadline = time.monotonic() + GRACE
        for worker in self._workers.values():
            try:
                worker.process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()

    def _assign(self) -> None:
        for worker in self._workers.values():
            if worker.ready and worker.task is None:
                task = self._schedule.next(patient=False)
                if task is None:
                    break
                worker.order(task)
        starting = sum(not worker.ready for worker in self._workers.values())
        while len(self._workers) < self._execution.jobs and self._schedule.ready > starting:
            worker = Worker(self._execution.threads)
            self._workers[worker.connection] = worker
            starting += 1

    def _listen(self, worker: Worker) -> None:
        try:
            message = json.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._bury(worker)
            return
        match message["say"], worker.task:
            case "hello", _:
                worker.send(self._setup)
            case "ready", _:
                worker.ready, self._unborn = True, 0
            case "ended", Task() as task:
                worker.task = None
                self._schedule.ended(task, Outcome(**message["outcome"]))
            case "stop", _:
                raise StoreError(message["error"])
            case _, Task() as task:
                pass_on(self._schedule, task, message)

    def _bury_silent(self) -> None:
        """Bury workers that are gone though their pipe is open: what they had forked, as loaders of data, holds it."""
        for connection, worker in list(self._workers.items()):
            if worker.process.poll() is None:
                continue
            while connection in self._workers and connection.poll():  # what it had said before
                self._listen(worker)
            if connection in self._workers:
                self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        del self._workers[worker.connection]
        how = worker.end()
        task = worker.task
        if not worker.ready:
            self._unborn += 1
            if how.killed and self._unborn <= RETRIES:
                return  # another one is started in its place
            raise WorkerError(f"a worker process ended before it could start ({how}); its own message stands above")
        if task is None:
            return
        if self._store.has(task.key):
            self._schedule.finish(task, time.perf_counter() - worker.since)
        elif task.key not in self._lost:
            self._lost.add(task.key)
            self._schedule.again(task, f"its worker process was lost ({how}); it is tried once more")
        else:
            self._schedule.fail(task, f"its worker process was lost twice ({how}); {how.advice}")


def alone(
    task: Task,
    store: Store,
    runners: Mapping[str, str],
    execution: ExecutionConfig,
    callbacks: TaskCallbacks,
    until: Until,
) -> Outcome:
    """Carry out one task, whose inputs are in the store, in a worker process of its own.

    Args:
        task: what to compute.
        store: where results are.
        runners: by kind of task, the runner as `package.module:function`.
        execution: threads, device.
        callbacks: who hears of it.
        until: when to give it up.

    Returns:
        The time it took, or the error it ended with.

    Raises:
        OutOfTime: when it was given up.
        WorkerError, StoreError: as for all tasks.
    """
    ends: list[Outcome] = []

    def hear(event: Event) -> None:
        match event.kind:
            case "progress":
                callbacks.progress(event.fraction or 0.0, event.text, event.seconds or 0.0)
            case "notice":
                callbacks.notice(event.text)
            case "metrics":
                callbacks.metrics(event.step or 0, event.metrics)
            case "task-done":
                ends.append(Outcome(seconds=event.seconds or 0.0))
            case "task-failed":
                ends.append(Outcome(error=event.text, traceback=event.traceback))

    schedule = Schedule(Plan.of([task]).missing(store), store.has, hear, until, store.claimed)
    processes(schedule, store, runners, replace(execution, jobs=1))
    return ends[-1] if ends else Outcome()


def processes(schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig) -> None:
    """Carry a schedule out in up to `execution.jobs` worker processes."""
    pool = Pool(schedule, store, runners, execution)
    try:
        pool.run()
    finally:
        pool.stop()
