"""The order of work: an experiment that is cut short has fewer seeds of what decides something, and no hole."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from reticket.experiment import Event, ExecutionConfig, Plan, Task
from reticket.experiment.schedule import Schedule
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.networks import Facts
from reticket.tasks.order import DECISIVE, by_seed
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.running import run_experiment

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,), test_size=500)
TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
Order = Callable[[Sequence[Blueprint]], list[list[Task]]]


def blueprint(*settings: str) -> Blueprint:
    return Blueprint(load_config("digits", ("seeds=3", "sparsities=[0.9, 0.98]", *settings))[1], FACTS)


def in_order(made: Sequence[Blueprint], order: Order = by_seed) -> list[str]:
    """Return the keys in the order in which one process computes them."""
    plan = Plan.of(*order(made))
    schedule, keys = Schedule(plan, lambda key: False, lambda event: None), []
    while (task := schedule.next()) is not None:
        keys.append(task.key)
        schedule.finish(task, 1.0)
    assert schedule.finished
    return keys


def check_no_holes(made: Blueprint, order: Order) -> None:
    """Wherever one process is cut off, cells that decide something lack at most its latest seed, others come later."""
    place = {key: number for number, key in enumerate(in_order([made], order))}
    decisive = [tasks for cell, tasks in made.runs.items() if cell.method in DECISIVE]
    table = [tasks for cell, tasks in made.runs.items() if cell.method not in DECISIVE | {"dense", "imp"}]
    of_table = {one.key for tasks in made.runs.values() for one in tasks}
    checks = [one for one in made.targets if one.key not in of_table and one.kind in ("barrier", "overlap")]
    assert checks
    for cells in (decisive, table):
        seeds = [[place[tasks[n].key] for tasks in cells] for n in range(3)]
        assert all(max(one) < min(other) for one, other in pairwise(seeds))
    last = max(place[tasks[-1].key] for tasks in decisive)
    assert last < min(place[tasks[0].key] for tasks in table)
    assert max(place[tasks[-1].key] for tasks in table) < min(place[one.key] for one in checks)


def at_once(made: Sequence[Blueprint]) -> list[list[Task]]:
    return [[task for one in made for task in one.targets]]


def without_what_decides(made: Sequence[Blueprint]) -> list[list[Task]]:
    return by_seed(made)[3:]


def backwards(made: Sequence[Blueprint]) -> list[list[Task]]:
    stages = by_seed(made)
    return [*stages[2::-1], *stages[3:]]


def test_seeds_come_one_after_another_what_decides_first_and_checks_last() -> None:
    check_no_holes(blueprint(), by_seed)


@pytest.mark.parametrize("order", [at_once, without_what_decides, backwards])
def test_another_order_is_noticed(order: Order) -> None:
    with pytest.raises(AssertionError):
        check_no_holes(blueprint(), order)


def test_the_order_changes_nothing_that_is_computed() -> None:
    made = [blueprint(), blueprint("grid.seeds=[7]", "grid.methods=['dense', 'erk']")]
    assert sorted(in_order(made)) == sorted(in_order(made, at_once))


def test_what_decides_waits_for_no_pruning_of_b() -> None:
    plan = Plan.of(*by_seed([blueprint()]))
    early = [task for task in plan.tasks if plan.stage[task.key] < 3]
    assert not [task.label for task in early if task.kind == "prune-round" and " B" in task.label]
    assert {task.spec["method"] for task in early if task.kind == "sparse"} == DECISIVE


@pytest.mark.slow
def test_a_run_that_is_interrupted_reports_fewer_seeds(tmp_path: Path) -> None:
    settings = ("grid.seeds=3", "grid.sparsities=[0.7]", "checks.barriers=false", "checks.overlap=false")
    config, out, ended = load_config(TINY, (*settings, "checks.diversity_members=0"))[1], tmp_path / "run", []

    def interrupt(event: Event) -> None:
        if event.kind == "task-done" and event.label.startswith(("lth", "permuted", "naive 7")):
            ended.append(event.label)
            if len(ended) == 8:  # of six a seed: three methods at two rewind points
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, out, on_event=interrupt)
    run_experiment(config, out, execution=ExecutionConfig(budget=0))
    results = Results.load(out)
    counts = {(row.method, row.rewind): row.n for row in results.rows if row.method in DECISIVE}
    assert not results.complete
    assert set(counts) == {(method, rewind) for method in DECISIVE for rewind in ("0it", "1ep")}
    assert sorted(counts.values()) == [1, 1, 1, 1, 2, 2]
    assert {row.method for row in results.rows} == {*DECISIVE, "dense", "imp"}
    assert all(row.seeds == tuple(range(row.n)) for row in results.rows)
