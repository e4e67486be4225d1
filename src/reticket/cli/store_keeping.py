"""What `reticket store ...` does: a store looked after, a run as a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from reticket.errors import InputError
from reticket.experiment import FolderStore, KeptStore, folder_of, named_store
from reticket.experiment.archive import export_archive
from reticket.experiment.maintenance import Usage, check_store, copy_results, unneeded, usage_of
from reticket.tasks.exchange import entered_as, imported, run_files
from reticket.tasks.ownership import default_store


def check_results(place: str) -> bool:
    """Compare every result with its checksums, and say what is damaged.

    Args:
        place: the store, as the user writes it.

    Returns:
        Whether all are whole.
    """
    with _bar("checking") as progress:
        found = check_store(_opened(place), progress)
    for problem in found.damaged.values():
        print(f"reticket: {problem}")
    print(f"{place}: {found.whole} results are whole, {len(found.damaged)} damaged")
    return not found.damaged


def show_usage(place: str) -> None:
    """Print how much room results take, by kind of task, and which runs need how many of them.

    Args:
        place: the store, as the user writes it.
    """
    held = _opened(place, verify=False)
    _show(usage_of(held))
    keys = set(held.keys())
    table = Table(Column("run", overflow="fold"), "results here", "of", box=None, pad_edge=False)
    for run, needed in held.runs().items():
        table.add_row(escape(run), str(len(keys & set(needed))), str(len(needed)))
    if table.row_count:
        Console().print(table)


def collect_garbage(place: str, forget: Sequence[str], *, dry_run: bool, everything: bool) -> None:
    """Remove the results that no run needs.

    Args:
        place: the store, as the user writes it.
        forget: directories of runs that are needed no more.
        dry_run: say what would go, remove nothing.
        everything: also what runs may need that the store does not know of.
    """
    held = _opened(place, verify=False)
    known = held.runs()
    gone = [entered_as(run, known, place) for run in forget]
    found = unneeded(held, without=gone, even_of_unknown_runs=everything)
    _show(found.usage)
    if dry_run:
        print(f"{place}: {len(found.keys)} results would go ({_size(found.bytes)}), {found.kept} stay")
        return
    for run in gone:
        held.forget(run)
    removed = sum(held.remove(key) for key in found.keys)
    print(f"{place}: {removed} results removed ({_size(found.bytes)}), {found.kept} stay")


def copy_store(source: str, target: str, runs: Sequence[str]) -> None:
    """Copy results from one store to another.

    Args:
        source, target: the stores, as the user writes them.
        runs: directories of the runs whose results are copied; all results where there is none.
    """
    held = _opened(source)
    known = held.runs()
    wanted = {entered_as(run, known, source) for run in runs} or set(known)
    keys = {key for run in wanted for key in known[run]} if runs else set(held.keys())
    other = named_store(target)
    if isinstance(other, KeptStore):
        for run in sorted(wanted):
            other.enter(run, known[run])
    with _bar("copying") as progress:
        copied = copy_results(held, other, sorted(keys), progress)
    print(f"{target}: {copied.new} results copied, {copied.there} were there, {len(copied.missing)} not to be had")


def export_run(run_dir: Path, output: Path, place: str | None) -> None:
    """Write a run as one file.

    Args:
        run_dir: its directory.
        output: the archive.
        place: its store, as the user writes it; that of the directory when None.
    """
    files = run_files(run_dir)
    where = place or str(default_store(run_dir))
    if place is None and not Path(where).is_dir():
        raise InputError(f"{run_dir} has no store of its own; name the one that it was run with by --store")
    held = _opened(where)
    known = held.runs()
    keys = known[entered_as(str(run_dir), known, where)]
    with _bar("exporting") as progress:
        copied = export_archive(output, run_dir.resolve().name, held, keys, files, progress)
    left = f", {len(copied.missing)} are not computed yet" if copied.missing else ""
    print(f"written: {output} ({copied.new} results{left}, {_size(output.stat().st_size)})")


def import_run(archive: Path, output: Path | None, place: str | None) -> None:
    """Read what `export_run` wrote into a run directory and a store.

    Args:
        archive: the file.
        output: the run directory; `runs/NAME` when None.
        place: the store, as the user writes it; that of the directory when None.
    """
    with _bar("importing") as progress:
        read = imported(archive, output, place, progress)
    print(f"{read.folder}: a run, its {read.copied.new + read.copied.there} results are in {read.store}", end=" ")
    print(f"({read.copied.there} were there); `reticket report {read.folder}` draws it")


def _opened(place: str, *, verify: bool = True) -> KeptStore:
    """Return a store that is there and can be looked after."""
    folder = folder_of(place)
    if folder is not None and not (folder / "results").is_dir():
        raise InputError(f"'{place}' is no store: a folder with results/ was expected; name OUT/store of a run")
    found = named_store(place) if folder is None else FolderStore(folder, verify=verify)
    if not isinstance(found, KeptStore):
        raise InputError(f"the store '{place}' has no list of its results, so that it cannot be looked after")
    return found


def _show(usage: Mapping[str, Usage]) -> None:
    table = Table("kind of task", "results", "size", box=None, pad_edge=False)
    for kind, used in usage.items():
        table.add_row(escape(kind), str(used.results), _size(used.bytes))
    if usage:
        Console().print(table)


def _size(count: int) -> str:
    """Return bytes in the unit one would say.

    >>> _size(0), _size(1536), _size(3 * 2**30)
    ('0 bytes', '1.5 KiB', '3.0 GiB')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)
