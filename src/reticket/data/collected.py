"""Any torch data set in memory: read once, item by item in order, and looked at for what it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from reticket.data.dataset import Dataset
from reticket.data.moments import channel_moments
from reticket.errors import DataError

AT_ONCE = 256  # items put together at a time
LABELS = ("labels", "label", "y", "target")  # what an item that is a mapping may call its label
PARTS = (("train",), ("test", "validation", "valid", "val"))


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
    train, test = _two(name, parts)
    (train_x, train_y), (test_x, test_y) = (_read(name, part, label, value) for part in (train, test))
    known = names or getattr(train.dataset if isinstance(train, DataLoader) else train, "classes", None)
    classes = _classes(known, train_x, train_y, test_x, test_y)
    mean, std = channel_moments(train_x) if train_x.dtype == torch.uint8 and train_x.dim() == 4 else _as_it_is(train_x)
    return Dataset(name, train_x, train_y, test_x, test_y, classes, mean, std)


def _two(name: str, parts: object) -> tuple[Any, Any]:
    if isinstance(parts, Mapping):
        found = [next((parts[key] for key in keys if key in parts), None) for keys in PARTS]
        if all(part is not None for part in found):
            return found[0], found[1]
    if isinstance(parts, Sequence) and not isinstance(parts, str) and len(parts) == 2:
        return parts[0], parts[1]
    raise DataError(
        f"loader '{name}' returned a {type(parts).__name__}, but a reticket.data.Dataset was expected, or a training "
        f"and a test part: two torch data sets or DataLoaders"
    )


def _read(name: str, part: Any, label: str | None, value: str | None) -> tuple[Tensor, Tensor]:
    """Return all inputs and labels of a part."""
    together = default_collate
    if isinstance(part, DataLoader):
        part, together = part.dataset, part.collate_fn
    if isinstance(part, IterableDataset) or not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
        raise DataError(
            f"data set '{name}' has a part that is a {type(part).__name__}, which cannot be read by number; give a "
            f"data set with __len__ and __getitem__"
        )
    count = len(part)
    begins = range(0, count, AT_ONCE)
    batches = [together([part[at] for at in range(begin, min(count, begin + AT_ONCE))]) for begin in begins]
    pairs = [_pair(name, batch, label, value) for batch in batches]
    if not pairs:
        raise DataError(f"data set '{name}' has a part without items; give at least one")
    return torch.cat([_plain(x) for x, _ in pairs]), torch.cat([_plain(y) for _, y in pairs])


def _pair(name: str, batch: Any, label: str | None, value: str | None) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of what was put together."""
    found = batch
    if isinstance(batch, Mapping):
        label = label or next((key for key in LABELS if key in batch), None)
        value = value or next((key for key in batch if key != label), None)
        found = (batch.get(value), batch.get(label))
    if isinstance(found, tuple | list) and len(found) == 2:
        inputs, labels = found
        if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
            return inputs, labels
    seen = f"a mapping of {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
    raise DataError(
        f"data set '{name}' has items that make {seen}, but inputs and labels as tensors were expected; give pairs, or "
        f"say which entries they are"
    )


def _plain(tensor: Tensor) -> Tensor:
    """Return a tensor in one of the types that a data set has."""
    if tensor.is_floating_point():
        return tensor.to("cpu", torch.float32)
    return tensor.cpu() if tensor.dtype == torch.uint8 and tensor.dim() == 4 else tensor.to("cpu", torch.int64)


def _classes(known: Any, train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> tuple[str, ...]:
    """Return the names of the classes where they are known and are enough, else numbers."""
    if train_y.is_floating_point():
        return tuple(str(number) for number in range(train_y.shape[1:].numel()))
    highest = [int(y.max()) for y in (train_y, test_y)]
    highest += [int(x.max()) for x in (train_x, test_x) if x.dtype == torch.int64]
    count = 1 + max(highest)
    if isinstance(known, Sequence) and not isinstance(known, str) and len(known) >= count:
        return tuple(map(str, known))
    return tuple(map(str, range(count)))


def _as_it_is(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a mean and a deviation that change nothing."""
    count = x.shape[1] if x.dim() == 4 else 1
    return (0.0,) * count, (1.0,) * count
