"""A store in a bucket, by fsspec: `--store s3://bucket/place`.

    results/ab/ab12.../<sha256>.values.json          what the runner gave, its name says what is in it
                       <sha256>.tensors.safetensors
                       manifest.json                 written last and only where there is none
    claims/ab12...                                   who computes it, with a number that grows while they do
    runs/                                            which run needs which results

A result without a manifest does not exist, so a writer that is killed between its parts leaves nothing visible.
Checkpoints stay on this machine.
"""

import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from safetensors.torch import load, save

from reticket.errors import InputError, StoreError
from reticket.experiment.frozen import plain
from reticket.experiment.locking import owned
from reticket.experiment.manifest import (
    FORMAT,
    MANIFEST,
    TENSORS,
    VALUES,
    manifest_of,
    parsed_manifest,
    pretty,
    savable,
)
from reticket.experiment.register import EARLIER, entry_name, entry_of, read_entry
from reticket.experiment.result import Result
from reticket.experiment.store import DamagedResult, MissingResult, store
from reticket.experiment.task import Output
from reticket.files import said

BEAT = 20.0  # seconds between two signs of life of whoever computes a task
PATIENCE = 120.0  # seconds without one, by the clock of whoever looks, after which a claim counts as given up
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}


class RemoteStore:
    """Results under a URL of fsspec.

    Args:
        url: of a folder, as `s3://bucket/place`. Its server must write an object whole or not at all, as buckets do.
        scratch: folder of this machine for checkpoints; `~/.cache/reticket/scratch` when None.

    Raises:
        InputError: when the package for such URLs is missing, or there is none.
        StoreError: when it cannot be reached.
    """

    def __init__(self, url: str, *, scratch: str | None = None) -> None:
        self.url = url.rstrip("/")
        place = Path(scratch) if scratch else Path.home() / ".cache" / "reticket" / "scratch"
        self._scratch = place / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self._files, self._root = _filesystem(self.url)
        self._there: set[str] = set()  # keys whose manifest was seen
        self._signs: dict[str, tuple[bytes, float]] = {}  # by claim, its last sign of life and when it was new here
        with self._reached("read"):
            self._list()

    @property
    def address(self) -> Mapping[str, Any]:
        """The URL and the folder of checkpoints."""
        opened_by = f"{type(self).__module__}:{type(self).__qualname__}"
        return {"store": opened_by, "url": self.url, "scratch": str(self._scratch.parent)}

    def has(self, key: str) -> bool:
        """Return whether a result of `key` is there."""
        if key not in self._there:
            with self._reached("read"):
                if self._files.exists(self._path(key, MANIFEST)):
                    self._there.add(key)
        return key in self._there

    def get(self, key: str) -> Result:
        """Return the result of `key`, verified.

        Raises:
            MissingResult: when there is none.
            DamagedResult: when it failed its checksums; it counts as missing now.
            StoreError: when the store cannot be reached.
        """
        manifest, contents = self._whole(key)
        tensors = load(contents[TENSORS]) if TENSORS in contents else {}
        return Result(key, json.loads(contents[VALUES]), manifest["provenance"], tensors)

    def verify(self, key: str) -> bool:
        """Return whether a result of `key` is there; its checksums are compared where it is read.

        Raises:
            DamagedResult: never here.
        """
        return self.has(key)

    def put(self, key: str, output: Output, provenance: Mapping[str, Any], *, durable: bool = True) -> bool:
        """Store `output` under `key`, whole or not at all, and drop the scratch folder of `key`.

        Args:
            key: the key of the task.
            output: its values and tensors.
            provenance: JSON that goes into the manifest.
            durable: of no meaning here.

        Returns:
            Whether this result is the one kept; False when another process was first.

        Raises:
            StoreError: when it cannot be written.
        """
        files = {VALUES: pretty(dict(output.values))}
        if output.tensors:
            files[TENSORS] = save(savable(output.tensors))
        with self._reached("written"):
            for name, content in files.items():
                self._files.pipe_file(self._path(key, _named(content, name)), content)
            first = self._create(self._path(key, MANIFEST), manifest_of(key, files, plain(provenance, "provenance")))
        self._there.add(key)
        return first

    def scratch(self, key: str) -> Path:
        """Return a folder of this machine for the checkpoints of the task of `key`.

        Raises:
            StoreError: when it cannot be made.
        """
        path = self._scratch / key
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"'{path}' cannot be made ({said(error)}); checkpoints go there") from None
        return path

    def claimed(self, key: str) -> bool:
        """Return whether somebody, on any machine, is at the task of `key` just now."""
        with self._reached("read"):
            return self._alive(key)

    @contextmanager
    def claim(self, key: str) -> Iterator[Path | None]:
        """Give a scratch folder for as long as the task of `key` is computed; None where somebody else is at it."""
        name = uuid.uuid4().hex
        with owned(lambda: self.scratch(key)) as alone:  # two runs of this machine
            with self._reached("written"):
                mine = alone and (self._create(self._claim(key), _sign(name, 0)) or self._taken_over(key, name))
            if not mine:
                yield None
                return
            with self._alive_as(key, name):
                yield self.scratch(key)
            if self.has(key):
                rmtree(self._scratch / key, ignore_errors=True)

    def keys(self) -> Iterator[str]:
        """Yield the key of every result, in order."""
        with self._reached("read"):
            self._list()
        yield from sorted(self._there)

    def size(self, key: str) -> int:
        """Return how many bytes the files of a result have; none where there is no result of `key`."""
        with self._reached("read"):
            return sum(int(one["size"] or 0) for one in self._inside(key).values())

    def provenance(self, key: str) -> Mapping[str, Any]:
        """Return how the result of `key` came about; its other files are not looked at, and what is damaged stays."""
        with self._reached("read"):
            try:
                manifest = parsed_manifest(self._files.cat_file(self._path(key, MANIFEST)))
            except FileNotFoundError:
                manifest = None
        if manifest is None or manifest["key"] != key:
            raise MissingResult(f"the store '{self.url}' holds no whole result {key[:16]}; run the experiment first")
        return manifest["provenance"]

    def remove(self, key: str) -> bool:
        """Remove the result of `key`, its manifest first; False where there is none, or a task of it is under way."""
        with self._reached("written"):
            if not self._files.exists(self._path(key, MANIFEST)) or self._alive(key):
                return False
            self._files.rm_file(self._path(key, MANIFEST))  # from here on it does not exist, however this ends
            self._there.discard(key)
            for path in self._inside(key):
                self._files.rm_file(path)
        return True

    def enter(self, run: str, keys: Iterable[str]) -> None:
        """Note which results a run needs, in the place of what was noted of it before.

        Args:
            run: its directory, absolute.
            keys: of all its tasks.
        """
        with self._reached("written"):
            if self._there and not self._files.exists(f"{self._root}/runs"):
                self._files.pipe_file(f"{self._root}/runs/{EARLIER}", b"\n")
            self._files.pipe_file(f"{self._root}/runs/{entry_name(run)}", entry_of(run, keys))

    def forget(self, run: str) -> None:
        """Strike a run off that was entered; its results stay until they are removed."""
        with self._reached("written"):
            self._files.rm_file(f"{self._root}/runs/{entry_name(run)}")

    def runs(self) -> dict[str, tuple[str, ...]]:
        """Return by run that was entered the keys of its tasks."""
        with self._reached("read"):
            self._files.invalidate_cache()
            found = sorted(path for path in self._files.find(f"{self._root}/runs") if path.endswith(".json"))
            return dict(read_entry(self._files.cat_file(path), path) for path in found)

    @property
    def knows_all_runs(self) -> bool:
        """Whether every run that ever used the store was entered."""
        with self._reached("read"):
            return not self._files.exists(f"{self._root}/runs/{EARLIER}")

    # ---------------------------------------------------------------- inside

    def _path(self, key: str, name: str) -> str:
        return f"{self._root}/results/{key[:2]}/{key}/{name}"

    def _claim(self, key: str) -> str:
        return f"{self._root}/claims/{key}"

    def _list(self) -> None:
        """Look at once which results are there: one question for thousands."""
        self._files.invalidate_cache()
        found = self._files.find(f"{self._root}/results")
        self._there = {path.split("/")[-2] for path in found if path.endswith(f"/{MANIFEST}")}

    def _inside(self, key: str) -> dict[str, Any]:
        self._files.invalidate_cache()
        return self._files.find(f"{self._root}/results/{key[:2]}/{key}", detail=True)

    def _manifest(self, key: str) -> dict[str, Any]:
        """Return the manifest of a result, verified."""
        with self._reached("read"):
            try:
                manifest = parsed_manifest(self._files.cat_file(self._path(key, MANIFEST)))
            except FileNotFoundError:
                raise MissingResult(
                    f"the store '{self.url}' holds no result {key[:16]}; run the experiment first"
                ) from None
            if manifest is None or manifest["key"] != key:
                raise self._damaged(key, MANIFEST)
            if manifest["format"] != FORMAT:
                raise StoreError(
                    f"'{self.url}' has format {manifest['format']}, this version reads {FORMAT}; update reticket"
                )
        return manifest

    def _whole(self, key: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the manifest and the files of a result, verified."""
        manifest, contents = self._manifest(key), {}
        with self._reached("read"):
            for name, expected in manifest["files"].items():
                try:
                    contents[name] = self._files.cat_file(self._path(key, f"{expected['sha256']}.{name}"))
                except FileNotFoundError:
                    raise self._damaged(key, name) from None
                if hashlib.sha256(contents[name]).hexdigest() != expected["sha256"]:
                    raise self._damaged(key, name)
        return manifest, contents

    def _damaged(self, key: str, name: str) -> DamagedResult:
        """Take a damaged result out of the store, so that it is computed anew."""
        for path in (self._path(key, MANIFEST), *self._inside(key)):
            with suppress(FileNotFoundError):
                self._files.rm_file(path)
        self._there.discard(key)
        return DamagedResult(
            f"result {key[:16]} in '{self.url}' is damaged ({name} does not match its checksum) and was removed; run "
            f"again to compute it anew"
        )

    def _create(self, path: str, content: bytes) -> bool:
        """Write an object where there is none, which the server decides; False where there is one."""
        try:
            self._files.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except (TypeError, ValueError, NotImplementedError):  # a file system that cannot say "only if there is none"
            if self._files.exists(path):
                return False
            self._files.pipe_file(path, content)
        return True

    def _alive(self, key: str) -> bool:
        """Return whether there is a claim that still gives signs of life, by this machine's clock alone."""
        try:
            sign = self._files.cat_file(self._claim(key))
        except FileNotFoundError:
            self._signs.pop(key, None)
            return False
        last, since = self._signs.get(key, (b"", 0.0))
        if sign != last:
            self._signs[key] = (sign, time.monotonic())
            return True
        return time.monotonic() - since < PATIENCE

    def _taken_over(self, key: str, name: str) -> bool:
        """Take a claim from somebody who gave no sign of life for long."""
        if self._alive(key):
            return False
        with suppress(FileNotFoundError):
            self._files.rm_file(self._claim(key))
        return self._create(self._claim(key), _sign(name, 0))

    @contextmanager
    def _alive_as(self, key: str, name: str) -> Iterator[None]:
        """Give signs of life until the block ends, then let go of the claim."""
        ended = threading.Event()

        def beat() -> None:
            number = 0
            while not ended.wait(BEAT):
                number += 1
                with suppress(Exception):  # the next sign may come through
                    self._files.pipe_file(self._claim(key), _sign(name, number))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(Exception):
                self._files.rm_file(self._claim(key))

    @contextmanager
    def _reached(self, what: str) -> Iterator[None]:
        """Turn whatever the file system of fsspec raises into one sentence."""
        try:
            yield
        except (StoreError, InputError):
            raise
        except Exception as error:
            raise StoreError(
                f"the store '{self.url}' cannot be {what} ({said(error)}); see that it can be reached and run again, "
                f"what is stored is kept"
            ) from None


def _filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    import fsspec.core  # only where such a store is named

    protocol = url.partition(":")[0]
    try:
        return fsspec.core.url_to_fs(url, **({"use_listings_cache": False} if protocol in PACKAGES else {}))
    except ImportError:
        package = PACKAGES.get(protocol, "a package of fsspec")
        raise InputError(f"the store '{url}' needs {package}, which is not installed; pip install {package}") from None
    except Exception as error:
        raise InputError(f"'{url}' is no place that fsspec knows ({said(error)})") from None


def _named(content: bytes, name: str) -> str:
    return f"{hashlib.sha256(content).hexdigest()}.{name}"


def _sign(name: str, number: int) -> bytes:
    return json.dumps({"by": name, "process": os.getpid(), "number": number}).encode()


@store("s3")
def s3(text: str) -> RemoteStore:
    """A bucket of S3, or of what speaks its protocol, as s3://bucket/place; needs s3fs."""
    return RemoteStore(f"s3:{text}")


@store("gs")
def gs(text: str) -> RemoteStore:
    """A bucket of Google Cloud Storage, as gs://bucket/place; needs gcsfs."""
    return RemoteStore(f"gs:{text}")


@store("az")
def az(text: str) -> RemoteStore:
    """A container of Azure's blobs, as az://container/place; needs adlfs."""
    return RemoteStore(f"az:{text}")
