"""One run as one file: its results and the files of its directory in a tar archive that says what must be in it.

    archive.json                       format, name of the run, sha256 of its files, keys of its results; the first
    run/results.json                   the files of its directory, as they were
    store/results/ab/ab12.../...       its results, in the form of a store of their own

The archive is not compressed: weights hardly shrink, and a file of so many bytes holds no more than that. The same
run gives the same bytes.
"""

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from reticket.errors import InputError, StoreError
from reticket.experiment.folder import FolderStore
from reticket.experiment.maintenance import Copied, check_store, copy_results
from reticket.experiment.manifest import MANIFEST, TENSORS, VALUES
from reticket.experiment.store import Store
from reticket.files import check_plain, reason

FORMAT = 1
INDEX = "archive.json"
LONGEST_INDEX = 2**28  # bytes: millions of keys
RESULT = re.compile(rf"store/results/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})/({MANIFEST}|{VALUES}|{TENSORS})")
FILE = re.compile(r"run/([^/\x00-\x1f\\]+/)?[^/\x00-\x1f\\]+")  # of the directory, or of one below it
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Archive:
    """What an archive says it holds.

    Args:
        name: of the run.
        files: by path below the run directory, the sha256 of each of its files.
        keys: of the results.
    """

    name: str
    files: Mapping[str, str]
    keys: tuple[str, ...]


def export_archive(
    path: Path,
    name: str,
    store: Store,
    keys: Collection[str],
    files: Mapping[str, bytes],
    progress: Progress = lambda done, total: None,
) -> Copied:
    """Write the archive of a run, whole or not at all.

    Args:
        path: of the archive, `.tar`.
        name: of the run.
        store: where its results are.
        keys: of its tasks; those without a result are left out.
        files: contents of the files of its directory, by path below it.
        progress: told after each result.

    Returns:
        How many results are in it, and the keys of those that are not to be had.

    Raises:
        InputError: when none of its results is to be had.
        StoreError: when the archive cannot be written, or the store not be read.
    """
    with _beside(path) as place:
        held = FolderStore(place / "store")
        copied = copy_results(store, held, sorted(keys), progress)
        if not copied.new:
            raise InputError(f"the store holds no result of the run '{name}'; run it, or name its store by --store")
        sums = {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())}
        index = {"format": FORMAT, "run": name, "files": sums, "keys": sorted(set(keys) - set(copied.missing))}
        with tarfile.open(place / "archive.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, INDEX, (json.dumps(index, indent=0) + "\n").encode())
            for file, content in sorted(files.items()):
                _add(tar, f"run/{file}", content)
            for one in sorted((place / "store" / "results").glob("*/*/*")):
                with one.open("rb") as content:
                    _add_file(tar, one.relative_to(place).as_posix(), content, one.stat().st_size)
        (place / "archive.tar").replace(path)
    return copied


def import_archive(
    path: Path,
    opened: Callable[[Archive, Mapping[str, bytes]], Store],
    progress: Progress = lambda done, total: None,
) -> tuple[Archive, dict[str, bytes], Copied]:
    """Read an archive, see that everything in it is what was exported, and put its results into a store.

    Nothing in it is run or unpickled, and no member of it decides where a file goes.

    Args:
        path: of the archive.
        opened: opens the store that the results go into, asked when all is verified; what is there already stays.
        progress: told after each result.

    Returns:
        What the archive says, the contents of the files of the run directory by path below it, and what was copied.

    Raises:
        InputError: when it is no archive of a run, or damaged; the store is not asked for then.
        StoreError: when the store cannot be written.
    """
    with _beside(path, near=False) as place:
        try:
            check_plain(path)
            with tarfile.open(path, "r:") as tar:
                index, files = _unpack(tar, place, path)
        except (OSError, tarfile.TarError, EOFError) as error:
            raise InputError(f"'{path}' cannot be read as the archive of a run ({reason(error)})") from None
        held = FolderStore(place / "store")
        if check_store(held).damaged or set(held.keys()) != set(index.keys):
            raise _damaged(path, "results are damaged or missing")
        return index, files, copy_results(held, opened(index, files), index.keys, progress)


def _unpack(tar: tarfile.TarFile, place: Path, path: Path) -> tuple[Archive, dict[str, bytes]]:
    """Write the results of an archive into a folder; return its index and the files of the run directory."""
    index, files = None, {}
    for member in tar:
        content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if content is None:
            raise _damaged(path, f"{member.name!r} is no plain file")
        if member.size > path.stat().st_size:
            raise _damaged(path, f"{member.name!r} is longer than the archive, which is cut short")
        if index is None:
            index = _index(member.name, content.read(LONGEST_INDEX), path)
        elif RESULT.fullmatch(member.name):
            target = place / PurePosixPath(member.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(content, file)
        elif FILE.fullmatch(member.name) and member.name.removeprefix("run/") in index.files:
            files[member.name.removeprefix("run/")] = content.read()
        else:
            raise _damaged(path, f"it holds {member.name!r}, which no export writes")
    if index is None or {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} != index.files:
        raise _damaged(path, "files of the run are missing or not what was exported")
    return index, files


def _index(name: str, content: bytes, path: Path) -> Archive:
    """Return what the first member says."""
    try:
        said: Any = json.loads(content) if name == INDEX else {}
        if said["format"] != FORMAT:
            raise _damaged(path, f"it has format {said['format']!r}, this version reads {FORMAT}")
        archive = Archive(said["run"], dict(said["files"]), tuple(said["keys"]))
        if "/" in archive.name or not all(map(_is_inside, (archive.name, *archive.files))):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(path, f"it does not begin with {INDEX}") from None
    return archive


def _is_inside(file: str) -> bool:
    return FILE.fullmatch(f"run/{file}") is not None and ".." not in file.split("/")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"'{path}' is not the archive of a run as `reticket store export` writes it: {what}; get it again"
    )


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _add_file(tar, name, io.BytesIO(content), len(content))


def _add_file(tar: tarfile.TarFile, name: str, content: io.BufferedIOBase, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644  # no time and no owner, so that the same run gives the same bytes
    tar.addfile(member, content)


@contextmanager
def _beside(path: Path, *, near: bool = True) -> Iterator[Path]:
    """Give a folder for parts of an archive, removed at the end; beside the archive, so that it can be renamed."""
    try:
        place = Path(tempfile.mkdtemp(prefix=".reticket-", dir=path.parent if near else None))
    except OSError as error:
        raise StoreError(f"'{path}' cannot be written ({reason(error)}); choose another folder") from None
    try:
        yield place
    except OSError as error:
        raise StoreError(
            f"'{path}' cannot be written ({reason(error)}); free space there or choose another folder"
        ) from None
    finally:
        with suppress(OSError):
            shutil.rmtree(place)
