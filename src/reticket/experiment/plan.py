"""What must be computed for a set of targets, in which order; planning touches no file."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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
        stage: dict[str, int] = {}
        for number, targets in enumerate(sets):
            for task in closure(targets):
                stage.setdefault(task.key, number)
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
        return self._ordered(
            tuple(task for task in self.targets if task.key in needed),
            [task for task in self.tasks if task.key in needed],
            {key: number for key, number in self.stage.items() if key in needed},
        )

    @classmethod
    def _ordered(cls, targets: tuple[Task, ...], tasks: list[Task], stage: Mapping[str, int]) -> "Plan":
        before = _links(tasks)
        after = followers(before)
        place = {task.key: position for position, task in enumerate(tasks)}
        waiting = {key: len(keys) for key, keys in before.items()}
        urgency: dict[str, float] = {}
        stage = dict(stage)
        for key in reversed(before):
            longest = max((urgency[other] for other in after[key]), default=0.0)
            urgency[key] = tasks[place[key]].cost + longest
            stage[key] = min((stage[key], *(stage[other] for other in after[key])))  # what is waited for is as needed
        ready = [(stage[key], -urgency[key], place[key]) for key, count in waiting.items() if not count]
        heapq.heapify(ready)
        ordered = []
        while ready:
            task = tasks[heapq.heappop(ready)[-1]]
            ordered.append(task)
            for other in after[task.key]:
                waiting[other] -= 1
                if not waiting[other]:
                    heapq.heappush(ready, (stage[other], -urgency[other], place[other]))
        uses = Counter(other.key for task in tasks for other in _unique(task.inputs.values()))
        uses.update(task.key for task in targets)
        return cls(targets, tuple(ordered), before, urgency, dict(uses), stage)

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


def _links(tasks: list[Task]) -> dict[str, tuple[str, ...]]:
    """Return by key what a task comes after: its inputs and what it resumes, in an order that keeps this.

    Inputs cannot run in a circle. What is resumed can, because it is not part of the key: such hints are dropped.

    Args:
        tasks: each after its inputs.
    """
    planned = {task.key for task in tasks}
    inputs = {task.key: {other.key for other in task.inputs.values()} & planned for task in tasks}
    hints = {task.key: ({other.key for other in task.resumes} & planned) - inputs[task.key] for task in tasks}
    ordered: dict[str, tuple[str, ...]] = {}
    left = [task.key for task in tasks]
    while left:
        held = []
        for key in left:
            if inputs[key] <= ordered.keys() and hints[key] <= ordered.keys():
                ordered[key] = tuple(sorted(inputs[key] | hints[key]))
            else:
                held.append(key)
        if len(held) == len(left):
            hints[next(key for key in held if inputs[key] <= ordered.keys())] &= ordered.keys()
        left = held
    return ordered


def _unique(tasks: Iterable[Task]) -> tuple[Task, ...]:
    return tuple({task.key: task for task in reversed(list(tasks))}.values())[::-1]
