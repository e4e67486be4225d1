"""The registry of data sets: a loader is a function from a folder to a data set, under a decorator."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from reticket.data.collected import source_of
from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.source import DataSource, Split
from reticket.data.subset import balanced_indices, drawn_indices
from reticket.errors import OF_OTHERS, DataError, ReticketError
from reticket.lookup import imported, raised
from reticket.registry import Registry, first_line

Loader = Callable[..., Any]


@dataclass(frozen=True)
class Entry:
    """A registered data set.

    Args:
        load: gets a folder, or None, and the user's `params` as keywords; returns the full data set.
        describe: returns for the same `params` what the data set is, without its files; None where nobody knows.
    """

    load: Loader
    describe: Callable[..., Description] | None = None


DATASETS = Registry[Entry](
    "data set", "reticket.datasets", DataError, says=lambda one: first_line(one.load), importable=True
)


def dataset(name: str, describer: Callable[..., Description] | None = None) -> Callable[[Loader], Loader]:
    """Register a loader under `name`.

    Args:
        name: what users write; the loader is called with the folder they gave, or None, and with their `params` as
            keywords, and returns the full data set.
        describer: returns for the same `params` what the data set is, without its files.
    """

    def register(loader: Loader) -> Loader:
        DATASETS.add(name, Entry(loader, describer))
        return loader

    return register


def list_datasets() -> tuple[str, ...]:
    """Return the names of all registered data sets.

    >>> list_datasets()
    ('cifar10', 'cifar100', 'digits', 'fashion-mnist', 'imagenet', 'svhn', 'tiny-imagenet')
    """
    return tuple(sorted(DATASETS))


def describe(name: str, params: Mapping[str, Any] = MappingProxyType({})) -> Description:
    """Return what a registered data set is without reading its files.

    Args:
        name: a registered name.
        params: those of `open_dataset`.

    Raises:
        DataError: when the name is unknown, or its loader is the user's own and so nothing is known without its files.

    >>> describe("cifar100")
    Description(train=50000, test=10000, classes=100, input_shape=(3, 32, 32))
    """
    found = _entry(name).describe
    if found is None:
        raise DataError(f"what data set '{name}' holds is known only from its files; give their folder with --data")
    _check_params(name, found, params)
    return found(**params)


def _entry(name: str) -> Entry:
    """Return a registered data set, or one that a function of the user's own loads."""
    return Entry(imported(name, "data set", DataError)) if ":" in name else DATASETS.named(name)


def _check_params(name: str, function: Callable[..., Any], params: Mapping[str, Any]) -> None:
    known = inspect.signature(function).parameters
    odd = [key for key in params if key not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values())]
    if odd:
        takes = ", ".join(key for key in known if key != "folder") or "none"
        raise DataError(f"data set '{name}' has no parameter '{odd[0]}' (data.params); it takes {takes}")


def open_dataset(
    name: str,
    *,
    folder: str | Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    subset_seed: int = 0,
    params: Mapping[str, Any] = MappingProxyType({}),
) -> DataSource:
    """Return a data set, in memory or streamed, whichever its loader makes.

    Args:
        name: a registered name, or `package.module:function` of a loader of your own, which may also return a pair of
            torch data sets or DataLoaders, see `reticket.data.collected`; what is too large for memory is read as it is
            needed.
        folder: where its files are; without it the environment variable RETICKET_DATA (the folder itself or a parent of
            it), then the place where a Debian package puts it.
        train_size: number of training inputs to keep, class-balanced; all without it.
        test_size: the same of the test inputs.
        subset_seed: decides which inputs `train_size` and `test_size` keep.
        params: what the loader takes besides, for instance `{"side": 128}` for ImageNet.

    Raises:
        DataError: when the name is unknown, files are missing, truncated or of another format, a size is not possible,
            or the loader does not take `params`.

    >>> open_dataset("digits", test_size=20).labels("test").bincount().tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    loaded = _loaded(name, None if folder is None else Path(folder), params)
    if train_size is not None:
        loaded = loaded.with_train_subset(_chosen(loaded, "train", train_size, name, "subset", subset_seed))
    if test_size is not None:
        loaded = loaded.with_test_subset(_chosen(loaded, "test", test_size, name, "test subset", subset_seed))
    return loaded


def _loaded(name: str, folder: Path | None, params: Mapping[str, Any]) -> DataSource:
    """Return what a loader makes; what the user's own raises is said with its place."""
    loader = _entry(name).load
    _check_params(name, loader, params)
    try:
        loaded = loader(folder, **params)
        return loaded if isinstance(loaded, DataSource) else source_of(name, loaded)
    except ReticketError:
        raise
    except OF_OTHERS as reason:
        if ":" not in name:
            raise
        raise DataError(f"data set '{name}' cannot be loaded: its loader raised {raised(reason, loader)}") from reason


def _chosen(source: DataSource, split: Split, size: int, *labels_of_seed: str | int) -> Int64[Tensor, " size"]:
    """Return which inputs of a part are kept, as many of each class where each input has one."""
    if source.is_classified:
        return balanced_indices(source.labels(split), size, *labels_of_seed)
    if not 1 <= size <= source.size(split):
        raise DataError(f"{size} inputs cannot be taken of {source.size(split)}; choose from 1 to {source.size(split)}")
    chosen = drawn_indices(source.size(split), size, *labels_of_seed)
    assert chosen is not None
    return chosen.sort().values


def load_dataset(
    name: str,
    *,
    folder: str | Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    subset_seed: int = 0,
) -> Dataset:
    """Return a data set in memory.

    Args:
        name, folder, train_size, test_size, subset_seed: those of `reticket.data.open_dataset`: which data, where its
            files are, and how many inputs of each part to keep, class-balanced.

    Raises:
        DataError: as `open_dataset`, and for a data set that is streamed.

    >>> load_dataset("digits", train_size=100).train_x.shape
    torch.Size([100, 64])
    """
    loaded = open_dataset(name, folder=folder, train_size=train_size, test_size=test_size, subset_seed=subset_seed)
    if not isinstance(loaded, Dataset):
        raise DataError(
            f"data set '{name}' is streamed and not held in memory; open it with reticket.data.open_dataset"
        )
    return loaded
