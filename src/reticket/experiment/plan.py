"""What must be computed for a set of targets, in which order; planning touches no file."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, Self

from reticket.experiment.task import Task, closure


class Keeps(Protocol):
    """Anything that knows which results exist, such as a Store."""

    def has(self, key: str) -> bool:
        """Return whether the result of `key` exists."""
        ...


@dataclass(frozen=True)
class Plan:
    """Tasks without duplicates, each after its inputs (and after what it resumes, where that is planned too).

    Among tasks that could come next, the one at the head of the longest remaining path of costs comes first; ties go by
    the order of the targets, so equal targets give equal plans.

    Args:
        targets: the tasks whose results are wanted, without duplicates.
        tasks: every task that is to be computed, in order.
        urgency: by key, the cost of the longest path from the start of this task to the end of the plan.
        uses: by key, how many tasks of the plan read it, plus one where it is a target.
    """

    targets: tuple[Task, ...]
    tasks: tuple[Task, ...]
    urgency: Mapping[str, float]
    uses: Mapping[str, int]

    @classmethod
    def of(cls, targets: Iterable[Task]) -> Self:
        """Return the plan that computes `targets` from nothing.

        >>> base = Task("base", 1, {})
        >>> ends = [Task("end", 1, {"n": n}, {"base": base}) for n in (0, 1, 1)]
        >>> plan = Plan.of(ends)
        >>> [task.kind for task in plan.tasks], plan.shared
        (['base', 'end', 'end'], 1)
        """
        wanted = _unique(targets)
        return cls._ordered(wanted, closure(wanted))

    def missing(self, store: Keeps) -> Self:
        """Return the plan of what is still needed: a stored result needs no inputs of its own."""
        return self.without(store.has)

    def without(self, exists: Callable[[str], bool]) -> Self:
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
        )

    @classmethod
    def _ordered(cls, targets: tuple[Task, ...], tasks: list[Task]) -> Self:
        planned = {task.key for task in tasks}
        after = followers(tasks)
        urgency: dict[str, float] = {}
        place = {task.key: position for position, task in enumerate(tasks)}
        waiting = {task.key: len(predecessors(task, planned)) for task in tasks}
        # reversed topological order first, to know the longest path that hangs on each task
        for task in reversed(_topological(tasks, planned, after)):
            urgency[task.key] = task.cost + max((urgency[other.key] for other in after[task.key]), default=0.0)
        ready = [(-urgency[task.key], place[task.key], task) for task in tasks if not waiting[task.key]]
        heapq.heapify(ready)
        ordered = []
        while ready:
            *_, task = heapq.heappop(ready)
            ordered.append(task)
            for other in after[task.key]:
                waiting[other.key] -= 1
                if not waiting[other.key]:
                    heapq.heappush(ready, (-urgency[other.key], place[other.key], other))
        uses = Counter(other.key for task in tasks for other in _unique(task.inputs.values()))
        uses.update(task.key for task in targets)
        return cls(targets, tuple(ordered), MappingProxyType(urgency), MappingProxyType(dict(uses)))

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

    def summary(self, store: Keeps | None = None) -> str:
        """Return the plan in words, for a dry run: what there is, what is stored, and a line for each kind to compute.

        >>> print(Plan.of([Task("end", 1, {"n": n}, {"base": Task("base", 1, {})}) for n in (0, 1)]).summary())
        3 tasks, 1 shared
          base         1  cost 1
          end          2  cost 2
        """
        text = f"{len(self)} tasks, {self.shared} shared"
        rest = self
        if store is not None:
            rest = self.missing(store)
            text += f", {len(rest)} to compute"
        counts = Counter(task.kind for task in rest.tasks)
        costs = {kind: sum(task.cost for task in rest.tasks if task.kind == kind) for kind in counts}
        return "\n".join([text, *(f"  {kind:<12} {count}  cost {costs[kind]:.4g}" for kind, count in counts.items())])


def predecessors(task: Task, planned: set[str]) -> list[Task]:
    """Return the tasks among `planned` that come before `task`: its inputs, and what it resumes, without duplicates."""
    return [other for other in _unique([*task.inputs.values(), *task.resumes]) if other.key in planned]


def followers(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Return for the key of each of `tasks` those that come after it."""
    tasks = list(tasks)
    after: dict[str, list[Task]] = {task.key: [] for task in tasks}
    planned = set(after)
    for task in tasks:
        for other in predecessors(task, planned):
            after[other.key].append(task)
    return after


def _topological(tasks: list[Task], planned: set[str], after: dict[str, list[Task]]) -> list[Task]:
    waiting = {task.key: len(predecessors(task, planned)) for task in tasks}
    ordered = [task for task in tasks if not waiting[task.key]]
    for task in ordered:  # grows while it is read
        for other in after[task.key]:
            waiting[other.key] -= 1
            if not waiting[other.key]:
                ordered.append(other)
    return ordered


def _unique(tasks: Iterable[Task]) -> tuple[Task, ...]:
    return tuple({task.key: task for task in reversed(list(tasks))}.values())[::-1]
