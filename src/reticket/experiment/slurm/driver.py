"""Who sends the jobs of a plan and listens to them: events for whoever watches, more jobs where some are missing.

Nothing waits for it but the sending of jobs and the second try of a task whose job was lost.
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from reticket.errors import StoreError
from reticket.experiment.schedule import Outcome, Schedule
from reticket.experiment.serving import pass_on
from reticket.experiment.slurm.board import Board, Failure
from reticket.experiment.slurm.clusters import UNDER_WAY, Cluster
from reticket.experiment.store import Store
from reticket.experiment.task import Task
from reticket.experiment.workers import WorkerError

PAUSE = 0.5  # seconds between two looks at what jobs say
FAREWELL = 10.0  # seconds for jobs to notice that nothing is left to do
TRIES = 3  # of a task whose job is lost each time
UNBORN = 3  # jobs in a row that end before they could start
ADVICE = {
    "OUT_OF_MEMORY": "give it more memory, as --executor-option mem=16G, and run again",
    "TIMEOUT": "give it more time, as --executor-option time=1440 (minutes), and run again",
    "CANCELLED": "somebody cancelled it; run again",
}


class Job:
    """One job as the driver sees it.

    Args:
        name: as the queue has it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.task: Task | None = None
        self.since = 0.0  # when it began that task
        self.born = False  # whether it has said a word
        self.gone = False
        self.read = 0  # bytes of its journal
        self.unheard: deque[dict[str, Any]] = deque()


class Driver:
    """Sends jobs and hears what they say until a schedule is finished.

    Args:
        schedule: hears how tasks go and end.
        store: where results are.
        board: that it shares with the jobs.
        cluster: where they run.
        count: of jobs at a time.
    """

    def __init__(self, schedule: Schedule, store: Store, board: Board, cluster: Cluster, count: int) -> None:
        self._schedule, self._store, self._board, self._cluster = schedule, store, board, cluster
        self._count = count
        self._tasks = {task.key: task for task in schedule.tasks}
        self._jobs: dict[str, Job] = {}
        self._lost: dict[str, int] = {}
        self._found: dict[str, Task] = {}  # what jobs have found done, perhaps by another one whose words come later
        self._unborn = 0
        self._looked = float("-inf")
        self._answers: bool | None = None  # whether the queue did the last time; it was not asked yet

    def run(self) -> None:
        """Return when the schedule is finished.

        Raises:
            WorkerError: when jobs are refused, or cannot start.
            StoreError: when a job cannot write the store.
            OutOfTime: when it is time to stop.
        """
        while not self._schedule.finished:
            self._hear()
            if time.monotonic() - self._looked >= self._cluster.patience:
                self._look_after_jobs()
                self._looked = time.monotonic()
            if not self._schedule.finished:
                time.sleep(min(PAUSE, self._schedule.until.patience))
                self._schedule.until.check()

    def part(self) -> None:
        """Wait a little for the jobs of a schedule that is finished; they see that nothing is left and go."""
        self._cluster.cancel(self._board, waiting=True)
        deadline = time.monotonic() + FAREWELL
        while "RUNNING" in (self._cluster.states(self._board) or {}).values() and time.monotonic() < deadline:
            time.sleep(PAUSE)

    # ---------------------------------------------------------------- jobs

    def _look_after_jobs(self) -> None:
        states = self._cluster.states(self._board)
        if states is None:
            if self._answers is None:
                raise WorkerError(
                    "SLURM does not answer: squeue failed, or took too long; see what sinfo says and run again"
                )
            if self._answers:
                self._schedule.announce("slurm", "squeue does not answer; what runs goes on, and it is asked again")
            self._answers = False
            return
        self._answers = True
        for name, state in states.items():
            if state in UNDER_WAY:
                self._job(name).gone = False
        self._hear()  # the last words of those that are gone
        for job in list(self._jobs.values()):
            if not job.gone and states.get(job.name, "") not in UNDER_WAY and not job.unheard:
                job.gone = True
                self._bury(job, states.get(job.name, ""))
        self._send_missing()

    def _send_missing(self) -> None:
        at_work = sum(job.task is not None for job in self._jobs.values())
        wanted = min(self._count, self._schedule.ready + at_work)
        missing = wanted - sum(not job.gone for job in self._jobs.values())
        if missing <= 0:
            return
        names = self._cluster.submit(self._board, missing)
        for name in names:
            self._job(name)
        jobs = f"{len(names)} jobs, {names[0]} to {names[-1]}" if len(names) > 1 else f"job {names[0]}"
        self._schedule.announce("slurm", f"sent {jobs}, called {self._board.name}; logs in {self._board.jobs}")

    def _job(self, name: str) -> Job:
        return self._jobs.setdefault(name, Job(name))

    def _bury(self, job: Job, state: str) -> None:
        self._board.release_all(job.name)
        how = state.partition(" ")[0]
        if not job.born:
            self._unborn += 1
            if self._unborn >= UNBORN:
                raise WorkerError(
                    f"{UNBORN} jobs in a row ended before they could start ({how or 'unknown why'}); "
                    f"the last one's log, {self._board.log_of(job.name)}, may say why; if there is none, do the nodes "
                    "share this folder?"
                )
        task = self._left_by(job)
        if task is not None:
            self._retry(task, job.name, how)

    def _left_by(self, job: Job) -> Task | None:
        """Return the task that a job left without a word on its end; one that has ended all the same is seen to."""
        task, job.task = job.task, None
        if task is None:
            return None
        failure = self._board.failure(task.key)
        if self._store.has(task.key):
            self._schedule.finish(task, time.perf_counter() - job.since)
        elif failure is not None:
            self._schedule.fail(task, failure.error, failure.traceback)
        else:
            return task
        return None

    def _retry(self, task: Task, job: str, how: str) -> None:
        tries = self._lost[task.key] = self._lost.get(task.key, 0) + 1
        why = how or "its process ended"
        if tries < TRIES:
            self._schedule.again(task, f"its job {job} was lost ({why}); it is tried again")
            return
        advice = ADVICE.get(how, "its log may say why")
        error = f"its job was lost {tries} times ({why}); {advice}; the last log is {self._board.log_of(job)}"
        self._board.fail(task.key, Failure(error))
        self._schedule.fail(task, error)

    # ---------------------------------------------------------------- what they say

    def _hear(self) -> None:
        found, self._found = self._found, {}
        for name in self._board.speakers():
            job = self._job(name)
            messages, job.read = self._board.heard(name, job.read)
            job.unheard.extend(messages)
        while sum(self._take_in(job) for job in self._jobs.values() if job.unheard):
            continue
        for task in found.values():  # by now it is known whether a job of this board had begun it before
            if self._schedule.begin(task):
                self._schedule.finish(task, 0.0, cached=True)
            elif self._schedule.is_open(task) and not any(job.task == task for job in self._jobs.values()):
                self._found[task.key] = task

    def _take_in(self, job: Job) -> bool:
        """Take in what a job said, as far as what went before it is known; return whether that was anything."""
        heard = False
        while job.unheard and self._understood(job, job.unheard[0]):
            job.unheard.popleft()
            heard = True
        return heard

    def _understood(self, job: Job, message: Mapping[str, Any]) -> bool:
        """Return False for a message on a task that another job's words, not read yet, let start."""
        task = self._tasks.get(message.get("key", ""))
        match message["say"]:
            case "hello":
                self._greet(job)
            case "ready":
                self._unborn = 0
            case "stop":
                raise StoreError(f"job {job.name}: {message['error']}")
            case "found" if task is not None and self._schedule.is_open(task):
                self._found[task.key] = task
            case "begun" if task is not None and self._schedule.is_open(task):
                return self._begin(job, task)
            case "ended" if task is not None and job.task == task:
                self._end(job, task, Outcome(**message["outcome"]))
            case "back" if task is not None and job.task == task:
                self._end(job, task, Outcome(busy=True))
            case _ if task is not None and job.task == task:
                pass_on(self._schedule, task, message)
        return True

    def _greet(self, job: Job) -> None:
        job.born = True
        task = self._left_by(job)
        if task is not None:  # the job was ended in mid-run and queued again by SLURM, which is no fault of the task's
            self._schedule.again(task, f"its job {job.name} was queued again in mid-run; it goes on")

    def _begin(self, job: Job, task: Task) -> bool:
        if not self._schedule.begin(task):
            return False
        job.task, job.since = task, time.perf_counter()
        return True

    def _end(self, job: Job, task: Task, outcome: Outcome) -> None:
        job.task = None
        if outcome.error:
            log = f"\nlog: {self._board.log_of(job.name)}"
            outcome = Outcome(outcome.seconds, outcome.error, outcome.traceback + log)
        self._schedule.ended(task, outcome)
