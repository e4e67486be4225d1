"""What the rest of the package reads a data set through, whether it is held in memory or streamed from a disk."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar, get_args

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from reticket.errors import DataError

Split = Literal["train", "test"]
Part = TypeVar("Part")
Augmentation = Literal["none", "crop", "flip-crop", "resized-crop-flip"]


def part_of(split: Split, train: Part, test: Part) -> Part:
    """Return what belongs to the "train" or the "test" part, of both.

    Raises:
        DataError: for another part: the whole package knows these two.

    >>> part_of("test", 60_000, 10_000)
    10000
    """
    if split not in get_args(Split):
        raise DataError(f"split is {split!r}, but a data set has the parts 'train' and 'test'; name one of these")
    return train if split == "train" else test


class DataSource(ABC):
    """A data set, split into training and test.

    Inputs are numbered within their part from 0. As stored they are images, uint8 or float32 of shape `(channels,
    height, width)`, features, float32 `(features,)` or of any other shape, or tokens, int64 `(tokens,)`; `normalise`
    makes them ready for a model. Labels are classes, one for each input or, for tokens, one for each token; or numbers
    to be predicted.

    Attributes:
        name: the name it is registered under.
        classes: the names of the classes, a label being a place in it: of tokens the vocabulary; of numbers to be
            predicted what each of them is.
        mean, std: per channel (images, those of bytes scaled to [0, 1]), or one number each for all features.
        augmentation: what training does to an image.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch: `(channels, height, width)` or `(features,)`."""

    @property
    def is_images(self) -> bool:
        """Whether an input is an image (channels, height, width) and not a vector of features."""
        return len(self.input_shape) == 3

    @property
    def is_tokens(self) -> bool:
        """Whether an input is a row of tokens, places in the vocabulary."""
        return False

    @property
    def is_classified(self) -> bool:
        """Whether there is one class for each input."""
        labels = self.labels("train")
        return labels.dim() == 1 and not labels.is_floating_point()

    @abstractmethod
    def labels(self, split: Split) -> Shaped[Tensor, "n ..."]:
        """Return the labels of the "train" or "test" part: int64, or float32 where numbers are predicted."""

    @abstractmethod
    def stored(
        self, split: Split, batch_size: int, indices: Int64[Tensor, " k"] | None = None
    ) -> Iterator[tuple[Tensor, Shaped[Tensor, "n ..."]]]:
        """Yield (inputs as stored, labels) of a part in order, never augmented, `batch_size` at a time.

        Args:
            split: "train" or "test".
            batch_size: inputs in a batch; the last may have fewer.
            indices: which inputs, in this order; all without it.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a sha256 of everything that decides a result."""

    @abstractmethod
    def with_train_subset(self, indices: Int64[Tensor, " n"]) -> "DataSource":
        """Return the same data set with only these training inputs; the test part and the normalisation stay."""

    @abstractmethod
    def with_test_subset(self, indices: Int64[Tensor, " n"]) -> "DataSource":
        """Return the same data set with only these test inputs; all else stays."""

    def size(self, split: Split) -> int:
        """Return the number of inputs of a part."""
        return len(self.labels(split))

    def normalise(self, x: Tensor) -> Shaped[Tensor, "..."]:
        """Return inputs ready for a model: float32, minus the mean, divided by the standard deviation.

        Args:
            x: a batch as stored, on any device; tokens stay as they are.
        """
        if self.is_tokens:
            return x
        if not self.is_images:
            return (x - self.mean[0]) / self.std[0]
        if x.is_floating_point():
            mean, std = (torch.tensor(value, device=x.device).view(-1, 1, 1) for value in (self.mean, self.std))
            return (x - mean) / std
        scale, shift = _scale_and_shift(self.mean, self.std, x.device)
        return x.to(torch.float32).mul_(scale).add_(shift)


class StreamedSource(DataSource):
    """A data set whose inputs are read as they are needed, in bounded memory."""

    @abstractmethod
    def drawn(
        self, batches: Iterable[Int64[Tensor, " _"]], labels: tuple[str | int, ...], *, augment: bool
    ) -> Iterator[Tensor]:
        """Yield the training inputs of one batch of indices after another, as stored but augmented.

        Args:
            batches: indices of training inputs, taken as they are needed.
            labels: of the data's order and the epoch; with an input they decide what becomes of it.
            augment: whether to do what `augmentation` says.
        """


@cache  # recorded training steps read them where they are
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Float[Tensor, "channels 1 1"], Float[Tensor, "channels 1 1"]]:
    """Return what makes `x / 255` normalised, kept on the device: bringing it there makes the host wait."""
    with torch.inference_mode(False):  # whoever asks first, training may use them too
        scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=device).view(-1, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device).view(-1, 1, 1)
    return scale, shift


@dataclass(frozen=True, eq=False)
class Reading:
    """Inputs of a part in order as batches of (normalised inputs, labels), made anew each time they are read.

    Only one batch is held at a time, however large the part is.

    Args:
        source: the data.
        split: "train" or "test".
        batch_size: inputs in a batch; the last may have fewer.
        indices: which inputs, in this order; all when None.
        device: where the batches are wanted.
    """

    source: DataSource
    split: Split
    batch_size: int
    indices: Int64[Tensor, " k"] | None = None
    device: str | torch.device = "cpu"

    def __iter__(self) -> Iterator[tuple[Shaped[Tensor, "n ..."], Shaped[Tensor, "n ..."]]]:
        """Yield the batches from the beginning."""
        for x, y in self.source.stored(self.split, self.batch_size, self.indices):
            yield self.source.normalise(x.to(self.device)), y.to(self.device)

    @property
    def inputs(self) -> int:
        """How many inputs are read."""
        return self.source.size(self.split) if self.indices is None else len(self.indices)
