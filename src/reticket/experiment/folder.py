"""The default store: a directory that any number of processes may share and that a crash cannot spoil.

    results/ab/ab12.../values.json           what the runner gave as JSON
                       tensors.safetensors   its tensors, if any
                       manifest.json         sizes and sha256 of the others, provenance; written last
    incoming/   results being written, renamed into `results` when they are whole
    scratch/    checkpoints of tasks under way
    damaged/    results that failed their checksums, kept for a look
    runs/       which run needs which results

Where `results` is a link to another file system, `incoming` and `damaged` are `.incoming` and `.damaged` in it. A
result without a valid manifest does not exist.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from reticket.errors import InputError, StoreError
from reticket.experiment.frozen import plain
from reticket.experiment.locking import held, owned
from reticket.experiment.manifest import (
    MANIFEST,
    TENSORS,
    VALUES,
    content_of,
    manifest_of,
    parsed_manifest,
    pretty,
    problem_of,
    savable,
)
from reticket.experiment.register import RunRegister
from reticket.experiment.result import Result, TensorFile
from reticket.experiment.store import FOLDER, DamagedResult, MissingResult, store
from reticket.experiment.task import Output
from reticket.files import sync_folder, write_through

TRIES = 100  # at making a folder that others drop
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
STALE = 3600.0  # seconds after which something half-written belongs to a process that is gone


class StoreFolderError(StoreError, InputError):
    """The folder named for the store cannot be used."""

    exit_code = 2


@store(FOLDER)
class FolderStore:
    """A directory of results, each under the key of its task.

    Args:
        root: the directory; made if absent. One that has results and cannot be written can be read.
        verify: check a result's checksums when this store first reads it; without it only sizes are checked.

    Raises:
        StoreFolderError: when `root` is not a directory that can be written.
    """

    def __init__(self, root: str | os.PathLike[str], *, verify: bool = True) -> None:
        self.root = Path(root)
        self.verifies = verify
        self._register = RunRegister(self.root / "runs")
        self._results = str(self.root / "results")  # text: asked for thousands of times
        self._whole: set[str] = set()  # keys whose sizes were checked
        self._intact: set[str] = set()  # keys whose checksums were checked
        self._incoming, self._aside = self.root / "incoming", self.root / "damaged"
        try:
            for name in ("results", "scratch"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            if os.stat(self._results).st_dev != os.stat(self.root).st_dev:  # a link to where no rename leads
                self._incoming, self._aside = (self.root / "results" / name for name in (".incoming", ".damaged"))
            self._incoming.mkdir(exist_ok=True)
            (self._incoming / f".probe-{uuid.uuid4().hex}").mkdir()
        except OSError as error:
            if error.errno in READ_ONLY and (self.root / "results").is_dir():
                return  # whoever writes is told
            reason = error.strerror if self.root.is_dir() or not self.root.exists() else "it is a file, not a folder"
            raise StoreFolderError(
                f"the store '{self.root}' cannot be written ({reason}); name another folder"
            ) from None
        self.sweep()

    @property
    def address(self) -> Mapping[str, Any]:
        """The absolute path of the directory, and whether checksums are checked."""
        opened_by = f"{type(self).__module__}:{type(self).__qualname__}"
        return {"store": opened_by, "root": str(self.root.resolve()), "verify": self.verifies}

    def has(self, key: str) -> bool:
        """Return whether a whole result of `key` is there (its sizes are checked once, its checksums by `get`)."""
        if not self._listed(key):
            return False
        if key not in self._whole:
            try:
                self._check(key, checksums=False)
            except MissingResult:
                return False
        return True

    def get(self, key: str) -> Result:
        """Return the result of `key`.

        Raises:
            MissingResult: when there is none.
            DamagedResult: when it failed its checksums; it has been moved aside.
            StoreError: when it cannot be read or was written by a later version.
        """
        manifest = self._check(key, checksums=self.verifies and key not in self._intact)
        folder = self._folder(key)
        try:
            content = (folder / VALUES).read_bytes()
        except OSError as error:
            raise self._failure("read", error) from None
        if self.verifies and hashlib.sha256(content).hexdigest() != manifest["files"][VALUES]["sha256"]:
            raise self._damaged(key, f"{VALUES} does not match its checksum")  # since it was checked
        values = json.loads(content)
        tensors = folder / TENSORS if TENSORS in manifest["files"] else None
        return Result(key, values, manifest["provenance"], TensorFile(tensors))

    def verify(self, key: str) -> bool:
        """Return whether a result of `key` is there, its checksums checked unless this store has done so already.

        Raises:
            DamagedResult: when it failed its checksums; it has been moved aside.
        """
        if not self._listed(key):
            return False
        if key not in self._intact:
            self._check(key, checksums=self.verifies)
        return True

    def put(self, key: str, output: Output, provenance: Mapping[str, Any], *, durable: bool = True) -> bool:
        """Store `output` under `key`, whole or not at all, and drop the scratch folder of `key`.

        Args:
            key: the key of the task.
            output: its values and tensors.
            provenance: JSON that goes into the manifest.
            durable: wait until the disk has it. Without, a power failure may cost the result (a killed process never
                does): its checksums tell, and it is computed anew.

        Returns:
            Whether this result is the one kept; False when another process was first.

        Raises:
            StoreError: when it cannot be written.
        """
        files = {VALUES: pretty(dict(output.values))}
        if output.tensors:
            files[TENSORS] = save(savable(output.tensors))
        files[MANIFEST] = manifest_of(key, files, plain(provenance, "provenance"))
        incoming = self._incoming / f"{key[:16]}-{uuid.uuid4().hex[:16]}"

        def made() -> Path:
            incoming.mkdir(exist_ok=True)
            return incoming

        try:
            with owned(made):  # as long as it is written nobody sweeps it, whatever their clock says
                for name, content in files.items():
                    write_through(incoming / name, content, durable=durable)
                first = self._move_in(incoming, key)
            if durable:
                sync_folder(self._folder(key).parent)
        except OSError as error:
            raise self._failure("written", error) from None
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        if first:
            self._whole.add(key)
            self._intact.add(key)
        self._drop_scratch(key)
        return first

    def scratch(self, key: str) -> Path:
        """Return a folder for the checkpoints of the task of `key`; it goes when the result is put."""
        path = self.root / "scratch" / key
        for again in reversed(range(TRIES)):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:  # pathlib's own look at it fails where another process drops it just then
                if again and isinstance(error, FileExistsError | FileNotFoundError) and not os.path.lexists(path):
                    continue
                if again and path.is_dir():
                    continue
                raise self._failure("written", error) from None
            break
        return path

    def claimed(self, key: str) -> bool:
        """Return whether another process, or another thread of this one, is at the task of `key` just now."""
        return held(self.root / "scratch" / key)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[Path | None]:
        """Give the scratch folder of `key` for as long as the task is computed; None where somebody else is at it."""
        with owned(lambda: self.scratch(key)) as mine:
            yield self.scratch(key) if mine else None
            if mine and self.has(key):
                shutil.rmtree(self.root / "scratch" / key, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed processes left behind: half-written results and scratch folders nobody needs any more."""
        now = time.time()
        for entry in _entries(self._incoming):
            if entry.name.startswith(".probe-") or _is_left(entry, now):
                shutil.rmtree(entry.path, ignore_errors=True)
        for entry in _entries(self.root / "scratch"):
            key, private, _ = entry.name.partition("~")
            if private and _is_left(entry, now):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif not private and self._listed(key):
                self._drop_scratch(key)

    def keys(self) -> Iterator[str]:
        """Yield the key of every result, in order; whether it is whole, `verify` says."""
        for shelf in sorted(_entries(self.root / "results"), key=lambda entry: entry.name):
            yield from sorted(entry.name for entry in _entries(shelf.path) if self._listed(entry.name))

    def size(self, key: str) -> int:
        """Return how many bytes the files of a result have; none where there is no result of `key`."""
        return sum(entry.stat(follow_symlinks=False).st_size for entry in _entries(f"{self._results}/{key[:2]}/{key}"))

    def provenance(self, key: str) -> Mapping[str, Any]:
        """Return how the result of `key` came about; its other files are not looked at, and what is damaged stays."""
        try:
            manifest = parsed_manifest(content_of(self._folder(key) / MANIFEST))
        except (FileNotFoundError, NotADirectoryError):
            manifest = None
        except OSError as error:
            raise self._failure("read", error) from None
        if manifest is None or manifest["key"] != key:
            raise MissingResult(f"the store '{self.root}' holds no whole result {key[:16]}; run the experiment first")
        return manifest["provenance"]

    def remove(self, key: str) -> bool:
        """Remove the result of `key`, whole or not at all; False where there is none, or a task of it is under way.

        Raises:
            StoreError: when it cannot be removed.
        """
        if not self._listed(key) or self.claimed(key):
            return False
        self._whole.discard(key)
        self._intact.discard(key)
        aside = self._incoming / f"removed-{uuid.uuid4().hex[:16]}"
        try:
            os.rename(self._folder(key), aside)  # from here on it does not exist, however this ends
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failure("written", error) from None
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def enter(self, run: str, keys: Iterable[str]) -> None:
        """Note which results a run needs, in the place of what was noted of it before.

        Args:
            run: its directory, absolute.
            keys: of all its tasks.

        Raises:
            StoreError: when it cannot be written.
        """
        self._register.enter(run, keys, has_results=next(self.keys(), None) is not None)

    def forget(self, run: str) -> None:
        """Strike a run off that was entered; its results stay until they are removed.

        Raises:
            StoreError: when it was not entered.
        """
        self._register.forget(run)

    def runs(self) -> dict[str, tuple[str, ...]]:
        """Return by run that was entered the keys of its tasks.

        Raises:
            StoreError: when what was noted of a run is damaged.
        """
        return self._register.runs()

    @property
    def knows_all_runs(self) -> bool:
        """Whether every run that ever used the store was entered; those of earlier versions were not."""
        return self._register.is_whole

    # ---------------------------------------------------------------- inside

    def _listed(self, key: str) -> bool:
        return os.path.exists(f"{self._results}/{key[:2]}/{key}/{MANIFEST}")

    def _folder(self, key: str) -> Path:
        return self.root / "results" / key[:2] / key

    def _check(self, key: str, *, checksums: bool) -> dict[str, Any]:
        """Return the manifest of `key`, or raise MissingResult, or move the result aside and raise DamagedResult."""
        folder = f"{self._results}/{key[:2]}/{key}"
        try:
            manifest = parsed_manifest(content_of(f"{folder}/{MANIFEST}"))
            problem = problem_of(folder, key, manifest, checksums=checksums)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingResult(
                f"the store '{self.root}' holds no result {key[:16]}; run the experiment first"
            ) from None
        except OSError as error:
            raise self._failure("read", error) from None
        if problem is None and manifest is not None:
            self._whole.add(key)
            if checksums:
                self._intact.add(key)
            return manifest
        raise self._damaged(key, str(problem))

    def _damaged(self, key: str, problem: str) -> DamagedResult:
        try:
            aside = self._move_aside(key)
        except StoreError as error:  # as in a store that can only be read
            return DamagedResult(f"result {key[:16]} in '{self.root}' is damaged ({problem}) and stays there: {error}")
        return DamagedResult(
            f"result {key[:16]} in '{self.root}' is damaged ({problem}) and was moved to '{aside}'; "
            "run again to compute it anew"
        )

    def _move_in(self, incoming: Path, key: str) -> bool:
        folder = self._folder(key)
        if not folder.parent.exists():
            folder.parent.mkdir(exist_ok=True)
        for _ in range(2):
            try:
                os.rename(incoming, folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                with contextlib.suppress(MissingResult):
                    self._check(key, checksums=True)
                    return False
                if folder.exists():
                    self._move_aside(key)
            else:
                return True
        return False

    def _move_aside(self, key: str) -> Path:
        self._whole.discard(key)
        self._intact.discard(key)
        aside = self._aside / f"{key}-{uuid.uuid4().hex[:8]}"
        try:
            aside.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process saw the damage first
                os.rename(self._folder(key), aside)
        except OSError as error:
            raise self._failure("written", error) from None
        return aside

    def _drop_scratch(self, key: str) -> None:
        path = self.root / "scratch" / key
        if path.exists():
            with owned(lambda: self.scratch(key)) as mine:
                if mine:
                    shutil.rmtree(path, ignore_errors=True)

    def _failure(self, what: str, error: OSError) -> StoreError:
        return StoreError(
            f"the store '{self.root}' cannot be {what} ({error.strerror}); free space or rights there and run again, "
            "what is stored is kept"
        )


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _is_left(entry: os.DirEntry[str], now: float) -> bool:
    """Return whether a folder is old and nobody holds it: clocks of two machines differ, and one may be put forward."""
    with contextlib.suppress(OSError):
        return now - entry.stat().st_mtime > STALE and not held(Path(entry.path))
    return False
