"""What a job of an array does: it takes tasks of its board one after another, and says how they go.

It needs nobody else: the store says what is done, the board what others are at and what failed. Near its time limit
(SIGUSR1 or SIGUSR2) it stops at the task's next word on its progress, gives the task back, whose checkpoint stays, and
queues itself again. When somebody ends it (SIGTERM: scancel, preemption) it stops likewise; SLURM says what follows.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reticket.errors import ReticketError
from reticket.experiment.events import Event
from reticket.experiment.plan import Plan
from reticket.experiment.schedule import Outcome, Schedule
from reticket.experiment.serving import Server
from reticket.experiment.slurm.board import Board, Failure
from reticket.experiment.task import Task
from reticket.experiment.until import OutOfTime, Until
from reticket.extras import extra

LONG = 0.5  # share of a job's time after which a task that is stopped has had a fair try
STUCK = (
    "it began anew in a second job and was done at the end of neither; give jobs more time, as --executor-option "
    "time=1440 (minutes), and run again"
)
GRACE = 10  # seconds in which a job that was told to end does so in order
PAUSE = 0.5  # seconds between two looks at what others compute
START_AGAIN = 144  # what a job on this machine leaves with to be started again, submitit's LOCAL_REQUEUE_RETURN_CODE
PROGRESS_EVERY = 1.0  # seconds between two lines on the progress of a task


class ArrayWorker:
    """One job.

    Args:
        board: what it shares with others.
        name: its own, as the queue has it.
    """

    def __init__(self, board: Board, name: str) -> None:
        self._board, self._name = board, name
        self._until = Until()
        self._goes_on = False  # whether it is queued again
        self._since = time.monotonic()

    def run(self) -> bool:
        """Carry out what may start, until there is nothing left.

        Returns:
            Whether the job is to be queued again.
        """
        self._listen_for_signals()
        self._board.release_all(self._name)  # what was under way when it was ended in mid-run, and queued again
        self._say("hello", host=socket.gethostname(), process=os.getpid())
        try:
            setup = self._board.setup()
            server = Server(setup)
            self._say("ready")
            self._carry_out(server, setup)
        except OutOfTime:
            pass  # told to stop: the task under way was given back, with its checkpoint
        except ReticketError as error:
            self._say("stop", error=str(error))
        return self._goes_on

    def _listen_for_signals(self) -> None:
        def end(number: int, frame: object) -> None:
            self._until.now()
            signal.alarm(GRACE)

        def go_on_later(number: int, frame: object) -> None:
            self._goes_on = True
            self._until.now()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGUSR1, go_on_later)
        signal.signal(signal.SIGUSR2, go_on_later)

    def _carry_out(self, server: Server, setup: Mapping[str, Any]) -> None:
        stages = [[server.tasks[key] for key in keys] for keys in setup["stages"]]
        planned = {task.key for tasks in stages for task in tasks}
        plan = Plan.of(*stages).without(lambda key: key not in planned)
        schedule = Schedule(plan, server.store.has, self._hear, self._until, self._claimed(server))
        since = time.monotonic()
        while not schedule.finished:
            task = schedule.next(patient=False)
            if task is not None and self._end(schedule, task, server):
                since = time.monotonic()
            elif time.monotonic() - since > setup["idle"]:
                return
            else:
                time.sleep(PAUSE)

    def _claimed(self, server: Server) -> Any:
        return lambda key: self._board.taken(key) or server.store.claimed(key)

    def _end(self, schedule: Schedule, task: Task, server: Server) -> bool:
        """Bring a task to its end; False where somebody else is at it."""
        if not self._board.take(task.key, self._name):
            schedule.ended(task, Outcome(busy=True))
            return False
        try:
            failure = self._board.failure(task.key)
            if failure is not None:
                schedule.fail(task, failure.error)
                return True
            outcome = self._compute(task, server)
            schedule.ended(task, outcome)
            if outcome.error:
                self._board.fail(task.key, Failure(outcome.error, outcome.traceback))
            return not outcome.busy
        finally:
            self._board.release(task.key, self._name)

    def _compute(self, task: Task, server: Server) -> Outcome:
        ends: list[Outcome] = []
        begun, said = time.monotonic(), float("-inf")
        fractions: list[float] = []  # of the first and of the last word on progress

        def say(what: str, **details: Any) -> None:
            nonlocal said
            if what == "progress":
                fractions[1:] = [details["fraction"]]
                if time.monotonic() - said < PROGRESS_EVERY:
                    return
                said = time.monotonic()
            if what == "ended":
                ends.append(Outcome(**details["outcome"]))
            self._say(what, key=task.key, **details)

        self._say("begun", key=task.key)
        try:
            server.serve(task.key, say, self._until.check)
        except OutOfTime:
            if not self._goes_on or not self._is_stuck(task, fractions, begun):
                self._say("back", key=task.key)
                raise
            outcome = Outcome(time.monotonic() - begun, STUCK)
            self._say("ended", key=task.key, outcome=asdict(outcome))
            return outcome
        return ends[-1]

    def _is_stuck(self, task: Task, fractions: Sequence[float], begun: float) -> bool:
        """Return whether a task that the end of a job's time stops had begun anew, not where an earlier job stopped it.

        Args:
            task: that is to be stopped.
            fractions: how far it was, in [0, 1], when it was first and last heard of.
            begun: when, on the monotonic clock.
        """
        now = time.monotonic()
        if not fractions or now - begun < LONG * (now - self._since):
            return False
        earlier = self._board.reached(task.key)
        self._board.note_reached(task.key, fractions[-1])
        return earlier is not None and fractions[0] < earlier / 2  # at a checkpoint it would be nearer

    def _hear(self, event: Event) -> None:
        if event.kind == "task-done" and event.cached:
            self._say("found", key=event.key)

    def _say(self, what: str, **details: Any) -> None:
        self._board.say(self._name, {"say": what, **details})


def work(folder: str) -> None:
    """Be one job of an array; submitit calls it there.

    Args:
        folder: of the board.
    """
    job = extra("submitit", "executor 'slurm'").JobEnvironment()
    if not ArrayWorker(Board(Path(folder)), job.job_id).run():
        return
    if job.cluster == "local":
        sys.exit(START_AGAIN)
    with suppress(OSError):  # where the site does not allow it, whoever gives the same command sends another job
        subprocess.run(["scontrol", "requeue", job.job_id], check=False)  # SLURM_JOB_ID can be the whole array's number
