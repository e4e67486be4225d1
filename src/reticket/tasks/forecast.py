"""What a plan comes to before it is carried out: work by kind of task, what sharing saves, an estimate of time."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from reticket.experiment import Pace, Plan, Task
from reticket.experiment.pace import network_of
from reticket.experiment.plan import ResultIndex
from reticket.experiment.task import closure
from reticket.tasks.check import checks
from reticket.tasks.dynamics import looked_at
from reticket.tasks.networks import matching_work
from reticket.tasks.timing import Speed, step_of
from reticket.tasks.work import Sizes, Work
from reticket.training import steps_per_epoch

Speeds: TypeAlias = Mapping[tuple[str, str], Speed]
SYMMETRY_SECONDS = 10.0  # discovering and proving, of whatever model: an assumption, not a measurement


@dataclass
class Total:
    """The tasks of one kind: how many, how many of them serve several purposes, and their work."""

    tasks: int = 0
    shared: int = 0
    work: Work = field(default_factory=Work)


@dataclass(frozen=True)
class Forecast:
    """A plan in numbers.

    Args:
        kinds: by kind of task what is to be computed.
        stored: tasks whose results exist.
        work: by key the work of each task to be computed.
        apart: epochs of training if every result were made on its own, sharing nothing.
        plan: what is to be computed.
    """

    kinds: Mapping[str, Total]
    stored: int
    work: Mapping[str, Work]
    apart: int | float
    plan: Plan

    @property
    def epochs(self) -> int | float:
        """Epochs of training to be done."""
        return sum(total.work.epochs for total in self.kinds.values())

    def learned(self, pace: Pace) -> dict[str, float] | None:
        """Return by key the seconds of each task, as such tasks took before; None where a model was not seen before."""
        found: dict[str, float] = {}
        for task in self.plan.tasks:
            seconds = pace.seconds(task) if pace.knows(task) or not network_of(task.spec) else None
            if seconds is None:
                return None
            found[task.key] = seconds
        return found

    def timed(self, speeds: Speeds) -> dict[str, float]:
        """Return by key the seconds of each task.

        Args:
            speeds: of each model, by `network_of`, and of each way to take a step, by `step_of`.
        """
        otherwise = {network: speed for (network, _), speed in reversed(list(speeds.items()))}
        return {task.key: self._timed(task, speeds, otherwise) for task in self.plan.tasks}

    def by_kind(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return by kind of task the seconds of one process after the other, given those of each task by key."""
        found: dict[str, float] = defaultdict(float)
        for task in self.plan.tasks:
            found[task.kind] += seconds[task.key]
        return dict(found)

    def elapsed(self, seconds: Mapping[str, float], jobs: int) -> float:
        """Return the seconds that `jobs` processes take: as many share the work, but none shortens a chain of tasks."""
        until: dict[str, float] = {}
        for task in self.plan.tasks:
            waited = max((until[key] for key in self.plan.before[task.key]), default=0.0)
            until[task.key] = waited + seconds[task.key]
        return max(sum(seconds.values()) / jobs, max(until.values(), default=0.0))

    def _timed(self, task: Task, speeds: Speeds, otherwise: Mapping[str, Speed]) -> float:
        work, way = self.work[task.key], way_of(task.spec)
        speed = speeds.get(way, otherwise.get(way[0]))
        if speed is None:  # a task of no model
            return float(work.seconds)
        return float(work.seconds + work.trained * speed.training + work.evaluated * speed.evaluation)


def way_of(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return what decides how fast a task computes: its network, and how it takes a step; "" where it takes none."""
    return network_of(spec), step_of(spec["recipe"]) if "recipe" in spec else ""


def forecast(
    targets: Iterable[Task], work_of: Callable[[Task, Task | None], Work], store: ResultIndex | None = None
) -> Forecast:
    """Return what `targets` come to.

    Args:
        targets: the tasks whose results are wanted.
        work_of: the work of a task, given the point of its trajectory that it resumes (None: from nothing).
        store: where results may exist already.
    """
    whole = Plan.of(targets)
    plan = whole if store is None else whole.missing(store)
    there = {task.key for task in plan.tasks}

    def ready(task: Task) -> bool:
        return task.key in there or (store is not None and store.has(task.key))

    work = {task.key: work_of(task, _resumed(task, ready)) for task in plan.tasks}
    kinds: dict[str, Total] = defaultdict(Total)
    for task in plan.tasks:
        total = kinds[task.kind]
        total.tasks += 1
        total.shared += plan.uses.get(task.key, 0) > 1
        total.work += work[task.key]
    alone = {task.key: work_of(task, None).epochs for task in whole.tasks}
    apart = sum(sum(alone[task.key] for task in closure([target])) for target in whole.targets)
    return Forecast(dict(kinds), len(whole) - len(plan), work, apart, plan)


def work_of(task: Task, resumed: Task | None, sizes: Sizes) -> Work:
    """Return the work of a task of an experiment.

    Args:
        task: any of `tasks.runners`, or of a check.
        resumed: the point of its trajectory that it goes on from; None for the initialisation.
        sizes: of the data it is about.
    """
    spec = task.spec
    if task.kind in ("dense", "prune-round", "sparse"):
        recipe = spec["recipe"]
        per_epoch = steps_per_epoch(sizes.train, recipe["batch_size"])
        start = (resumed.spec["at"] if resumed else 0) if task.kind == "dense" else spec["start"]
        end = spec["at"] if task.kind == "dense" else recipe["epochs"] * per_epoch
        epochs = (end - start) / per_epoch + looked_at(spec, end - start) / sizes.train
        return Work(trained=epochs * sizes.train, evaluated=sizes.test, epochs=epochs)
    if task.kind == "match":
        return matching_work(spec, task.inputs, sizes)
    if task.kind == "symmetry":
        return Work(seconds=SYMMETRY_SECONDS)
    return next(check for check in checks() if task.kind in check.runners).work(task, sizes)


def _resumed(task: Task, ready: Callable[[Task], bool]) -> Task | None:
    """Return the nearest earlier point of a task's trajectory that will be there."""
    for earlier in task.resumes:
        if ready(earlier):
            return earlier
        further = _resumed(earlier, ready)
        if further is not None:
            return further
    return None
