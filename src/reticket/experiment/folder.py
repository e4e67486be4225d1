"""The default store: a directory that any number of processes may share and that a crash cannot spoil.

    results/ab/ab12.../values.json           what the runner gave as JSON
                       tensors.safetensors   its tensors, if any
                       manifest.json         sizes and sha256 of the others, provenance; written last
    incoming/   results being written, renamed into `results` when they are whole
    scratch/    checkpoints of tasks under way
    damaged/    results that failed their checksums, kept for a look

A result without a valid manifest does not exist.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from reticket.errors import InputError, StoreError
from reticket.experiment.locking import held, owned
from reticket.experiment.result import Result, TensorFile
from reticket.experiment.store import FOLDER, DamagedResult, MissingResult, store
from reticket.experiment.task import Output, canonical, plain
from reticket.files import sync_folder, write_through

FORMAT = 1
TRIES = 100  # at making a folder that others drop
STALE = 3600.0  # seconds after which something half-written belongs to a process that is gone
MANIFEST, VALUES, TENSORS = "manifest.json", "values.json", "tensors.safetensors"


class StoreFolderError(StoreError, InputError):
    """The folder named for the store cannot be used."""

    exit_code = 2


@store(FOLDER)
class FolderStore:
    """A directory of results, each under the key of its task.

    Args:
        root: the directory; made if absent.
        verify: check a result's checksums when this store first reads it; without it only sizes are checked.

    Raises:
        StoreFolderError: when `root` is not a directory that can be written.
    """

    def __init__(self, root: str | os.PathLike[str], *, verify: bool = True) -> None:
        self.root = Path(root)
        self.verifies = verify
        self._results = str(self.root / "results")  # text: asked for thousands of times
        self._whole: set[str] = set()  # keys whose sizes were checked
        self._intact: set[str] = set()  # keys whose checksums were checked
        try:
            for name in ("results", "incoming", "scratch"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            (self.root / "incoming" / f".probe-{uuid.uuid4().hex}").mkdir()
        except OSError as error:
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
        files = {VALUES: _pretty(dict(output.values))}
        if output.tensors:
            files[TENSORS] = save(_savable(output.tensors))
        files[MANIFEST] = _manifest(key, files, plain(provenance, "provenance"))
        incoming = self.root / "incoming" / f"{key[:16]}-{uuid.uuid4().hex[:16]}"
        try:
            incoming.mkdir()
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
    def claim(self, key: str) -> Iterator[Path]:
        """Give the scratch folder of `key` for as long as the task is computed.

        Where another process computes the same task, a private folder is given instead and removed at the end, so that
        neither can pull the other's checkpoint away.
        """
        with contextlib.ExitStack() as stack:
            if stack.enter_context(owned(lambda: self.scratch(key))):
                yield self.scratch(key)
                if self.has(key):
                    shutil.rmtree(self.root / "scratch" / key, ignore_errors=True)
                return
            private = self.scratch(f"{key}~{uuid.uuid4().hex[:12]}")
            stack.callback(shutil.rmtree, private, ignore_errors=True)
            yield private

    def sweep(self) -> None:
        """Remove what killed processes left behind: half-written results and scratch folders nobody needs any more."""
        now = time.time()
        for entry in _entries(self.root / "incoming"):
            if entry.name.startswith(".probe-") or _age(entry, now) > STALE:
                shutil.rmtree(entry.path, ignore_errors=True)
        for entry in _entries(self.root / "scratch"):
            key, private, _ = entry.name.partition("~")
            if private and _age(entry, now) > STALE:
                shutil.rmtree(entry.path, ignore_errors=True)
            elif not private and self._listed(key):
                self._drop_scratch(key)

    # ---------------------------------------------------------------- inside

    def _listed(self, key: str) -> bool:
        return os.path.exists(f"{self._results}/{key[:2]}/{key}/{MANIFEST}")

    def _folder(self, key: str) -> Path:
        return self.root / "results" / key[:2] / key

    def _check(self, key: str, *, checksums: bool) -> dict[str, Any]:
        """Return the manifest of `key`, or raise MissingResult, or move the result aside and raise DamagedResult."""
        folder = self._folder(key)
        try:
            manifest = _parsed(_content(folder / MANIFEST))
            problem = _problem(folder, key, manifest, checksums=checksums)
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
        aside = self._move_aside(key)
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
        aside = self.root / "damaged" / f"{key}-{uuid.uuid4().hex[:8]}"
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


def _problem(folder: Path, key: str, manifest: dict[str, Any] | None, *, checksums: bool) -> str | None:
    """Return what is wrong with the files of a result, or None."""
    if manifest is None or manifest["key"] != key:
        return f"{MANIFEST} does not hold what it was written with"
    if manifest["format"] != FORMAT:
        raise StoreError(
            f"'{folder}' has format {manifest['format']}, this version reads format {FORMAT}; "
            "update reticket or name another store"
        )
    for name, expected in manifest["files"].items():
        path = folder / name
        try:
            seen = path.stat()
        except FileNotFoundError:
            return f"{name} is missing"
        if not stat.S_ISREG(seen.st_mode):
            return f"{name} is no plain file"
        size = seen.st_size
        if size != expected["bytes"]:
            return f"{name} has {size} bytes, expected {expected['bytes']}"
        if checksums:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    return f"{name} does not match its checksum"
    return None


def _manifest(key: str, files: Mapping[str, bytes], provenance: dict[str, Any]) -> bytes:
    manifest = {
        "format": FORMAT,
        "key": key,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "provenance": provenance,
    }
    return _pretty({**manifest, "sha256": hashlib.sha256(canonical(manifest)).hexdigest()})


def _content(path: Path) -> bytes:
    """Return the bytes of a plain file; none of a folder, or of a pipe, which would be waited for."""
    return path.read_bytes() if stat.S_ISREG(path.stat().st_mode) else b""


def _parsed(content: bytes) -> dict[str, Any] | None:
    """Return a manifest that matches its own checksum, else None."""
    try:
        manifest = json.loads(content)
        claimed = manifest.pop("sha256")
        return manifest if hashlib.sha256(canonical(manifest)).hexdigest() == claimed else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def _savable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, contiguous, no two in one storage."""
    found: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        saved = tensor.detach().to("cpu").contiguous()
        if saved.untyped_storage().data_ptr() in storages or saved.untyped_storage().nbytes() != saved.nbytes:
            saved = saved.clone()
        storages.add(saved.untyped_storage().data_ptr())
        found[name] = saved
    return found


def _pretty(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _age(entry: os.DirEntry[str], now: float) -> float:
    with contextlib.suppress(OSError):
        return now - entry.stat().st_mtime
    return 0.0
