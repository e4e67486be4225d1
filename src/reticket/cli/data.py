"""`reticket data check`: what is wrong with a data set's files, said before training starts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

data_app = typer.Typer(help="Look at the files of data sets.", no_args_is_help=True, rich_markup_mode="rich")


@data_app.callback()
def data() -> None:
    """Look at the files of data sets."""


@data_app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set (reticket list datasets).")],
    folder: Annotated[
        Path | None, typer.Option("--data", help="Its folder.  \\[default: RETICKET_DATA, then the system's place]")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Read every file of a data set: missing, truncated or wrong ones are named, else it is described."""
    from reticket.data.checking import check_dataset

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"checking {name}", total=None)
        found = check_dataset(
            name, folder=folder, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    for problem in found.problems:
        print(f"reticket: {problem}")
    if found.problems:
        print(f"{name}: {len(found.problems)} broken files")
        raise typer.Exit(2)
    table = Table(box=None, pad_edge=False, show_header=False)
    for what, value in found.facts.items():
        table.add_row(f"[bold]{what}[/]", escape(value))
    Console().print(table)
    print(f"{name}: no problem found")
