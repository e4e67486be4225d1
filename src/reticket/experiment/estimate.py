"""How long a run still takes, from its events alone."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from reticket.experiment.events import Event

TRUSTED = 0.02  # below this fraction a task's own progress says too little


@dataclass
class _Running:
    kind: str
    cost: float
    started: float
    fraction: float = 0.0
    seconds: float = 0.0


class Estimate:
    """Counts tasks and estimates the remaining time: by kind, seconds per cost of what is done, times the cost left.

    Args:
        clock: seconds since the epoch, as events carry them.

    >>> estimate = Estimate(clock=lambda: 10.0)
    >>> estimate.update(Event("plan-started", work={"train": {"tasks": 4, "cost": 4.0}}, counts={"jobs": 1}, time=0.0))
    >>> estimate.update(Event("task-done", key="a", task="train", cost=1.0, seconds=10.0, time=10.0))
    >>> estimate.done, estimate.total, estimate.remaining
    (1, 4, 30.0)
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.total = 0
        self.done = 0
        self._jobs = 1
        self._left: dict[str, float] = defaultdict(float)
        self._spent: dict[str, tuple[float, float]] = {}
        self._running: dict[str, _Running] = {}

    def update(self, event: Event) -> None:
        """Take one event in."""
        if event.kind == "plan-started":
            self.total = int(sum(amount["tasks"] for amount in event.work.values()))
            self._jobs = max(event.counts.get("jobs", 1), 1)
            self._left.update({kind: amount["cost"] for kind, amount in event.work.items()})
        elif event.kind == "task-started":
            self._running[event.key] = _Running(event.task, event.cost or 0.0, event.time)
        elif event.kind == "progress" and event.key in self._running:
            self._running[event.key].fraction = event.fraction or 0.0
            self._running[event.key].seconds = event.seconds or 0.0
        elif event.kind == "worker-lost":
            self._running.pop(event.key, None)
        elif event.kind in ("task-done", "task-failed", "task-skipped"):
            self._end(event)

    @property
    def remaining(self) -> float | None:
        """Seconds until the plan is finished, or None while nothing has been timed."""
        rates = self._rates()
        if self.done >= self.total:
            return 0.0
        if not rates:
            return None
        overall = sum(rates.values()) / len(rates)
        under_way = [self._left_of(task, rates.get(task.kind, overall)) for task in self._running.values()]
        waiting = dict(self._left)
        for task in self._running.values():
            waiting[task.kind] -= task.cost
        ahead = sum(max(cost, 0.0) * rates.get(kind, overall) for kind, cost in waiting.items())
        side_by_side = max(min(self._jobs, self.total - self.done), 1)
        return max((ahead + sum(under_way)) / side_by_side, max(under_way, default=0.0))

    def _end(self, event: Event) -> None:
        self.done += 1
        cost = event.cost or 0.0
        self._left[event.task] = max(self._left[event.task] - cost, 0.0)
        self._running.pop(event.key, None)
        if event.kind == "task-done" and not event.cached and cost > 0:
            seconds, costs = self._spent.get(event.task, (0.0, 0.0))
            self._spent[event.task] = (seconds + (event.seconds or 0.0), costs + cost)

    def _rates(self) -> dict[str, float]:
        """Return seconds per cost by kind, from tasks that are done, else from the progress of those under way."""
        rates = {kind: seconds / cost for kind, (seconds, cost) in self._spent.items()}
        for task in self._running.values():
            if task.kind not in rates and task.fraction > TRUSTED and task.cost > 0:
                rates[task.kind] = task.seconds / task.fraction / task.cost
        return rates

    def _left_of(self, task: _Running, rate: float) -> float:
        whole = task.seconds / task.fraction if task.fraction > TRUSTED else task.cost * rate
        return max(whole - (self._clock() - task.started), 0.0)
