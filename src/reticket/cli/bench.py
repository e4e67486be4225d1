"""`reticket bench`: TicketBench from its first task to its page."""

from pathlib import Path
from typing import Annotated

import typer

from reticket.cli.parameters import DataFolder, Debug
from reticket.errors import InputError
from reticket.figures.text import listed

TIER, OUT, DEVICE, EXECUTOR = "minutes", Path("runs/ticketbench"), "cpu", "local"


def bench(
    tier: Annotated[str, typer.Option("--tier", metavar="minutes|hour|gpu", help="Which tasks.")] = TIER,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="This task, of any tier; again for more.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs, their store and ticketbench.json.")] = OUT,
    data: DataFolder = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Tasks at a time: processes, or threads of one.")] = 1,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads per task; decides the last bits of results.")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = DEVICE,
    executor: Annotated[
        str, typer.Option("--executor", help="What carries tasks out (reticket list executors).")
    ] = EXECUTOR,
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
    force: Annotated[
        bool, typer.Option("--force", help="Replace the reports of other experiments in the folder.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Settle LTH > permuted > naive with accuracy beside cost; running the same command again resumes."""
    from reticket.bench import chosen_tasks, read_benches
    from reticket.bench.page import check_page, write_page
    from reticket.cli.benching import plan_tasks, run_tasks, show_claims
    from reticket.experiment import ExecutionConfig

    if page is not None:
        check_page(page)
    if records:
        of_runs = {
            "--tier": tier != TIER,
            "--task": tasks,
            "--out": out != OUT,
            "--data": data,
            "--jobs": jobs != 1,
            "--threads": threads != 1,
            "--device": device != DEVICE,
            "--executor": executor != EXECUTOR,
            "--set": settings,
            "--budget": budget is not None,
            "--dry-run": dry_run,
            "--force": force,
        }
        if given := [name for name, is_given in of_runs.items() if is_given]:
            raise InputError(f"--from computes nothing; leave {listed(given)} out")
        found = read_benches(records)
    else:
        execution = ExecutionConfig(
            jobs=jobs, threads=threads, device=device, executor=executor, data=data, budget=budget
        )
        names, texts = chosen_tasks(tier, tasks or ()), tuple(settings or ())
        if dry_run:
            plan_tasks(names, out, texts, execution)
            return
        found = run_tasks(names, out, texts, execution, force=force, debug=debug)
    show_claims(found)
    if page is not None:
        written = write_page(found, page)
        print(f"page:    {page}{'' if written else ' is left as it is: no task has a row yet'}")
    if any(task.found.failures for task in found.tasks):
        raise typer.Exit(1)
