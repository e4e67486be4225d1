"""What a store of results is: the seat that a folder takes by default, and a database or a remote one may take."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from reticket.errors import InputError, StoreError
from reticket.experiment.result import Result
from reticket.experiment.task import Output
from reticket.lookup import imported
from reticket.registry import Registry


class MissingResult(StoreError):  # noqa: N818
    """The store holds no result of that key."""


class DamagedResult(MissingResult):
    """A result failed its checksums and was moved aside, so that it is missing now."""


@runtime_checkable
class Store(Protocol):
    """Results under the keys of their tasks, which any number of processes may share.

    A result is there whole or not at all, whatever happens to the process that puts it.
    """

    @property
    def address(self) -> Mapping[str, Any]:
        """What `open_store` opens the same store by in another process, as JSON: `{"store": "module:name", ...}`."""
        ...

    def has(self, key: str) -> bool:
        """Return whether a whole result of `key` is there; asked often, so it may remember."""
        ...

    def get(self, key: str) -> Result:
        """Return the result of `key`.

        Raises:
            MissingResult: when there is none, or none any more since it was found to be damaged.
            StoreError: when the store cannot be read.
        """
        ...

    def verify(self, key: str) -> bool:
        """Return whether a result of `key` is there and is what was put.

        Raises:
            DamagedResult: when it is not; it is missing from now on.
        """
        ...

    def put(self, key: str, output: Output, provenance: Mapping[str, Any], *, durable: bool = True) -> bool:
        """Keep an output under the key of its task, and drop the scratch folder of the task.

        Args:
            key: the key of the task.
            output: its values and tensors.
            provenance: how it came about, as JSON.
            durable: whether it must survive a power failure once this returns.

        Returns:
            Whether this result is the one kept; False when another process was first.

        Raises:
            StoreError: when it cannot be written.
        """
        ...

    def scratch(self, key: str) -> Path:
        """Return a folder of this machine for the checkpoints of the task of `key`, made if absent."""
        ...

    def claim(self, key: str) -> AbstractContextManager[Path | None]:
        """Give a scratch folder for as long as the task of `key` is computed; None where somebody else is at it."""
        ...

    def claimed(self, key: str) -> bool:
        """Return whether somebody else is at the task of `key` just now."""
        ...


@runtime_checkable
class KeptStore(Store, Protocol):
    """A store that can be looked after: what is in it, how large it is, and which runs need it."""

    def keys(self) -> Iterator[str]:
        """Yield the key of every result."""
        ...

    def size(self, key: str) -> int:
        """Return how many bytes the result of `key` takes."""
        ...

    def provenance(self, key: str) -> Mapping[str, Any]:
        """Return how the result of `key` came about, without reading the result itself.

        Raises:
            MissingResult: when there is none.
            StoreError: when the store cannot be read.
        """
        ...

    def remove(self, key: str) -> bool:
        """Remove the result of `key`, whole or not at all; False where there is none, or a task of it is under way."""
        ...

    def enter(self, run: str, keys: Iterable[str]) -> None:
        """Note which results a run needs, in the place of what was noted of it before.

        Args:
            run: its directory, absolute.
            keys: of all its tasks.
        """
        ...

    def forget(self, run: str) -> None:
        """Strike a run off that was entered."""
        ...

    def runs(self) -> Mapping[str, tuple[str, ...]]:
        """Return by run that was entered the keys of its tasks."""
        ...

    @property
    def knows_all_runs(self) -> bool:
        """Whether every run that ever used the store was entered, as far as can be told."""
        ...


STORES = Registry[Callable[[str], Store]]("store", "reticket.stores", InputError)
FOLDER = "folder"
Open = TypeVar("Open", bound=Callable[[str], Store])


def store(name: str) -> Callable[[Open], Open]:
    """Register a store, a class or a function that opens one by a text; users write `--store NAME:TEXT`.

    Args:
        name: what users write before the colon, in small letters.

    Raises:
        InputError: when the name is taken.
    """

    def register(opened: Open) -> Open:
        STORES.add(name, opened)
        return opened

    return register


def folder_of(place: str | Path) -> Path | None:
    """Return the folder that a user names as a store, or None for one of `STORES` by `NAME:TEXT`.

    Args:
        place: what the user writes; a path is a folder.

    Raises:
        InputError: when the text before a colon is neither the name of a store nor the beginning of a folder's.

    >>> folder_of("runs/store"), folder_of("folder:runs/store")
    (PosixPath('runs/store'), PosixPath('runs/store'))
    """
    name, colon, text = str(place).partition(":")
    if place == "" or (colon and not text and name in (FOLDER, *STORES)):
        raise InputError(f"the store '{place}' names no place; give a folder, or NAME:TEXT as s3://bucket/place")
    if isinstance(place, Path) or not colon or not re.fullmatch(r"[a-z][a-z0-9+-]+", name) or Path(place).is_dir():
        return Path(place)
    if name == FOLDER:
        return Path(text)
    try:
        STORES.named(name)
    except InputError as problem:
        raise InputError(f"{problem}; a folder of this name is ./{place}") from None
    return None


def named_store(place: str | Path | Store) -> Store:
    """Return the store that a user names.

    Args:
        place: a folder, made if absent; `NAME:TEXT` of one of `STORES`; or a store, which is given back.

    Raises:
        InputError: when there is no store of that name, or it cannot be used.
    """
    if not isinstance(place, str | Path):
        return place
    folder = folder_of(place)
    if folder is not None:
        return STORES.named(FOLDER)(str(folder))
    name, _, text = str(place).partition(":")
    return STORES.named(name)(text)


def store_there(place: str | Path | Store) -> Store | None:
    """Return the store that a user names as `named_store` does, or None where it is a folder that is not there yet."""
    folder = folder_of(place) if isinstance(place, str | Path) else None
    return named_store(place) if folder is None or folder.is_dir() else None


def open_store(address: Mapping[str, Any]) -> Store:
    """Open the store that another process has open.

    Args:
        address: its `Store.address`: a class or function as `package.module:name`, and its keyword arguments.

    Raises:
        InputError: when no store can be opened by it.
    """
    options = {name: value for name, value in address.items() if name != "store"}
    opened = imported(address["store"], "store", InputError)(**options)
    if not isinstance(opened, Store):
        raise InputError(
            f"'{address['store']}' gave a {type(opened).__name__}, expected a store: an object with the methods of "
            f"reticket.experiment.Store"
        )
    return opened
