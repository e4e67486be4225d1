"""The registry of data sets: a loader is a function from a folder to a data set, under a decorator."""

from collections.abc import Callable
from pathlib import Path

from reticket.data.dataset import Dataset
from reticket.data.source import DataSource
from reticket.data.subset import balanced_indices
from reticket.errors import DataError
from reticket.lookup import function_named

Loader = Callable[[Path | None], DataSource]
LOADERS: dict[str, Loader] = {}


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register a loader under `name`.

    Args:
        name: what users write; the loader is called with the folder they gave, or None, and returns the full data set.
    """

    def register(loader: Loader) -> Loader:
        if name in LOADERS:
            raise DataError(f"data set '{name}' is registered already; choose another name")
        LOADERS[name] = loader
        return loader

    return register


def list_datasets() -> tuple[str, ...]:
    """Return the names of all registered data sets.

    >>> list_datasets()
    ('cifar10', 'digits', 'fashion-mnist')
    """
    return tuple(sorted(LOADERS))


def open_dataset(
    name: str,
    *,
    folder: Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    subset_seed: int = 0,
) -> DataSource:
    """Return a data set, in memory or streamed, whichever its loader makes.

    Args:
        name: a registered name, or `package.module:function` of a loader of your own.
        folder: where its files are; without it the environment variable RETICKET_DATA (the folder itself or a parent of
            it), then the place where a Debian package puts it.
        train_size: number of training inputs to keep, class-balanced; all without it.
        test_size: the same of the test inputs.
        subset_seed: decides which inputs `train_size` and `test_size` keep.

    Raises:
        DataError: when the name is unknown, files are missing, truncated or of another format, or a size is not
            possible.

    >>> open_dataset("digits", test_size=20).labels("test").bincount().tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    loader = function_named(name, LOADERS, "data set", DataError)
    loaded = loader(folder)
    if not isinstance(loaded, DataSource):
        raise DataError(f"loader '{name}' returned a {type(loaded).__name__}, but a reticket.data.Dataset was expected")
    if train_size is not None:
        chosen = balanced_indices(loaded.labels("train"), train_size, name, "subset", subset_seed)
        loaded = loaded.with_train_subset(chosen)
    if test_size is not None:
        chosen = balanced_indices(loaded.labels("test"), test_size, name, "test subset", subset_seed)
        loaded = loaded.with_test_subset(chosen)
    return loaded


def load_dataset(
    name: str,
    *,
    folder: Path | None = None,
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
