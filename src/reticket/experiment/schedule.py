"""Which task may start next, and what follows from its end; the one bookkeeping that all executors share."""

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reticket.experiment.events import Event, EventKind, Listener
from reticket.experiment.plan import Plan, followers
from reticket.experiment.task import Task
from reticket.experiment.until import Until

PAUSE = 0.2  # seconds between two looks at what others compute


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with a result after `seconds`, with an error, or not at all.

    Args:
        seconds: of work.
        error, traceback: of a failure.
        busy: somebody else is at the task just now; it is to be asked for again.
        cached: somebody else had stored its result since it was asked for.
    """

    seconds: float = 0.0
    error: str = ""
    traceback: str = ""
    busy: bool = False
    cached: bool = False


class Schedule:
    """The state of a plan while it is carried out. An executor asks `next` and reports each task's end.

    Args:
        plan: what is to be computed.
        exists: whether the result of a key is there; asked just before a task starts, since others share the store.
        listener: told of every event.
        until: when to stop before the plan is finished.
        claimed: whether somebody else computes a task just now; such a task waits while others may start.
    """

    def __init__(
        self,
        plan: Plan,
        exists: Callable[[str], bool],
        listener: Listener,
        until: Until | None = None,
        claimed: Callable[[str], bool] = lambda key: False,
    ) -> None:
        self.until = until or Until()
        self.done: list[str] = []
        self.cached: list[str] = []
        self.failed: dict[str, tuple[str, str]] = {}
        self.skipped: dict[str, str] = {}
        self._plan = plan
        self._exists = exists
        self._claimed = claimed
        self._tell = listener
        self._after = followers(plan.before)
        self._place = {task.key: position for position, task in enumerate(plan.tasks)}
        self._waiting = {key: len(keys) for key, keys in plan.before.items()}
        self._open = set(self._place)  # neither done nor failed nor skipped
        self._ready: list[tuple[int, float, int]] = []
        self._waits = False  # for somebody else, and has said so
        for task in plan.tasks:
            if not self._waiting[task.key]:
                self._push(task)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Return every task of the plan."""
        return self._plan.tasks

    @property
    def plan(self) -> Plan:
        """Return what is carried out."""
        return self._plan

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Return the keys of the tasks that have not come to their end."""
        return tuple(task.key for task in self._plan.tasks if task.key in self._open)

    @property
    def finished(self) -> bool:
        """Return whether every task has come to its end."""
        return not self._open

    @property
    def ready(self) -> int:
        """Return how many tasks could start now."""
        return len(self._ready)

    def is_open(self, task: Task) -> bool:
        """Return whether a task has not come to its end."""
        return task.key in self._open

    def next(self, *, patient: bool = True) -> Task | None:
        """Return the most urgent task that may start; the caller carries it out and says how it ended.

        A task that somebody else computes is left to them: it is given only if they end without its result.

        Args:
            patient: wait where somebody else computes all that may start, so that None says that nothing may before a
                task of the caller's own has ended. Without, None is returned then too; ask again a little later.

        Raises:
            OutOfTime: when it is time to stop.
        """
        while (chosen := self._chosen()) is None and patient and self._ready:
            time.sleep(min(PAUSE, self.until.patience))
        if chosen is not None:
            self._event("task-started", chosen)
        return chosen

    def begin(self, task: Task) -> bool:
        """Note that somebody has begun a task of their own choice, where who computes tasks chooses them too.

        Returns:
            False where it may not start yet, or has begun already.
        """
        entry = self._entry(task)
        if entry not in self._ready:
            return False
        self._ready.remove(entry)
        heapq.heapify(self._ready)
        self._event("task-started", task)
        return True

    def _chosen(self) -> Task | None:
        """Return the most urgent task that nobody computes; those that have a result meanwhile are finished."""
        self.until.check()
        waiting: list[Task] = []
        chosen = None
        while self._ready and chosen is None:
            task = self._plan.tasks[heapq.heappop(self._ready)[-1]]
            if self._exists(task.key):
                self.finish(task, 0.0, cached=True)
            elif self._claimed(task.key):
                waiting.append(task)
            else:
                chosen = task
        for task in waiting:
            self._push(task)
        if chosen is None and waiting and not self._waits:
            self._waits = True
            self._event("notice", waiting[0], text=f"another run computes {waiting[0].name}; waiting for its result")
        return chosen

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Note how an attempt at a task ended.

        Args:
            task: as `next` gave it.
            outcome: as `attempt` gave it.
        """
        if outcome.busy:
            self._push(task)
        elif outcome.error:
            self.fail(task, outcome.error, outcome.traceback)
        else:
            self.finish(task, outcome.seconds, cached=outcome.cached)

    def again(self, task: Task, reason: str) -> None:
        """Put back a task whose worker was lost."""
        self._event("worker-lost", task, text=reason)
        self._push(task)

    def progress(self, task: Task, fraction: float, text: str, seconds: float) -> None:
        """Pass on how far a task is.

        Raises:
            OutOfTime: when it is time to stop.
        """
        self.until.check()
        self._event("progress", task, fraction=fraction, text=text, seconds=seconds)

    def notice(self, task: Task, text: str) -> None:
        """Pass on a sentence that someone should read."""
        self._event("notice", task, text=text)

    def announce(self, who: str, text: str) -> None:
        """Pass on a sentence that concerns no task.

        Args:
            who: says it.
            text: what.
        """
        self._tell(Event("notice", label=who, text=text))

    def metrics(self, task: Task, step: int, metrics: Mapping[str, float]) -> None:
        """Pass on the figures of a step of a training."""
        self._event("metrics", task, step=step, metrics=metrics)

    def finish(self, task: Task, seconds: float, *, cached: bool = False) -> None:
        """Note that the task's result is in the store."""
        (self.cached if cached else self.done).append(task.key)
        self._event("task-done", task, seconds=seconds, cached=cached)
        self._settle(task, succeeded=True)

    def fail(self, task: Task, error: str, traceback: str = "") -> None:
        """Note that the task failed: what reads its result is skipped, everything else goes on."""
        self.failed[task.key] = (task.name, error)
        self._event("task-failed", task, text=error, traceback=traceback)
        self._settle(task, succeeded=False)

    def _settle(self, task: Task, *, succeeded: bool) -> None:
        stack = [(task, succeeded)]
        while stack:
            ended, worked = stack.pop()
            self._open.discard(ended.key)
            for key in self._after[ended.key]:
                other = self._plan.tasks[self._place[key]]
                if other.key not in self._open:
                    continue
                if not worked and ended in other.inputs.values():
                    self.skipped[other.key] = other.name
                    self._open.discard(other.key)
                    self._event("task-skipped", other, text=f"it needs '{task.name}', which failed")
                    stack.append((other, False))
                    continue
                self._waiting[other.key] -= 1
                if not self._waiting[other.key]:
                    self._push(other)

    def _push(self, task: Task) -> None:
        heapq.heappush(self._ready, self._entry(task))

    def _entry(self, task: Task) -> tuple[int, float, int]:
        return self._plan.stage[task.key], -self._plan.urgency[task.key], self._place[task.key]

    def _event(self, kind: EventKind, task: Task, **details: Any) -> None:
        self._tell(Event(kind, task.key, task.name, task.kind, task.cost, **details))
