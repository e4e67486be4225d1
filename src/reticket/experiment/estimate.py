"""How long a plan still takes, from its events and from how long such tasks took before."""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reticket.experiment.events import Event
from reticket.experiment.pace import Group, Pace, Spent, group_of, precision_of
from reticket.experiment.plan import Plan, followers

TRUSTED = 0.02  # below this fraction a task's own progress says too little


@dataclass
class _Running:
    started: float
    fraction: float = 0.0
    seconds: float = 0.0


class Estimate:
    """Counts the tasks of a plan and estimates the remaining time.

    What a task is expected to take is what `pace` says, or else its cost. A factor corrects that: it is learned from
    the tasks done and from the progress of those under way, for all together, for each model, and for each kind of task
    of a model. A model or kind that was seen little leans on what stands above it: n tasks count n times, what is above
    once. What is left is shared by the jobs, but takes no less than the longest chain of tasks that wait for another.

    Args:
        plan: what is to be computed.
        jobs: tasks at a time.
        pace: what was learned before.
        clock: seconds since the epoch, as events carry them.

    >>> from reticket.experiment.task import Task
    >>> tasks = [Task("train", 1, {"seed": seed}, cost=2.0) for seed in range(4)]
    >>> estimate = Estimate(Plan.of(tasks), clock=lambda: 10.0)
    >>> estimate.update(Event("task-started", key=tasks[0].key, time=0.0))
    >>> estimate.update(Event("task-done", key=tasks[0].key, time=10.0))
    >>> estimate.done, estimate.total, estimate.remaining
    (1, 4, 30.0)
    """

    def __init__(
        self, plan: Plan, jobs: int = 1, pace: Pace | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        pace = pace or Pace()
        self.total = len(plan)
        self.done = 0
        self._clock = clock
        self._jobs = jobs
        self._known = pace.tasks > 0
        self._group = _groups(plan)
        rates = {group: _or(pace.rate(group), 1.0) for group in dict.fromkeys(self._group.values())}
        self._expected = {task.key: task.cost * rates[self._group[task.key]] for task in plan.tasks}
        self._chains = _chains(plan, self._expected)
        self._left: dict[Group, float] = defaultdict(float)
        for key, expected in self._expected.items():
            self._left[self._group[key]] += expected
        self._seen: dict[Group, Spent] = {}
        self._running: dict[str, _Running] = {}
        self._open = set(self._expected)

    def update(self, event: Event) -> None:
        """Take one event in."""
        if event.key not in self._open:
            return
        if event.kind == "task-started":
            self._running[event.key] = _Running(event.time)
        elif event.kind == "progress" and event.key in self._running:
            self._running[event.key].fraction = event.fraction or 0.0
            self._running[event.key].seconds = event.seconds or 0.0
        elif event.kind == "worker-lost":
            self._running.pop(event.key, None)
        elif event.kind in ("task-done", "task-failed", "task-skipped"):
            self._end(event)

    @property
    def remaining(self) -> float | None:
        """Seconds until the plan is finished, or None while nothing is known."""
        if self.done >= self.total:
            return 0.0
        factors = self._factors()
        if factors is None:
            return None
        under_way = {key: self._left_of(key, factors[self._group[key]]) for key in self._running}
        waiting = dict(self._left)
        for key in self._running:
            waiting[self._group[key]] -= self._expected[key]
        ahead = sum(max(expected, 0.0) * factors[group] for group, expected in waiting.items())
        side_by_side = max(min(self._jobs, self.total - self.done), 1)
        return max(
            (ahead + sum(under_way.values())) / side_by_side,
            max(under_way.values(), default=0.0),
            self._longest_chain(factors, under_way),
        )

    def _end(self, event: Event) -> None:
        self.done += 1
        self._open.discard(event.key)
        group, expected = self._group[event.key], self._expected[event.key]
        self._left[group] -= expected
        begun = self._running.pop(event.key, None)
        if event.kind == "task-done" and not event.cached and begun is not None:
            # by the clock, which has the writing of results in it, not by `event.seconds`
            self._seen[group] = self._seen.get(group, Spent()) + Spent(1, event.time - begun.started, expected)

    def _factors(self) -> Mapping[Group, float] | None:
        """Return by group what the expected seconds are to be multiplied with; None while nothing was timed."""
        seen = dict(self._seen)
        for key, task in self._running.items():
            if task.fraction > TRUSTED:
                part = Spent(task.fraction, task.seconds, task.fraction * self._expected[key])
                seen[self._group[key]] = seen.get(self._group[key], Spent()) + part
        together = sum(seen.values(), Spent())
        if together.cost <= 0 and not self._known:
            return None
        overall = _leaning(together, 1.0) if self._known else together.seconds / together.cost
        models: dict[str, Spent] = defaultdict(Spent)
        for group, spent in seen.items():
            models[group.network] += spent
        return {one: _leaning(seen.get(one, Spent()), _leaning(models[one.network], overall)) for one in self._left}

    def _left_of(self, key: str, factor: float) -> float:
        task = self._running[key]
        whole = task.seconds / task.fraction if task.fraction > TRUSTED else self._expected[key] * factor
        return max(whole - (self._clock() - task.started), 0.0)

    def _longest_chain(self, factors: Mapping[Group, float], under_way: Mapping[str, float]) -> float:
        """Return how long the longest chain of tasks still takes that wait for each other."""
        while self._chains[0][-1] not in self._open:
            heapq.heappop(self._chains)
        longest, key = self._chains[0]
        factor = factors[self._group[key]]
        after = (-longest - self._expected[key]) * factor
        return after + under_way.get(key, self._expected[key] * factor)


def _groups(plan: Plan) -> dict[str, Group]:
    """Return the group of each task by key; of many tasks with one model and one data set it is worked out once."""
    known: dict[tuple[str, str, str, str | None], Group] = {}
    found = {}
    for task in plan.tasks:
        spec = task.spec
        alike = (task.kind, repr(spec.get("model")), repr(spec.get("data")), precision_of(spec))
        if alike not in known:
            known[alike] = group_of(task.kind, spec)
        found[task.key] = known[alike]
    return found


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _leaning(spent: Spent, above: float) -> float:
    """Return the factor of some tasks, in which what stands above them counts as one task."""
    if spent.cost <= 0:
        return above
    return (spent.tasks * spent.seconds / spent.cost + above) / (spent.tasks + 1)


def _chains(plan: Plan, expected: Mapping[str, float]) -> list[tuple[float, str]]:
    """Return by task, the longest first, how long it and the longest chain after it are expected to take (negative)."""
    after = followers(plan.before)
    longest: dict[str, float] = {}
    for task in reversed(plan.tasks):
        longest[task.key] = expected[task.key] + max((longest[key] for key in after[task.key]), default=0.0)
    return sorted((-seconds, key) for key, seconds in longest.items())
