"""What must be computed for a set of targets, in which order; planning touches no file."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from reticket.experiment.memory import without_collecting
from reticket.experiment.task import Task, closure


@runtime_checkable
class ResultIndex(Protocol):
    """Anything that knows which results exist, such as a Store."""

    def has(self, key: str) -> bool:
        """Return whether the result of `key` exists."""
        ...


@dataclass(frozen=True)
class Plan:
    """Tasks without duplicates, each after its inputs (and after what it resumes, where that is planned too).

    Among tasks that could come next, those of an earlier stage come first, then the one at the head of the longest
    remaining path of costs; ties go by the order of the targets, so equal targets give equal plans.

    Args:
        targets: the tasks whose results are wanted, without duplicates.
        tasks: every task that is to be computed, in order.
        before: by key, the keys of the planned tasks that must end before this one starts.
        urgency: by key, the cost of the longest path from the start of this task to the end of the plan.
        uses: by key, how many tasks of the plan read it, plus one where it is a target.
        stage: by key, the first stage that needs it or waits for it.
    """

    targets: tuple[Task, ...]
    tasks: tuple[Task, ...]
    before: Mapping[str, tuple[str, ...]]
    urgency: Mapping[str, float]
    uses: Mapping[str, int]
    stage: Mapping[str, int]

    @classmethod
    def of(cls, *stages: Iterable[Task]) -> "Plan":
        """Return the plan that computes targets from nothing.

        Args:
            stages: the targets; where there are several stages, the most important first. A task belongs to the first
                stage that needs it, and a later stage's tasks only start while no earlier one's can.

        >>> base = Task("base", 1, {})
        >>> ends = [Task("end", 1, {"n": n}, {"base": base}) for n in (0, 1, 1)]
        >>> plan = Plan.of(ends)
        >>> [task.kind for task in plan.tasks], plan.shared
        (['base', 'end', 'end'], 1)
        """
        sets = [_unique(targets) for targets in stages]
        stage = {task.key: number for number, targets in reversed(list(enumerate(sets))) for task in targets}
        wanted = _unique(task for targets in sets for task in targets)
        return cls._ordered(wanted, closure(wanted), stage)

    def missing(self, store: ResultIndex) -> "Plan":
        """Return the plan of what is still needed: a stored result needs no inputs of its own."""
        return self.without(store.has)

    def without(self, exists: Callable[[str], bool]) -> "Plan":
        """Return the plan of what is still needed where `exists(key)` says which results are there."""
        present: dict[str, bool] = {}
        needed: set[str] = set()
        stack = list(self.targets)
        while stack:
            task = stack.pop()
            if task.key not in present:
                present[task.key] = exists(task.key)
                if not present[task.key]:
                    needed.add(task.key)
                    stack += task.inputs.values()
        targets = tuple(task for task in self.targets if task.key in needed)
        tasks = [task for task in self.tasks if task.key in needed]
        if (len(targets), len(tasks)) == (len(self.targets), len(self.tasks)):
            return self
        return self._ordered(targets, tasks, self.stage)

    @classmethod
    @without_collecting()
    def _ordered(cls, targets: tuple[Task, ...], tasks: list[Task], stage: Mapping[str, int]) -> "Plan":
        keys = [task.key for task in tasks]
        links, order = _links(tasks)
        last = max(stage.values(), default=0)  # of what is waited for alone, before that is looked at
        urgency, first = [task.cost for task in tasks], [stage.get(key, last) for key in keys]
        for place in reversed(order):  # what follows a task has told it by then
            for other in links[place]:
                urgency[other] = max(urgency[other], tasks[other].cost + urgency[place])
                first[other] = min(first[other], first[place])  # what is waited for is as needed
        ranks = [(first[place], -urgency[place]) for place in range(len(tasks))]
        uses = Counter(key for task in tasks for key in {other.key for other in task.inputs.values()})
        uses.update(task.key for task in targets)
        return cls(
            targets=targets,
            tasks=tuple(tasks[place] for place in _in_order(links, ranks)),
            before={keys[place]: tuple(sorted(keys[other] for other in links[place])) for place in order},
            urgency=dict(zip(keys, urgency, strict=True)),
            uses=dict(uses),
            stage=dict(zip(keys, first, strict=True)),
        )

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def shared(self) -> int:
        """Number of tasks whose result serves more than one purpose."""
        return sum(self.uses.get(task.key, 0) > 1 for task in self.tasks)

    @property
    def cost(self) -> float:
        """Sum of the tasks' costs."""
        return sum(task.cost for task in self.tasks)


def followers(before: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return by key what comes after, given by key what comes before."""
    after: dict[str, list[str]] = {key: [] for key in before}
    for key, earlier in before.items():
        for other in earlier:
            after[other].append(key)
    return after


def _links(tasks: list[Task]) -> tuple[list[set[int]], list[int]]:
    """Return by place those of what a task comes after, its inputs and what it resumes, and an order that keeps this.

    Inputs cannot run in a circle. What is resumed can, because it is not part of the key: such hints are dropped.

    Args:
        tasks: each after its inputs.
    """
    place = {task.key: position for position, task in enumerate(tasks)}

    def places(earlier: Iterable[Task]) -> set[int]:
        return {place[other.key] for other in earlier if other.key in place}

    links = [places([*task.inputs.values(), *task.resumes]) for task in tasks]
    while len(order := _in_order(links, [0] * len(links))) < len(links):
        done = set(order)
        first = next(number for number in range(len(links)) if number not in done)  # its inputs are behind it
        links[first] = places(tasks[first].inputs.values()) | (links[first] & done)
    return links, order


def _in_order(links: Sequence[set[int]], ranks: Sequence[Any]) -> list[int]:
    """Return places, each after those that `links` names, the lowest rank first; none that runs in a circle.

    Args:
        links: by place those that come before it.
        ranks: by place what is compared; the earlier place where it is equal.
    """
    after: list[list[int]] = [[] for _ in links]
    for place, earlier in enumerate(links):
        for other in earlier:
            after[other].append(place)
    waiting = [len(earlier) for earlier in links]
    ready = [(ranks[place], place) for place, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        _, place = heapq.heappop(ready)
        order.append(place)
        for other in after[place]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, (ranks[other], other))
    return order


def _unique(tasks: Iterable[Task]) -> tuple[Task, ...]:
    return tuple({task.key: task for task in reversed(list(tasks))}.values())[::-1]
