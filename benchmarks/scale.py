"""Many tasks and many results: how long a plan of 10^5 takes, a store of 10^5 to list, and a schedule to its end.

`python -m benchmarks.scale` writes results/scale.json. Each figure is of a process of its own: seconds of processor
time, seconds by the clock, and the largest resident size, torch and all imports included.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.kept import Kept, Row
from reticket.experiment import FolderStore, Plan, Task
from reticket.experiment.maintenance import usage_of
from reticket.experiment.manifest import MANIFEST, VALUES, manifest_of, pretty
from reticket.experiment.schedule import Outcome, Schedule
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config

DIGITS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))
SEEDS = 1000
GB = 2**30


def main() -> None:
    """Measure what is not in the file yet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="of the plans and stores that are made up")
    parser.add_argument("--folder", type=Path, default=None, help="where the store is made; the system's when left out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    arguments = parser.parse_args()
    kept = Kept(arguments.out)
    kept.row(f"digits with {SEEDS} seeds, planned", lambda: apart(plan_digits, SEEDS))
    kept.row(f"{arguments.tasks} tasks, planned", lambda: apart(plan_bare, arguments.tasks))
    kept.row(f"{arguments.tasks} tasks, a schedule to its end", lambda: apart(carry_out, arguments.tasks))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if f"{arguments.tasks} results, listed" not in kept.cases:
            fill(Path(folder), arguments.tasks)
        for name, work in LOOKS.items():
            kept.row(f"{arguments.tasks} results, {name}", lambda work=work: apart(look, work, folder))


def apart(work: Callable[..., Mapping[str, Any]], *arguments: Any) -> Row:
    """Return what a process of its own needed for `work`, and what it returned."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, arguments))


def _measured(work: Callable[..., Mapping[str, Any]], arguments: tuple[Any, ...]) -> Row:
    load, processor, clock = os.getloadavg()[0], time.process_time(), time.perf_counter()
    found = work(*arguments)
    return {
        "processor_seconds": round(time.process_time() - processor, 2),
        "seconds": round(time.perf_counter() - clock, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB, 3),
        "load_before": load,
        **found,
    }


def plan_digits(seeds: int) -> Row:
    """Plan every task of the preset `digits` with many seeds."""
    blueprint = Blueprint(load_config("digits", [f"grid.seeds={seeds}"])[1], DIGITS)
    return _planned(Plan.of(blueprint.targets, blueprint.compared))


def plan_bare(count: int) -> Row:
    """Plan chains of ten tasks."""
    return _planned(Plan.of(chains(count)))


def _planned(plan: Plan) -> Row:
    """Return how many tasks there are, and what is left where nothing and where everything is stored."""
    return {"tasks": len(plan), "missing": len(plan.without(lambda key: False)), "left": len(plan.without(bool))}


def chains(count: int) -> list[Task]:
    """Return tasks, each after the one before but every tenth."""
    tasks: list[Task] = []
    for n in range(count):
        tasks.append(Task("trivial", 1, {"n": n}, {"previous": tasks[-1]} if n % 10 else {}))
    return tasks


def carry_out(count: int) -> Row:
    """Drive a schedule to its end, with an event for every start and end."""
    events = 0

    def hear(event: object) -> None:
        nonlocal events
        events += 1

    schedule = Schedule(Plan.of(chains(count)), lambda key: False, hear)
    while (task := schedule.next()) is not None:
        schedule.ended(task, Outcome(0.1))
    return {"done": len(schedule.done), "events": events}


def fill(folder: Path, count: int) -> None:
    """Write a store of small results, without waiting for the disk."""
    FolderStore(folder)
    for n in range(count):
        task = Task("trivial", 1, {"n": n})
        files = {VALUES: pretty({"n": n})}
        files[MANIFEST] = manifest_of(task.key, files, {"seconds": 0.1, "task": {"kind": task.kind}})
        place = folder / "results" / task.key[:2] / task.key
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).write_bytes(content)


def look(name: str, folder: str) -> Row:
    """Open a store and ask it for its keys, and for what `name` says besides."""
    store = FolderStore(folder)
    keys = list(store.keys())
    if name == "has":
        return {"results": sum(store.has(key) for key in keys)}
    if name == "absent":
        return {"results": sum(store.has(key[::-1]) for key in keys)}
    if name == "usage":
        return {"results": sum(one.results for one in usage_of(store).values())}
    return {"results": len(keys)}


LOOKS = {
    "listed": "keys",
    "listed, and each asked for": "has",
    "listed, and as many asked for that are not there": "absent",
    "listed, and their size by kind": "usage",
}


if __name__ == "__main__":
    main()
