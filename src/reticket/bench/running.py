"""Carrying TicketBench out: its tasks one after the other, as ordinary runs that share a store."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from reticket.bench.claims import claims_of
from reticket.bench.record import FILE, Bench, bench_of, merged, read_bench, task_of, write_bench
from reticket.bench.tiers import PREFIX
from reticket.errors import InputError
from reticket.experiment import Event, ExecutionConfig
from reticket.tasks.config import Config
from reticket.tasks.ownership import difference, differing, refuse_foreign_file, refuse_other, release
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.workflow import run


def _unwatched(name: str) -> AbstractContextManager[Callable[[Event], None]]:
    return nullcontext(lambda event: None)


def run_bench(
    names: Sequence[str],
    out: Path,
    *,
    settings: Iterable[str] = (),
    execution: ExecutionConfig | None = None,
    force: bool = False,
    watch: Callable[[str], AbstractContextManager[Callable[[Event], None]]] = _unwatched,
    on_done: Callable[[Results], None] = lambda results: None,
) -> Bench:
    """Run what is missing of some tasks and write `out/ticketbench.json`, after each of them.

    Each task is a run of its own in `out/NAME`, with `out/store` for all; running again goes on. A budget of
    `execution` is shared: each task gets an equal part of what is left when it begins.

    Args:
        names: of tasks.
        out: the folder; tasks that its record has from before stay in it.
        settings: `key=value` texts as `--set` takes them, for every task.
        execution: how to carry it out.
        force: replace the reports of other experiments in these folders; the store is kept.
        watch: from a task's name to a context in which it runs, and what is told of its events.
        on_done: told of the results of each task.

    Returns:
        The record: these tasks and those from before, their claims judged together.

    Raises:
        ConfigError, DataError: before anything is computed.
        InputError: when the record cannot be read or written.
    """
    execution, texts, file = execution or ExecutionConfig(), list(settings), out / FILE
    configs = {name: load_config(f"{PREFIX}{name}", texts)[1] for name in names}
    for name, config in configs.items():
        if force:
            refuse_foreign_file(config, out / name)
        else:
            refuse_other(config, out / name)
        plan_experiment(config, folder=data_of(execution, config).folder, threads=execution.threads)
    before = _before(file)
    for name, config in configs.items():
        if difference(config, out / name):
            release(config, out / name)
    started, tasks = time.monotonic(), []
    for number, (name, config) in enumerate(configs.items()):
        part = with_budget(data_of(execution, config), time.monotonic() - started, len(configs) - number)
        where = {"name": f"{PREFIX}{name}", "out": out / name, "store": out / "store"}
        with watch(name) as tell:
            results = run(config, **where, execution=part, on_event=tell)
        changed = dict(differing(load_config(f"{PREFIX}{name}")[1], config))
        changed.pop("grid.seeds", None)  # which n tells
        tasks.append(task_of(name, len(config.grid.seeds), results, claims_of(results, config.grid), changed))
        write_bench(merged(*before, bench_of(tasks)), file)
        on_done(results)
    return merged(*before, bench_of(tasks))


def _before(file: Path) -> list[Bench]:
    try:
        return [read_bench(file)] if file.is_file() else []
    except InputError as error:
        raise InputError(
            f"the record of earlier tasks cannot be gone on with ({error}); move it away: the runs beside it are kept, "
            f"and running their tasks again takes what they have"
        ) from None


def data_of(execution: ExecutionConfig, config: Config) -> ExecutionConfig:
    """Return how to carry a task out with its own data: a folder that has one named as the data set stands for that.

    Args:
        execution: of the whole bench; its data may be one data set's folder, or hold several.
        config: of the task.
    """
    own = None if execution.folder is None else execution.folder / config.data.name
    return replace(execution, data=own) if own is not None and own.is_dir() else execution


def with_budget(execution: ExecutionConfig, spent: float, left: int) -> ExecutionConfig:
    """Return how to carry the next task out: with an equal part of what is left of the budget, if there is one.

    Args:
        execution: of the whole bench.
        spent: seconds since its start.
        left: tasks that are left, the next one included.
    """
    if execution.budget is None:
        return execution
    return replace(execution, budget=max(0.0, execution.budget - spent) / left)
