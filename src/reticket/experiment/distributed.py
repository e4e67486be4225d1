"""A plan carried out by the processes that torchrun started, one for each device.

The first process walks the plan, computes most tasks alone and writes the store. A task whose runner is `collective` it
announces by key; then all of them call its runner, which finds its place among them in `context.ranks`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from reticket.errors import RanksError, ReticketError, StoreError
from reticket.experiment.compute import Context, is_collective, load_runner
from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.memory import keep_freed_memory
from reticket.experiment.schedule import Schedule
from reticket.experiment.store import Store, open_store
from reticket.experiment.task import Task, from_flat, to_flat
from reticket.ranks import Ranks, here, joined


def announce_plan(schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig) -> None:
    """Tell the other processes, where there are any, what there is to do, and with what."""
    if here().alone:
        return
    here().broadcast_object(
        {
            "store": dict(store.address),
            "runners": dict(runners),
            "threads": execution.threads,
            "settings": execution.facts,
            "tasks": to_flat(schedule.tasks),
        }
    )


def announce_task(task: Task, runners: Mapping[str, str]) -> None:
    """Call the other processes to a task, if it is one for all of them."""
    if is_collective(runners[task.kind]):
        here().broadcast_object({"key": task.key})


@contextmanager
def taking_part(device: str) -> Iterator[str | None]:
    """Join the processes that torchrun started, if it did.

    Args:
        device: "cpu" or "cuda".

    Yields:
        To the first process, or the only one, its own device; to another None, when its part is done.
    """
    with joined(device) as (ranks, own):
        if not ranks.first:
            _follow(ranks, own)
            yield None
            return
        try:
            yield own
        finally:
            with suppress(RanksError):
                ranks.broadcast_object({"leave": True})


def _follow(ranks: Ranks, device: str) -> None:
    """Take part in what the first process announces, until it lets this one go.

    Args:
        ranks: this process's place; not the first.
        device: this process's own.

    Raises:
        RanksError: when touch is lost with another process.
        Exception: of a kind that this process may have met alone; ending is how the others notice.
    """
    keep_freed_memory()
    setup: dict[str, Any] = {}
    tasks: dict[str, Task] = {}
    while "leave" not in (order := ranks.broadcast_object(None)):
        if "store" in order:
            setup, tasks = order, {task.key: task for task in from_flat(order["tasks"])}
            torch.set_num_threads(setup["threads"])
        else:
            _take_part(tasks[order["key"]], setup, ranks, device)


def _take_part(task: Task, setup: dict[str, Any], ranks: Ranks, device: str) -> None:
    store = open_store(setup["store"])
    context = Context(
        threads=setup["threads"],
        device=device,
        scratch=store.scratch(task.key),
        settings=setup["settings"],
        ranks=ranks,
    )
    try:
        inputs = {name: store.get(other.key) for name, other in task.inputs.items()}
        load_runner(setup["runners"][task.kind])(task, inputs, context)
    except ReticketError as error:
        if isinstance(error, RanksError | StoreError):
            raise
        # such as a loss that is not finite: every process sees it, and the first one says so
