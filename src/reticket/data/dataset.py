"""The value a loader returns: images or features with labels, split into training and test, in memory."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from reticket.data.source import Augmentation, DataSource, Split, part_of
from reticket.errors import DataError

PADDING = 4  # around an image that is cropped; an eighth of its side where that is less


@dataclass(frozen=True, eq=False)
class Dataset(DataSource):
    """A data set held in memory.

    Args:
        name: the name it is registered under.
        train_x, test_x: images as uint8 or float32 of shape `(n, channels, height, width)`, features as float32
            `(n, features)` or of any other shape, or tokens as int64 `(n, tokens)`.
        train_y, test_y: labels as int64 in `0 .. len(classes) - 1`: `(n,)`, or `(n, tokens)`, the token that follows
            each; or as float32 what is to be predicted, `(n,)` or `(n, numbers)`.
        classes: the names of the classes; the vocabulary; or what each number is.
        mean, std: per channel (images, those of bytes scaled to [0, 1]), or one number each for all features.
        augmentation: what training does to a batch: "crop" is a crop of the image's own size after padding by 4 black
            pixels (below 25 a side by an eighth of it), "flip-crop" the same and a horizontal flip with probability
            1/2, drawn for each image.

    Raises:
        DataError: when shapes, types, counts or labels do not fit each other.
    """

    name: str
    train_x: Tensor
    train_y: Shaped[Tensor, "n_train ..."]
    test_x: Tensor
    test_y: Shaped[Tensor, "n_test ..."]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = "none"

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            self._check_split(split)
        channels = self.train_x.shape[1] if self.is_images else 1
        if len(self.mean) != channels or len(self.std) != channels or not all(s > 0 for s in self.std):
            raise DataError(
                f"data set '{self.name}' has mean {self.mean} and std {self.std}; {channels} of each are needed, "
                f"std > 0"
            )
        possible = ("none", "crop", "flip-crop") if self.train_x.dtype == torch.uint8 else ("none",)
        if self.augmentation not in possible:
            raise DataError(
                f"data set '{self.name}' has augmentation '{self.augmentation}'; use 'none', or 'crop' or 'flip-crop' "
                f"for images of bytes"
            )

    def _check_split(self, split: Split) -> None:
        x, y = self.split(split)
        where = f"data set '{self.name}', {split} part"
        form = {torch.uint8: x.dim() == 4, torch.float32: x.dim() >= 2, torch.int64: x.dim() == 2}
        if not form.get(x.dtype) or x.dtype != self.train_x.dtype or x.shape[1:] != self.train_x.shape[1:]:
            raise DataError(
                f"{where}: x is {x.dtype} of shape {tuple(x.shape)}; images are uint8 (n, channels, height, width), "
                f"features float32 (n, features), tokens int64 (n, tokens), the same in both parts"
            )
        if len(x) != len(y) or len(x) == 0:
            raise DataError(f"{where}: {len(x)} inputs and {len(y)} labels; as many labels as inputs are needed, not 0")
        self._check_labels(y, where)
        if self.is_tokens and not 0 <= int(x.min()) <= int(x.max()) < len(self.classes):
            raise DataError(f"{where}: tokens {int(x.min())}..{int(x.max())}, but {len(self.classes)} are known")

    def _check_labels(self, y: Tensor, where: str) -> None:
        if y.dtype == torch.float32:
            if y.shape[1:].numel() != len(self.classes) or y.dim() > 2:
                raise DataError(
                    f"{where}: {tuple(y.shape)} numbers to be predicted with names for {len(self.classes)}; (n,) and "
                    f"one name, or (n, numbers) and as many, are needed"
                )
            return
        if y.dtype != torch.int64 or y.shape[1:] not in (torch.Size([]), self.train_x.shape[1:2] * self.is_tokens):
            raise DataError(
                f"{where}: y is {y.dtype} of shape {tuple(y.shape)}; labels are int64 (n,), one for each token, or "
                f"float32 numbers to be predicted"
            )
        if int(y.min()) < 0 or int(y.max()) >= len(self.classes):
            raise DataError(
                f"{where}: labels {int(y.min())}..{int(y.max())}; 0..{len(self.classes) - 1} were expected, "
                f"one for each of {len(self.classes)} classes"
            )

    @property
    def is_tokens(self) -> bool:
        """Whether an input is a row of tokens, places in the vocabulary."""
        return self.train_x.dtype == torch.int64

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch: `(channels, height, width)`, `(features,)` or `(tokens,)`."""
        return tuple(self.train_x.shape[1:])

    def split(self, split: Split) -> tuple[Tensor, Shaped[Tensor, "n ..."]]:
        """Return the inputs as stored and the labels of the "train" or "test" part."""
        return part_of(split, (self.train_x, self.train_y), (self.test_x, self.test_y))

    def labels(self, split: Split) -> Shaped[Tensor, "n ..."]:
        """Return the labels of the "train" or "test" part."""
        return self.split(split)[1]

    def stored(
        self, split: Split, batch_size: int, indices: Int64[Tensor, " k"] | None = None
    ) -> Iterator[tuple[Tensor, Shaped[Tensor, "n ..."]]]:
        """Yield (inputs as stored, labels) of a part in order, `batch_size` at a time; see `DataSource.stored`.

        Args:
            split: the part.
            batch_size: inputs at a time.
            indices: which inputs; all, in order, when None.
        """
        x, y = self.split(split)
        if indices is None:
            yield from zip(x.split(batch_size), y.split(batch_size), strict=True)
        else:
            yield from ((x[part], y[part]) for part in indices.split(batch_size))

    @property
    def padding(self) -> int:
        """Pixels of black around an image before it is cropped in training; 0 where images are not cropped."""
        if self.augmentation == "none":
            return 0
        return min(PADDING, -(-min(self.train_x.shape[2:]) // 8))

    def fingerprint(self) -> str:
        """Return a sha256 of everything that decides a result: every input, label and class, and the normalisation."""
        padding = () if self.padding in (0, PADDING) else (self.padding,)  # smaller images were padded as large ones
        digest = hashlib.sha256(repr((self.mean, self.std, self.augmentation, self.classes, *padding)).encode())
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.contiguous().numpy().data.cast("B"))
        return digest.hexdigest()

    def with_train_subset(self, indices: Int64[Tensor, " n"]) -> "Dataset":
        """Return the same data set with only these training inputs; the test part and the normalisation stay."""
        return dataclasses.replace(self, train_x=self.train_x[indices], train_y=self.train_y[indices])

    def with_test_subset(self, indices: Int64[Tensor, " n"]) -> "Dataset":
        """Return the same data set with only these test inputs; all else stays."""
        return dataclasses.replace(self, test_x=self.test_x[indices], test_y=self.test_y[indices])
