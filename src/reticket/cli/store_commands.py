"""The commands `reticket store ...`; what they do is imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

from reticket.cli.parameters import Debug

store_app = typer.Typer(
    help="Look after stores of results, and pass runs on as single files.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
StoreName = Annotated[str, typer.Argument(metavar="STORE", help="A folder, or NAME:TEXT (reticket list stores).")]


@store_app.callback()
def store() -> None:
    """Look after stores of results, and pass runs on as single files."""


@store_app.command()
def check(place: StoreName, debug: Debug = False) -> None:
    """Compare every result with its checksums; damaged ones are moved aside, and a run computes them anew."""
    from reticket.cli.store_keeping import check_results

    if not check_results(place):
        raise typer.Exit(1)


@store_app.command()
def du(place: StoreName, debug: Debug = False) -> None:
    """Show how much room results take, by kind of task, and how many of them each run needs."""
    from reticket.cli.store_keeping import show_usage

    show_usage(place)


@store_app.command()
def gc(
    place: StoreName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, remove nothing.")] = False,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", metavar="RUN_DIR", help="A run that is needed no more; may be given again."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what runs from before runs were noted may need.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Remove the results that no run needs; what a run on this store is made of stays until it is forgotten."""
    from reticket.cli.store_keeping import collect_garbage

    collect_garbage(place, forget or (), dry_run=dry_run, everything=everything)


@store_app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A store.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Another one; made if absent.")],
    runs: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="RUN_DIR", help="Only what this run needs; may be given again."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Copy results from one store to another, each verified on its way; what is there already stays."""
    from reticket.cli.store_keeping import copy_store

    copy_store(source, target, runs or ())


@store_app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The directory of a run.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.tar", help="Where the archive goes.")],
    place: Annotated[str | None, typer.Option("--store", help="Of the run.  \\[default: RUN_DIR/store]")] = None,
    debug: Debug = False,
) -> None:
    """Write one run, with every result it is made of, as one file that somebody else can import and verify."""
    from reticket.cli.store_keeping import export_run

    export_run(run_dir, output, place)


@store_app.command("import")
def import_(
    archive: Annotated[Path, typer.Argument(metavar="FILE.tar", help="What export wrote.")],
    output: Annotated[Path | None, typer.Option("--out", help="Run directory.  \\[default: runs/NAME]")] = None,
    place: Annotated[str | None, typer.Option("--store", help="Where results go.  \\[default: OUT/store]")] = None,
    debug: Debug = False,
) -> None:
    """Read an exported run: everything in it is verified, then its results go into a store, its files into OUT."""
    from reticket.cli.store_keeping import import_run

    import_run(archive, output, place)
