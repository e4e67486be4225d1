"""The items of anybody's data sets, read by number and put together to inputs and labels as tensors."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from reticket.errors import DataError

AT_ONCE = 256  # items put together at a time
LABELS = ("labels", "label", "y", "target")  # what an item that is a mapping may call its label
PARTS = (("train",), ("test", "validation", "valid", "val"))


@dataclass(frozen=True, eq=False)
class Items:
    """A part of a data set: something with `__len__` and `__getitem__`, some or all of whose items count, in order.

    Args:
        name: what errors call the data set.
        source: gives an item by its number, the same one each time.
        together: makes of a list of items one batch of inputs and labels.
        label: which entry of a mapping is the label; None for one that is called as usual.
        value: which entry is the input; None for the other one.
        chosen: numbers of the items that count; None for all.
    """

    name: str
    source: Any
    together: Callable[[list[Any]], Any]
    label: str | None = None
    value: str | None = None
    chosen: Int64[Tensor, " n"] | None = None
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, name: str, part: Any, label: str | None, value: str | None) -> "Items":
        """Return the items of a map-style data set, or of a DataLoader of one.

        Raises:
            DataError: when it has no items that are read by number.
        """
        together = default_collate
        if isinstance(part, DataLoader):
            part, together = part.dataset, part.collate_fn
        if isinstance(part, IterableDataset) or not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            raise DataError(
                f"data set '{name}' has a part that is a {type(part).__name__}, which cannot be read by number; give a "
                f"data set with __len__ and __getitem__"
            )
        if len(part) == 0:
            raise DataError(f"data set '{name}' has a part without items; give at least one")
        return cls(name, part, together, label, value)

    def __len__(self) -> int:
        return len(self.source) if self.chosen is None else len(self.chosen)

    def take(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of some items, in this order, one thread at a time.

        Raises:
            DataError: when they are no pairs of tensors.
        """
        if self.chosen is not None:
            numbers = self.chosen[list(numbers)].tolist()
        with self._reading:
            batch = self.together([self.source[number] for number in numbers])
        inputs, labels = _pair(self.name, batch, self.label, self.value)
        return _plain(inputs), _plain(labels)

    def batches(self, size: int = AT_ONCE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels of all items in order, `size` at a time."""
        for begin in range(0, len(self), size):
            yield self.take(range(begin, min(len(self), begin + size)))

    def only(self, numbers: Int64[Tensor, " k"]) -> "Items":
        """Return some of the items."""
        return replace(self, chosen=numbers if self.chosen is None else self.chosen[numbers])


def two_parts(name: str, parts: object) -> tuple[Any, Any]:
    """Return what a loader gave as a training and a test part.

    Args:
        name: what errors call it.
        parts: a pair, or a mapping with "train" and "test".

    Raises:
        DataError: when it is neither.
    """
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


def class_names(known: Any, count: int) -> tuple[str, ...]:
    """Return the names of the classes where they are known and are enough, else numbers.

    Args:
        known: what somebody says the classes are called, if it is a list of names.
        count: how many there are at least.
    """
    if isinstance(known, Sequence) and not isinstance(known, str) and len(known) >= count:
        return tuple(map(str, known))
    return tuple(map(str, range(count)))


def as_it_is(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a mean and a deviation that change nothing of inputs like these."""
    count = x.shape[1] if x.dim() == 4 else 1
    return (0.0,) * count, (1.0,) * count


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
