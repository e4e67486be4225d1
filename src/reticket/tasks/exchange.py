"""A run as one file: out of its directory and store, and back into another directory and store."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from reticket.errors import InputError
from reticket.experiment import KeptStore, Store, named_store
from reticket.experiment.archive import Archive, import_archive
from reticket.experiment.maintenance import Copied
from reticket.files import reason, write_file
from reticket.tasks.ownership import RUNS, default_store

RUN_FILES = ("config.toml", "environment.json", "results.json", "sweep.json", "metrics.jsonl")  # the others are drawn
ADVICE = "give another --out"


@dataclass(frozen=True)
class Imported:
    """A run that came out of an archive.

    Args:
        folder: its directory.
        store: what the user called its store, or where it is.
        copied: how many of its results the store did not have.
    """

    folder: Path
    store: str
    copied: Copied


def run_files(run_dir: Path) -> dict[str, bytes]:
    """Return what a run directory holds besides what is drawn from it, by path below it; a sweep's below it too.

    Args:
        run_dir: the directory.

    Raises:
        InputError: when no experiment has results there, or a file cannot be read.
    """
    folders = [run_dir, *sorted(path.parent for path in run_dir.glob("*/results.json"))]
    try:
        files = {
            (folder / name).relative_to(run_dir).as_posix(): (folder / name).read_bytes()
            for folder in folders
            for name in RUN_FILES
            if (folder / name).is_file()
        }
    except OSError as error:
        raise InputError(f"{run_dir}: cannot be read ({reason(error)})") from None
    if not any(Path(name).name == "results.json" for name in files):
        raise InputError(f"{run_dir}: holds no results.json; run `reticket run` into it first")
    return files


def entered_as(run: str, known: Collection[str], store: str) -> str:
    """Return a run as a store knows it.

    Args:
        run: its directory, as the user writes it.
        known: the runs that were entered.
        store: what the user calls the store.

    Raises:
        InputError: when the store does not know it.
    """
    found = next((name for name in (run, str(Path(run).resolve())) if name in known), None)
    if found is None:
        raise InputError(
            f"the store '{store}' knows no run '{run}', only {', '.join(known) or 'none at all'}; run it on this "
            f"store, which computes nothing anew, or name its store"
        )
    return found


def imported(path: Path, out: Path | None, store: str | None, progress: Callable[[int, int], None]) -> Imported:
    """Verify an archive, put its results into a store and its files into a run directory.

    Args:
        path: of the archive.
        out: the run directory; `runs/NAME` when None.
        store: folder or `NAME:TEXT`; the run directory's own when None.
        progress: told after each result.

    Raises:
        InputError: when the archive is damaged or the directory is another run's; nothing was changed then.
        StoreError: when the store cannot be written.
    """
    opened: list[tuple[Path, Store]] = []

    def open_for(archive: Archive, files: Mapping[str, bytes]) -> Store:
        folder = out or RUNS / archive.name
        _refuse_other(folder, files)
        opened.append((folder, named_store(store or default_store(folder))))
        return opened[0][1]

    archive, files, copied = import_archive(path, open_for, progress)
    folder, results = opened[0]
    for name, content in files.items():
        write_file(folder / name, content, error=InputError, advice=ADVICE, folders=True)
    if isinstance(results, KeptStore):
        results.enter(str(folder.resolve()), archive.keys)
    return Imported(folder, store or str(default_store(folder)), copied)


def _refuse_other(folder: Path, files: Mapping[str, bytes]) -> None:
    """Refuse a directory that has results of another experiment."""
    there = any((folder / name).is_file() for name in ("results.json", "sweep.json"))
    try:
        same = not there or (folder / "config.toml").read_bytes() == files.get("config.toml")
    except OSError:
        same = False
    if not same:
        raise InputError(f"{folder} holds the results of another experiment; {ADVICE}")
