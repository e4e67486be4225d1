"""`reticket bench`: TicketBench from its first task to its page."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from reticket.cli.parameters import DataFolder, Debug
from reticket.errors import InputError

if TYPE_CHECKING:
    from reticket.bench import Bench
    from reticket.experiment import Event, ExecutionConfig
    from reticket.tasks.results import Results


def bench(
    tier: Annotated[str, typer.Option("--tier", metavar="minutes|hour|gpu", help="Which tasks.")] = "minutes",
    tasks: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="This task, of any tier; again for more.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs, their store and ticketbench.json.")] = Path(
        "runs/ticketbench"
    ),
    data: DataFolder = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Tasks at a time: processes, or threads of one.")] = 1,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads per task; decides the last bits of results.")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    executor: Annotated[
        str, typer.Option("--executor", help="What carries tasks out (reticket list executors).")
    ] = "local",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of every task; may be given again."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", min=0, help="Seconds after which it stops, shared by the tasks; resumable."),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE.json", help="Compute nothing, read this record; again to merge."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE.md", help="Write tables and figures between its marks.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the tasks and how long they would take, compute nothing.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Settle LTH > permuted > naive with accuracy beside cost; running the same command again resumes."""
    from reticket.bench import chosen_tasks, merged, read_bench, run_bench
    from reticket.bench.page import check_page, write_page
    from reticket.bench.record import FILE
    from reticket.experiment import ExecutionConfig

    if page is not None:
        check_page(page)
    if records:
        if dry_run or tasks or settings:
            raise InputError("--from computes nothing; leave --task, --set and --dry-run out")
        found = merged(*map(read_bench, records))
    else:
        execution = ExecutionConfig(
            jobs=jobs, threads=threads, device=device, executor=executor, data=data, budget=budget
        )
        names = chosen_tasks(tier, tasks or ())
        if dry_run:
            _dry_run(names, out, settings or (), execution)
            return
        shown = _Shown(debug=debug)
        found = run_bench(
            names, out, settings=settings or (), execution=execution, watch=shown.watch, on_done=shown.done
        )
        print(f"record:  {out / FILE}")
    for line in _verdicts(found, Console()):
        print(line)
    if page is not None:
        print(f"page:    {write_page(found, page)}")
    if any(task.found.failures for task in found.tasks):
        raise typer.Exit(1)


def _dry_run(names: Sequence[str], out: Path, settings: Sequence[str], execution: "ExecutionConfig") -> None:
    from reticket.bench.running import data_of
    from reticket.bench.tiers import PREFIX
    from reticket.cli.dry_run import show
    from reticket.tasks.presets import load_config

    for name in names:
        preset, config = load_config(f"{PREFIX}{name}", settings)
        show(preset, config, data_of(execution, config), out / "store")
        print()


class _Shown:
    """Shows the progress of each task, and its table when it ends."""

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug

    @contextmanager
    def watch(self, name: str) -> "Iterator[Callable[[Event], None]]":
        from reticket.bench import bench_tasks
        from reticket.cli.progress import Display

        print(f"{name}: {bench_tasks()[name]}", flush=True)
        self._display = Display(debug=self._debug)
        with self._display:
            yield self._display.show

    def done(self, results: "Results") -> None:
        from reticket.cli.accuracies import show_accuracies

        self._display.summarise(results)
        show_accuracies(results, Console())
        print()


def _verdicts(found: "Bench", console: Console) -> Iterator[str]:
    """Return the claims as lines, without columns that a narrow terminal has no room for."""
    from reticket.bench.tables import claims_table, shown_claims
    from reticket.cli.comparing import table_lines

    width = console.width if console.is_terminal else 10**6
    yield from table_lines(claims_table(found), width, ("sparsity", "p"))
    claims = [claim for task in found.tasks for claim in task.claims]
    part = "" if found.complete else "; some of it is still missing: run the same command again to go on"
    yield f"{shown_claims(claims)} (p < {found.level:g}, Holm over all of them){part}"
