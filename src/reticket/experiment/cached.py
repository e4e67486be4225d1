"""A store that is far away, read through a folder of this machine: what was fetched once is not fetched again.

The far store alone says what there is; the folder has copies. It may be deleted at any time.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from reticket.errors import InputError, StoreError
from reticket.experiment.folder import FolderStore
from reticket.experiment.result import Result
from reticket.experiment.store import KeptStore, MissingResult, named_store, open_store, store
from reticket.experiment.task import Output


class CachedStore:
    """A store with copies of its results in a folder.

    Args:
        far: the store.
        near: folder of the copies; made if absent. Several processes, and several runs, may share it.

    Raises:
        StoreFolderError: when the folder cannot be used.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     far = FolderStore(f"{place}/far")
    ...     _ = far.put("ab" * 32, Output({"n": 1}), {})
    ...     CachedStore(far, f"{place}/near").get("ab" * 32).values, FolderStore(f"{place}/near").has("ab" * 32)
    ({'n': 1}, True)
    """

    def __init__(self, far: KeptStore, near: str | Path) -> None:
        self.far = far
        self.near = FolderStore(near)

    @property
    def address(self) -> Mapping[str, Any]:
        """That of the far store, and the folder."""
        return {"store": f"{__name__}:reopened", "far": dict(self.far.address), "near": str(self.near.root.resolve())}

    def has(self, key: str) -> bool:
        """Return whether the far store has a result of `key`."""
        return self.far.has(key)

    def get(self, key: str) -> Result:
        """Return the result of `key`, from the folder where it is there and whole; else it is fetched and kept there.

        Raises:
            MissingResult: when there is none.
            DamagedResult: when it failed its checksums; it counts as missing now.
            StoreError: when the far store cannot be reached.
        """
        with suppress(MissingResult):  # a damaged copy is fetched anew
            return self.near.get(key)
        result = self.far.get(key)
        self._keep(key, Output(result.values, dict(result.tensors)), result.provenance)
        return result

    def verify(self, key: str) -> bool:
        """Return whether the far store has a result of `key` that is what was put, as far as it compares it."""
        return self.far.verify(key)

    def put(self, key: str, output: Output, provenance: Mapping[str, Any], *, durable: bool = True) -> bool:
        """Keep an output in the far store, and where it counts there a copy in the folder.

        Args:
            key: the key of the task.
            output: its values and tensors.
            provenance: how it came about, as JSON.
            durable: whether it must survive a power failure once this returns.

        Returns:
            Whether this result is the one kept; False when another process was first.

        Raises:
            StoreError: when the far store cannot be written.
        """
        first = self.far.put(key, output, provenance, durable=durable)
        if first:
            self._keep(key, output, provenance)
        return first

    def scratch(self, key: str) -> Path:
        """Return the far store's folder of this machine for the checkpoints of the task of `key`."""
        return self.far.scratch(key)

    def claim(self, key: str) -> AbstractContextManager[Path | None]:
        """Give a scratch folder for as long as the task of `key` is computed; None where somebody else is at it."""
        return self.far.claim(key)

    def claimed(self, key: str) -> bool:
        """Return whether somebody else is at the task of `key` just now."""
        return self.far.claimed(key)

    def keys(self) -> Iterator[str]:
        """Yield the key of every result of the far store."""
        return self.far.keys()

    def size(self, key: str) -> int:
        """Return how many bytes the result of `key` takes in the far store."""
        return self.far.size(key)

    def provenance(self, key: str) -> Mapping[str, Any]:
        """Return how the result of `key` came about, without reading what it is."""
        return self.far.provenance(key)

    def remove(self, key: str) -> bool:
        """Remove the result of `key` from the far store, and then its copy; False where the far store keeps it."""
        removed = self.far.remove(key)
        if removed:
            self.near.remove(key)
        return removed

    def enter(self, run: str, keys: Iterable[str]) -> None:
        """Note in the far store which results a run needs, in the place of what was noted of it before.

        Args:
            run: its directory, absolute.
            keys: of all its tasks.
        """
        self.far.enter(run, keys)

    def forget(self, run: str) -> None:
        """Strike a run off in the far store."""
        self.far.forget(run)

    def runs(self) -> Mapping[str, tuple[str, ...]]:
        """Return by run that was entered the keys of its tasks."""
        return self.far.runs()

    @property
    def knows_all_runs(self) -> bool:
        """Whether every run that ever used the far store was entered."""
        return self.far.knows_all_runs

    def _keep(self, key: str, output: Output, provenance: Mapping[str, Any]) -> None:
        with suppress(StoreError):  # a full disk costs the copy alone
            self.near.put(key, output, provenance, durable=False)


def reopened(far: Mapping[str, Any], near: str) -> CachedStore:
    """Return the store that another process has open.

    Args:
        far: address of the far store.
        near: folder of the copies.

    Raises:
        InputError: when no store can be opened by it.
    """
    return CachedStore(_kept(open_store(far), str(far)), near)


@store("cache")
def cache(text: str) -> CachedStore:
    """Another store, with copies of what was read in ~/.cache/reticket/results, as cache:s3://bucket/place."""
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return CachedStore(_kept(named_store(text), text), Path.home() / ".cache" / "reticket" / "results" / name)


def _kept(found: object, text: str) -> KeptStore:
    if not isinstance(found, KeptStore):
        raise InputError(
            f"the store '{text}' is a {type(found).__name__}, which cannot be read through a cache; expected one with "
            f"the methods of reticket.experiment.KeptStore, as folders and buckets are"
        )
    return found
