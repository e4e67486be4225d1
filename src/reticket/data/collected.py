"""Any torch data set, read item by item in order and looked at for what it is: in memory, or where it is too large."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from reticket.data.dataset import Dataset
from reticket.data.items import Items, as_it_is, class_names, two_parts
from reticket.data.moments import channel_moments
from reticket.data.on_demand import OnDemand
from reticket.data.source import DataSource
from reticket.errors import ConfigError

VARIABLE = "RETICKET_IN_MEMORY"
IN_MEMORY = 4.0  # GiB


def collected(
    name: str,
    parts: object,
    *,
    label: str | None = None,
    value: str | None = None,
    names: Sequence[str] | None = None,
) -> Dataset:
    """Return a data set in memory of a training and a test part of anybody's.

    Each part is a map-style torch data set, or a DataLoader of one (of which the data set and how items are put
    together count, not the order), or a part of a saved Hugging Face `DatasetDict`. An item is a pair of input and
    label, or a mapping of two. Inputs may be images (uint8 or floating, channels first), features of any shape or
    tokens; labels whole numbers, one for each input or for each token, or floating numbers to be predicted. Images of
    bytes are normalised by the moments of their training part; everything else is taken as it is. The parts must give
    the same items each time they are read.

    Args:
        name: what errors call it.
        parts: (training part, test part), or a mapping with "train" and "test".
        label: which entry of a mapping is the label; where it is not called as usual.
        value: which entry is the input, where there are more than two.
        names: of the classes; None for `classes` of the training part, or else numbers.

    Raises:
        DataError: when a part or an item is of another kind.

    >>> pairs = [(torch.zeros(3), 0), (torch.ones(3), 1)]
    >>> found = collected("pairs", (pairs, pairs))
    >>> found.train_x.shape, found.classes
    (torch.Size([2, 3]), ('0', '1'))
    """
    train, test = (Items.of(name, part, label, value) for part in two_parts(name, parts))
    return _in_memory(name, train, test, names or _named_classes(parts))


def source_of(
    name: str,
    parts: object,
    *,
    label: str | None = None,
    value: str | None = None,
    names: Sequence[str] | None = None,
) -> DataSource:
    """Return what `collected` does where it takes no more than RETICKET_IN_MEMORY gibibytes (4), else `OnDemand`.

    Both give the same inputs in the same order, the same fingerprint and the same results.

    Args:
        name, parts, label, value, names: those of `collected`.

    Raises:
        DataError: when a part or an item is of another kind.
        ConfigError: when the variable is no number.
    """
    train, test = (Items.of(name, part, label, value) for part in two_parts(name, parts))
    known = names or _named_classes(parts)
    if _bytes_of(train) + _bytes_of(test) <= in_memory() * 2**30:
        return _in_memory(name, train, test, known)
    return OnDemand.scanned(name, train, test, known)


def in_memory() -> float:
    """Return how many gibibytes of anybody's data set are held in memory.

    Raises:
        ConfigError: when the variable is not a number, 0 or above.
    """
    text = os.environ.get(VARIABLE, str(IN_MEMORY))
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not found >= 0:
        raise ConfigError(f"{VARIABLE} is '{text}'; set it to a number of gibibytes, 0 or above")
    return found


def _named_classes(parts: object) -> object:
    train, _ = two_parts("", parts)
    return getattr(train.dataset if isinstance(train, DataLoader) else train, "classes", None)


def _bytes_of(items: Items) -> int:
    """Return what the inputs of a part take, going by the first."""
    return len(items) * items.take([0])[0].nbytes


def _in_memory(name: str, train: Items, test: Items, known: object) -> Dataset:
    (train_x, train_y), (test_x, test_y) = (_whole(part) for part in (train, test))
    count = train_y.shape[1:].numel()
    if not train_y.is_floating_point():
        highest = [int(y.max()) for y in (train_y, test_y)]
        count = 1 + max(highest + [int(x.max()) for x in (train_x, test_x) if x.dtype == torch.int64])
    classes = class_names(None if train_y.is_floating_point() else known, count)
    mean, std = channel_moments(train_x) if train_x.dtype == torch.uint8 and train_x.dim() == 4 else as_it_is(train_x)
    return Dataset(name, train_x, train_y, test_x, test_y, classes, mean, std)


def _whole(items: Items) -> tuple[Tensor, Tensor]:
    """Return all inputs and labels of a part."""
    inputs, labels = zip(*items.batches(), strict=True)
    return torch.cat(inputs), torch.cat(labels)
