"""Anybody's torch data set that does not fit into memory: items are read by number as they are needed."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from reticket.data.dataset import Dataset
from reticket.data.items import Items, as_it_is, class_names
from reticket.data.moments import moments_of
from reticket.data.source import Augmentation, Split, StreamedSource, part_of
from reticket.errors import DataError


@dataclass(frozen=True, eq=False)
class OnDemand(StreamedSource):
    """A data set of items that are read when they are needed; memory holds labels and a batch.

    Args:
        form: what it would be in memory, every input of a part standing for the first one; it takes no memory.
        train, test: the items of each part.
    """

    form: Dataset
    train: Items
    test: Items
    name: str = field(init=False)
    classes: tuple[str, ...] = field(init=False)
    mean: tuple[float, ...] = field(init=False)
    std: tuple[float, ...] = field(init=False)
    augmentation: Augmentation = field(init=False)

    def __post_init__(self) -> None:
        for shared in ("name", "classes", "mean", "std", "augmentation"):
            object.__setattr__(self, shared, getattr(self.form, shared))

    @classmethod
    def scanned(cls, name: str, train: Items, test: Items, known: object) -> "OnDemand":
        """Read all items once, for their labels and moments.

        Args:
            name: what errors call the data set.
            train, test: the items of each part.
            known: names of the classes, if any.

        Raises:
            DataError: when an item is not like the first one.
        """
        of_train, of_test = _Scan(train), _Scan(test)
        is_image = of_train.first.dtype == torch.uint8 and of_train.first.dim() == 4
        mean, std = moments_of(of_train) if is_image else as_it_is(of_train.first)
        parts = [_standing_for(scan.first, len(scan.items)) for scan in (of_train, of_test)]
        (train_x, train_y), (test_x, test_y) = zip(parts, (of_train.labels(), of_test.labels()), strict=True)
        predicted = train_y.is_floating_point()
        count = train_y.shape[1:].numel() if predicted else 1 + max(of_train.highest, of_test.highest)
        classes = class_names(None if predicted else known, count)
        return cls(Dataset(name, train_x, train_y, test_x, test_y, classes, mean, std), train, test)

    @property
    def is_tokens(self) -> bool:
        """Whether an input is a row of tokens."""
        return self.form.is_tokens

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""
        return self.form.input_shape

    def labels(self, split: Split) -> Shaped[Tensor, "n ..."]:
        """Return the labels of the "train" or "test" part."""
        return self.form.labels(split)

    def stored(
        self, split: Split, batch_size: int, indices: Int64[Tensor, " k"] | None = None
    ) -> Iterator[tuple[Tensor, Shaped[Tensor, "n ..."]]]:
        """Yield (inputs as stored, labels) of a part in order, `batch_size` at a time; see `DataSource.stored`.

        Args:
            split: the part.
            batch_size: inputs at a time.
            indices: which inputs; all, in order, when None.
        """
        chosen = torch.arange(self.size(split), device="cpu") if indices is None else indices
        for numbers in chosen.split(batch_size):
            yield self._items(split).take(numbers.tolist())

    def drawn(
        self, batches: Iterable[Int64[Tensor, " _"]], labels: tuple[str | int, ...], *, augment: bool
    ) -> Iterator[Tensor]:
        """Yield the training inputs of one batch of indices after another; nothing is drawn for them.

        Args:
            batches: indices of training inputs, taken as they are needed.
            labels: of no meaning here.
            augment: of no meaning here.
        """
        for numbers in batches:
            empty = self.form.train_x[:0]
            yield self.train.take(numbers.tolist())[0] if len(numbers) else empty

    def fingerprint(self) -> str:
        """Return the sha256 that the same data have in memory; all items are read for it."""
        form = self.form
        digest = hashlib.sha256(repr((form.mean, form.std, form.augmentation, form.classes)).encode())
        for split in ("train", "test"):
            x, y = form.split(split)
            digest.update(repr((x.dtype, tuple(x.shape))).encode())
            for inputs, _ in self._items(split).batches():
                digest.update(inputs.contiguous().numpy().data.cast("B"))
            digest.update(repr((y.dtype, tuple(y.shape))).encode())
            digest.update(y.contiguous().numpy().data.cast("B"))
        return digest.hexdigest()

    def with_train_subset(self, indices: Int64[Tensor, " n"]) -> "OnDemand":
        """Return the same data set with only these training inputs; all else stays."""
        x, y = self.form.split("train")
        form = replace(self.form, train_x=_standing_for(x, len(indices)), train_y=y[indices])
        return replace(self, form=form, train=self.train.only(indices))

    def with_test_subset(self, indices: Int64[Tensor, " n"]) -> "OnDemand":
        """Return the same data set with only these test inputs; all else stays."""
        x, y = self.form.split("test")
        form = replace(self.form, test_x=_standing_for(x, len(indices)), test_y=y[indices])
        return replace(self, form=form, test=self.test.only(indices))

    def _items(self, split: Split) -> Items:
        return part_of(split, self.train, self.test)


class _Scan:
    """One reading of all inputs of a part, which notes the labels and the highest class or token on its way."""

    def __init__(self, items: Items) -> None:
        self.items, self.first, self.highest = items, items.take([0])[0], 0
        self._labels: list[Tensor] = []

    def labels(self) -> Tensor:
        """Return all labels, for which what is left is read."""
        if not self._labels:
            deque(self, maxlen=0)
        return torch.cat(self._labels)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the inputs, some at a time."""
        for x, y in self.items.batches():
            self._check(x)
            self._labels.append(y)
            for tensor in (x, y):
                if tensor.dtype == torch.int64:
                    self._note(int(tensor.min()), int(tensor.max()))
            yield x

    def _check(self, x: Tensor) -> None:
        """Refuse inputs that are not like the first one."""
        kinds = [f"{tensor.dtype} of shape {tuple(tensor.shape[1:])}" for tensor in (self.first, x)]
        if kinds[0] != kinds[1]:
            raise DataError(
                f"data set '{self.items.name}' has inputs that are {kinds[0]} and others that are {kinds[1]}; "
                f"make them all alike"
            )

    def _note(self, lowest: int, highest: int) -> None:
        """Note classes or tokens."""
        if lowest < 0:
            raise DataError(f"data set '{self.items.name}' has a label or token {lowest}; number them from 0")
        self.highest = max(self.highest, highest)


def _standing_for(x: Tensor, count: int) -> Tensor:
    """Return the first input as many times, without memory of its own."""
    return x[:1].expand(count, *x.shape[1:])
