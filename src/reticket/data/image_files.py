"""A data set of image files on a disk, decoded while it is used."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from reticket.data.class_folders import Files
from reticket.data.decode import middle_pixels, read_image, training_pixels
from reticket.data.parallel import decoded_batches
from reticket.data.source import Augmentation, Split, StreamedSource, part_of
from reticket.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageFiles(StreamedSource):
    """A classification data set of image files; memory holds their names and a few batches, however many there are.

    In training an image gives a random part of it, mirrored or not (`decode.random_part`), scaled to `side`; in
    evaluation, matching and barriers its middle after its shorter side was scaled to `shorter`.

    Args:
        name: the name it is registered under.
        train, test: the files of each part.
        classes: the names of the classes.
        mean, std: per channel, of values scaled to [0, 1].
        side: height and width of an input, in pixels.
        shorter: what an image's shorter side is scaled to in evaluation, at least `side`.
        augmentation: "resized-crop-flip" or "none".

    Raises:
        DataError: when sizes or constants are not possible.
    """

    name: str
    train: Files
    test: Files
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side: int
    shorter: int
    augmentation: Augmentation = "resized-crop-flip"

    def __post_init__(self) -> None:
        if not 1 <= self.side <= self.shorter:
            raise DataError(
                f"data set '{self.name}' has images of {self.side} pixels cut from {self.shorter}; use at least 1, and "
                f"no more than they are cut from"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise DataError(
                f"data set '{self.name}' needs mean and std of 3 channels, std > 0: {self.mean}, {self.std}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""
        return (3, self.side, self.side)

    def files(self, split: Split) -> Files:
        """Return the files of a part."""
        return part_of(split, self.train, self.test)

    def labels(self, split: Split) -> Int64[Tensor, " n"]:
        """Return the labels of the "train" or "test" part."""
        return self.files(split).labels

    def stored(
        self, split: Split, batch_size: int, indices: Int64[Tensor, " k"] | None = None
    ) -> Iterator[tuple[UInt8[Tensor, "n 3 s s"], Int64[Tensor, " n"]]]:
        """Yield (the middle of each image, labels) in order, `batch_size` at a time; see `DataSource.stored`.

        Args:
            split: the part.
            batch_size: images at a time.
            indices: which images; all, in order, when None.
        """
        files = self.files(split)
        parts = (torch.arange(len(files.labels), device="cpu") if indices is None else indices).split(batch_size)

        def pixels(index: int) -> UInt8[np.ndarray, "s s 3"]:
            return middle_pixels(read_image(files.path(index)), self.side, self.shorter)

        made = decoded_batches((part.tolist() for part in parts), pixels, self.side)
        yield from zip(made, (files.labels[part] for part in parts), strict=True)

    def drawn(
        self, batches: Iterable[Int64[Tensor, " _"]], labels: tuple[str | int, ...], *, augment: bool
    ) -> Iterator[UInt8[Tensor, "n 3 s s"]]:
        """Yield the training images of one batch of indices after another; see `StreamedSource.drawn`.

        Args:
            batches: indices of the training images of each batch.
            labels: of the random numbers of augmentation.
            augment: whether images are cropped and flipped at random, where the data set says so.
        """
        files = self.train
        augment = augment and self.augmentation != "none"

        def pixels(index: int) -> UInt8[np.ndarray, "s s 3"]:
            image = read_image(files.path(index))
            if augment:
                return training_pixels(image, self.side, (*labels, "image", files.label(index)))
            return middle_pixels(image, self.side, self.shorter)

        yield from decoded_batches((part.tolist() for part in batches), pixels, self.side)

    def fingerprint(self) -> str:
        """Return a sha256 of all names, sizes and labels of the files, and of how they are shown.

        What the files hold is not read: that would take hours.
        """
        shown = (self.mean, self.std, self.augmentation, self.classes, self.side, self.shorter)
        digest = hashlib.sha256(repr(shown).encode())
        for files in (self.train, self.test):
            digest.update(files.digest())
        return digest.hexdigest()

    def with_train_subset(self, indices: Int64[Tensor, " n"]) -> "ImageFiles":
        """Return the same data set with only these training images; all else stays."""
        return dataclasses.replace(self, train=self.train.take(indices))

    def with_test_subset(self, indices: Int64[Tensor, " n"]) -> "ImageFiles":
        """Return the same data set with only these test images; all else stays."""
        return dataclasses.replace(self, test=self.test.take(indices))
