"""Running a plan: what is stored is kept, what is missing goes to an executor, a failure spreads only as it must."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from reticket.errors import InputError
from reticket.experiment.compute import TaskCallbacks, attempt, load_runner
from reticket.experiment.distributed import announce_plan, announce_task
from reticket.experiment.estimate import Estimate
from reticket.experiment.events import Event, Listener
from reticket.experiment.execution import EXECUTORS, ExecutionConfig, executor
from reticket.experiment.memory import keep_freed_memory
from reticket.experiment.pace import Pace
from reticket.experiment.plan import Plan
from reticket.experiment.ray_executor import on_ray
from reticket.experiment.schedule import Schedule
from reticket.experiment.slurm.executor import slurm
from reticket.experiment.store import DamagedResult, Store
from reticket.experiment.task import Task
from reticket.experiment.threads import threads as threads_of_one_process
from reticket.experiment.until import OutOfTime, Until
from reticket.experiment.workers import processes
from reticket.ranks import here


@dataclass(frozen=True)
class Summary:
    """How a plan ended.

    Args:
        done: keys of the tasks that were computed.
        cached: keys of the tasks whose results were in the store.
        failed: by key, label and error of the tasks that failed.
        skipped: by key, label of the tasks that were not tried because something they need failed.
        unfinished: keys of the tasks that were not done when the time was up.
    """

    done: tuple[str, ...]
    cached: tuple[str, ...]
    failed: Mapping[str, tuple[str, str]]
    skipped: Mapping[str, str]
    unfinished: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every target's result is in the store."""
        return not self.failed and not self.skipped and not self.unfinished


def in_process(schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig) -> None:
    """Carry a schedule out one task after another in this process, and in those that torchrun started beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(execution.threads)
    keep_freed_memory()
    announce_plan(schedule, store, runners, execution)
    try:
        while (task := schedule.next()) is not None:
            announce_task(task, runners)
            outcome = attempt(task, store, runners, execution, _callbacks(schedule, task))
            schedule.ended(task, outcome)
    finally:
        torch.set_num_threads(before)


def _callbacks(schedule: Schedule, task: Task) -> TaskCallbacks:
    return TaskCallbacks(
        progress=lambda fraction, text, seconds: schedule.progress(task, fraction, text, seconds),
        notice=lambda text: schedule.notice(task, text),
        metrics=lambda step, metrics: schedule.metrics(task, step, metrics),
    )


def local(schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig) -> None:
    """Carry a schedule out on this machine: in this process for one job, in worker processes for more."""
    (in_process if execution.jobs == 1 else processes)(schedule, store, runners, execution)


executor("local")(local)
executor("in-process")(in_process)
executor("processes")(processes)
executor("threads")(threads_of_one_process)
executor("ray", needs="ray", elsewhere=True)(on_ray)
executor("slurm", needs="submitit", elsewhere=True)(slurm)


def run_plan(
    plan: Plan,
    store: Store,
    runners: Mapping[str, str | Callable[..., Any]],
    execution: ExecutionConfig | None = None,
    *,
    on_event: Listener | None = None,
    until: Until | None = None,
) -> Summary:
    """Compute what `store` lacks of a plan.

    Args:
        plan: the tasks.
        store: where results are and go.
        runners: by kind of task, a function `f(task, inputs, context) -> Output` that can be imported, or its name as
            `package.module:function`.
        execution: how to carry them out; one after another in this process when None.
        on_event: told of everything that happens, in this process.
        until: when to stop although the plan is not finished, in place of the budget of `execution`; what is done by
            then is kept.

    Returns:
        What was computed, found, failed, skipped and left. A task that fails takes with it only what needs its result.

    Raises:
        InputError: when an argument cannot be used; before anything is computed.
        StoreError: when the store cannot be written.
        KeyboardInterrupt: after the workers were stopped; what is stored is kept.
    """
    tell = on_event or (lambda event: None)
    execution = execution or ExecutionConfig()
    if until is None and execution.budget is not None:
        until = Until(execution.budget)
    if execution.jobs > 1 and not here().alone:
        raise InputError(
            f"jobs is {execution.jobs} under torchrun, whose {here().world} processes train one model; leave jobs at 1"
        )
    rest = plan.without(lambda key: _usable(store, key, tell))
    references = _references(runners, rest)
    to_do = {task.key for task in rest.tasks}
    cached = [task.key for task in plan.tasks if task.key not in to_do and store.has(task.key)]
    tell = _estimating(rest, store, execution, tell) if rest.tasks else tell
    tell(_started(plan, rest, len(cached), execution.jobs))
    schedule = Schedule(rest, store.has, tell, until, store.claimed)
    if rest.tasks:
        with suppress(OutOfTime):
            EXECUTORS.named(execution.executor)(schedule, store, references, execution)
    summary = Summary(
        tuple(schedule.done), (*cached, *schedule.cached), schedule.failed, schedule.skipped, schedule.unfinished
    )
    names = ("done", "cached", "failed", "skipped", *(("unfinished",) if summary.unfinished else ()))
    counts = {name: len(getattr(summary, name)) for name in names}
    tell(Event("plan-finished", counts=counts, text=", ".join(f"{count} {name}" for name, count in counts.items())))
    return summary


def _usable(store: Store, key: str, tell: Listener) -> bool:
    try:
        return store.verify(key)
    except DamagedResult as error:
        tell(Event("result-damaged", key=key, text=str(error)))
        return False


def _estimating(plan: Plan, store: Store, execution: ExecutionConfig, tell: Listener) -> Listener:
    """Return what tells events with an estimate of the time that is left, of what there is to do."""
    pace = Pace.learned(store, execution)
    estimate = Estimate(plan, execution.jobs, pace)

    def told(event: Event) -> None:
        estimate.update(event)
        if event.kind == "plan-started" and pace.tasks:
            event = replace(event, counts={**event.counts, "learned": pace.tasks})
        tell(replace(event, left=estimate.remaining))

    return told


def _started(plan: Plan, rest: Plan, cached: int, jobs: int) -> Event:
    work: dict[str, dict[str, int | float]] = defaultdict(lambda: {"tasks": 0, "cost": 0.0})
    for task in rest.tasks:
        work[task.kind]["tasks"] += 1
        work[task.kind]["cost"] += task.cost
    counts = {"planned": len(plan), "shared": plan.shared, "cached": cached, "missing": len(rest), "jobs": jobs}
    text = f"{len(plan)} tasks, {plan.shared} shared; {cached} stored, {len(rest)} to compute"
    return Event("plan-started", text=text, work=dict(work), counts=counts)


def _references(runners: Mapping[str, str | Callable[..., Any]], plan: Plan) -> dict[str, str]:
    """Return the name of the runner of each kind in the plan, each of them loaded once to see that it can be."""
    references = {}
    for kind in dict.fromkeys(task.kind for task in plan.tasks):
        if kind not in runners:
            raise InputError(f"no runner for tasks of kind '{kind}', only for {', '.join(runners) or 'none'}; add one")
        runner = runners[kind]
        reference = runner if isinstance(runner, str) else f"{runner.__module__}:{runner.__qualname__}"
        loaded = load_runner(reference)
        if not isinstance(runner, str) and loaded is not runner:
            raise InputError(
                f"the runner of kind '{kind}' is not what '{reference}' names; define it at the top of a module"
            )
        references[kind] = reference
    return references
