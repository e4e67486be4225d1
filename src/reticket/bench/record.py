"""`ticketbench.json`: of every task its results and its claims, in one file that a page is written from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, ValidationError

from reticket.bench.claims import LEVEL, ClaimRow, judged
from reticket.bench.tiers import of_whom
from reticket.errors import InputError
from reticket.files import write_file
from reticket.records import Record, damage
from reticket.tasks.results import Results
from reticket.tasks.run_files import read_json

SCHEMA = 1
FILE = "ticketbench.json"
KEPT = ("schema", "title", "preset", "scale", "complete", "experiment", "rows", "gap_closed", "differences")
KEPT += ("cost", "failures", "environment", "diversity")


class BenchTask(Record):
    """One task: what was planned, what was found, and what is claimed of it."""

    name: str = Field(description="of the task; its preset is named ticketbench-NAME")
    seeds: int = Field(description="pairs of networks that were planned")
    claims: tuple[ClaimRow, ...] = Field(description="LTH > permuted > naive in every cell")
    changed: Mapping[str, tuple[Any, Any]] = Field(
        default={}, description="keys whose values are not the preset's: what they are there, and here; but the seeds"
    )
    results: Mapping[str, Any] = Field(description="sections of `results.json` without the keys of results")

    @cached_property
    def found(self) -> Results:
        """The results, as the report reads them."""
        return Results.of_json(self.results, f"results of task '{self.name}'")

    @property
    def begun(self) -> bool:
        """Whether a row of its table is there."""
        return bool(self.found.rows)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing failed."""
        return self.found.complete


class Bench(Record):
    """What TicketBench found."""

    schema_version: int = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema", description="version of this format"
    )
    level: float = Field(default=LEVEL, description="at which claims are settled, all of them together")
    tasks: tuple[BenchTask, ...] = Field(default=(), description="in the order in which they were asked for")

    @property
    def complete(self) -> bool:
        """Whether every task is."""
        return all(task.complete for task in self.tasks)


def task_of(
    name: str,
    seeds: int,
    results: Results,
    claims: Sequence[ClaimRow],
    changed: Mapping[str, tuple[Any, Any]] = MappingProxyType({}),
) -> BenchTask:
    """Return the record of one task.

    Args:
        name: of the task.
        seeds: that were planned.
        results: of its run.
        claims: of it.
        changed: keys whose values are not the preset's, with both.
    """
    whole = results.to_json()
    kept = {key: _without_keys(whole[key]) for key in KEPT if key in whole}
    return BenchTask(name=name, seeds=seeds, claims=tuple(claims), changed=changed, results=kept)


def bench_of(tasks: Iterable[BenchTask], level: float = LEVEL) -> Bench:
    """Return the record of tasks, their claims judged together: the family of the adjustment is all that they claim.

    A task that compares more methods on the first pairs of another one, as `digits-methods` of `digits`, claims nothing
    beside that: it would be the same networks once more.

    Args:
        tasks: each once.
        level: at which claims are settled.
    """
    found = tuple(tasks)
    names = {task.name for task in found}
    found = tuple(task.model_copy(update={"claims": ()}) if of_whom(task.name) in names else task for task in found)
    settled = iter(judged([claim for task in found for claim in task.claims], level))
    return Bench(
        level=level,
        tasks=tuple(task.model_copy(update={"claims": tuple(next(settled) for _ in task.claims)}) for task in found),
    )


def merged(*benches: Bench) -> Bench:
    """Return records as one; of a task that stands in several, the last counts.

    Args:
        benches: at least one.
    """
    tasks = {task.name: task for bench in benches for task in bench.tasks}
    return bench_of(tasks.values(), benches[-1].level)


def read_bench(path: Path) -> Bench:
    """Return the record in a file.

    Args:
        path: a `ticketbench.json`.

    Raises:
        InputError: when it is not there, damaged, or of another schema.
    """
    if not path.is_file():
        inside = path / FILE
        found = inside if inside.is_file() else f"the {FILE} that `reticket bench` wrote"
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; give {found}")
    values = read_json(path)
    if "title" in values:  # results.json or sweep.json
        above = path.absolute().parent.parent / FILE
        found = path.parent.parent / FILE if above.is_file() else f"the {FILE} that `reticket bench` wrote"
        raise InputError(f"{path}: is of one run and no record of TicketBench; give {found}")
    if values.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: has schema {values.get('schema')!r}, this version reads schema {SCHEMA} of TicketBench; "
            f"give a {FILE}, or run `reticket bench` again"
        )
    try:
        bench = Bench.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {damage(error, Bench)}; run `reticket bench` again") from None
    for task in bench.tasks:
        Results.of_json(task.results, f"{path}: task '{task.name}'")
    return bench


def read_benches(paths: Sequence[Path]) -> Bench:
    """Return the records in some files as one.

    Args:
        paths: at least one `ticketbench.json`.

    Raises:
        InputError: as `read_bench`; also when two of them have results of one task, which are not the same.
    """
    found = {path: read_bench(path) for path in paths}
    first: dict[str, tuple[Path, BenchTask]] = {}
    for path, bench in found.items():
        for task in bench.tasks if len(found) > 1 else ():
            other, theirs = first.setdefault(task.name, (path, task))
            if _found(theirs) != _found(task):
                raise InputError(
                    f"{other} and {path} both have results of task '{task.name}', and they are not the same; give one "
                    f"of them, or run the task once with all its pairs"
                )
    return merged(*found.values())


def _found(task: BenchTask) -> tuple[Any, ...]:
    """Return what was found and of what, without where and when it was put together."""
    return task.changed, {name: one for name, one in task.results.items() if name not in ("environment", "cost")}


def write_bench(bench: Bench, path: Path) -> None:
    """Write a record.

    Args:
        bench: the record.
        path: the file.

    Raises:
        InputError: when it cannot be written.
    """
    text = json.dumps(bench.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False) + "\n"
    write_file(path, text, error=InputError, advice="choose another folder with --out")


def _without_keys(value: Any) -> Any:
    """Return a section without what only its own store can look up."""
    if isinstance(value, Mapping):
        return {key: [] if key == "keys" else _without_keys(one) for key, one in value.items()}
    return [_without_keys(one) for one in value] if isinstance(value, list) else value
