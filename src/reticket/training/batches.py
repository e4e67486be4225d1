"""Batches of training inputs in an order that labels decide: gathered from memory, or streamed from a disk."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NotRequired, TypedDict, Unpack

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from reticket.data import Dataset, DataSource, StreamedSource
from reticket.errors import DataError
from reticket.rng import generator_for
from reticket.training.recipe import steps_per_epoch

PADDING = 4
CHUNK_VALUES = 2**20  # gathered at a time: few calls for small inputs, little memory for large ones
NORMALISED_BYTES = 256 * 2**20  # of inputs that are kept normalised, as nothing is drawn for them


class Options(TypedDict):
    """The further arguments of `TrainingBatches`, named there."""

    augment: bool
    dtype: torch.dtype
    device: torch.device
    channels_last: bool
    shard: NotRequired[tuple[int, int]]


class TrainingBatches(ABC):
    """The training inputs of a data set as batches, the same for the same labels wherever a run begins or stops.

    Args:
        dataset: the data.
        batch_size: inputs in a batch, those of all ranks together.
        order: labels of data order and augmentation.
        augment: whether to do what `dataset.augmentation` says.
        dtype: of the model's inputs.
        device: where the batches are wanted.
        channels_last: memory layout of images.
        shard: (rank, world): of every batch of n inputs only those from `n rank // world` to `n (rank + 1) // world`
            are made, which may be none. All ranks together see the batches of a single process.
    """

    def __init__(
        self,
        dataset: DataSource,
        batch_size: int,
        order: tuple[str | int, ...],
        *,
        augment: bool,
        dtype: torch.dtype,
        device: torch.device,
        channels_last: bool,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.dataset, self.batch_size, self.order, self.shard = dataset, batch_size, order, shard
        self.augment, self.dtype, self.device = augment, dtype, device
        self.channels_last = channels_last and dataset.is_images
        self.n = dataset.size("train")
        self.steps = steps_per_epoch(self.n, batch_size)

    @abstractmethod
    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Float[Tensor, "n ..."], Int64[Tensor, " n"]]]:
        """Yield the batches of one epoch as (normalised inputs, labels), without the first `skip` of them."""

    def places(self, skip: int) -> list[range]:
        """Return for every batch of an epoch but the first `skip` the places in the epoch's order that are made."""
        rank, world = self.shard
        batches = []
        for begin in range(skip * self.batch_size, self.steps * self.batch_size, self.batch_size):
            size = min(self.batch_size, self.n - begin)
            batches.append(range(begin + size * rank // world, begin + size * (rank + 1) // world))
        return batches


class Batches(TrainingBatches):
    """Batches of a data set in memory; see `TrainingBatches` for the arguments.

    Epoch e draws its permutation, then (with augmentation) all its flips and crops, from
    `generator_for(*order, "epoch", e)`; nothing else decides them. The data are moved to the device once: as stored, or
    normalised where nothing is augmented and they are small.
    """

    dataset: Dataset

    def __init__(
        self, dataset: Dataset, batch_size: int, order: tuple[str | int, ...], **options: Unpack[Options]
    ) -> None:
        super().__init__(dataset, batch_size, order, **options)
        self.crop = self.augment and dataset.augmentation in ("crop", "flip-crop")
        self.flip = self.augment and dataset.augmentation == "flip-crop"
        self.y = dataset.train_y.to(self.device)
        self.x = dataset.train_x.to(self.device)
        self.normalised = not self.crop and self.x.numel() * self.dtype.itemsize <= NORMALISED_BYTES
        if self.normalised:
            self.x = torch.cat([self._ready(part) for part in self.x.split(1024)])
            if self.channels_last:
                self.x = self.x.permute(0, 2, 3, 1).contiguous()
        self.chunk = max(1, CHUNK_VALUES // (batch_size * dataset.train_x[0].numel()))  # batches gathered at a time

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Float[Tensor, "n ..."], Int64[Tensor, " n"]]]:
        """Yield the batches of one epoch as (normalised inputs, labels), without the first `skip` of them."""
        generator = generator_for(*self.order, "epoch", epoch)
        order = torch.randperm(self.n, generator=generator)
        crops = flips = None
        if self.crop:
            crops = torch.randint(2 * PADDING + 1, (2, self.n), generator=generator).to(self.device)
        if self.flip:
            flips = (torch.rand(self.n, generator=generator) < 0.5).to(self.device)
        order = order.to(self.device)
        batches = self.places(skip)
        for first in range(0, len(batches), self.chunk):
            together = batches[first : first + self.chunk]
            part = _joined(together, self.device)
            x = self.x.index_select(0, order[part])
            if crops is not None:
                x = _cropped(x, crops[:, part])
            if flips is not None:
                x = torch.where(flips[part].view(-1, 1, 1, 1), x.flip(3), x)
            if not self.normalised:
                x = self._ready(x.contiguous(memory_format=torch.channels_last) if self.channels_last else x)
            elif self.channels_last:
                x = x.permute(0, 3, 1, 2)
            sizes = [len(places) for places in together]
            yield from zip(x.split(sizes), self.y[order[part]].split(sizes), strict=True)

    def _ready(self, x: Tensor) -> Float[Tensor, "n ..."]:
        return self.dataset.normalise(x).to(self.dtype)


class StreamedBatches(TrainingBatches):
    """Batches of a data set that is streamed from a disk: of each batch only this rank's images are decoded.

    See `TrainingBatches` for the arguments. Epoch e draws its permutation from `generator_for(*order, "epoch", e)`, and
    what becomes of an image from these labels and the image's name; nothing else decides them.
    """

    dataset: StreamedSource

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Float[Tensor, "n ..."], Int64[Tensor, " n"]]]:
        """Yield the batches of one epoch as (normalised inputs, labels), without the first `skip` of them."""
        labels, y = (*self.order, "epoch", epoch), self.dataset.labels("train")
        order = torch.randperm(self.n, generator=generator_for(*labels))
        batches = [order[places.start : places.stop] for places in self.places(skip)]
        drawn = self.dataset.drawn(batches, labels, augment=self.augment)
        for indices in batches:  # nothing here keeps a batch that was handed over
            yield self._ready(next(drawn)), y[indices].to(self.device)

    def _ready(self, x: Tensor) -> Float[Tensor, "n ..."]:
        ready = self.dataset.normalise(x.to(self.device)).to(self.dtype)
        return ready.contiguous(memory_format=torch.channels_last) if self.channels_last else ready


def training_batches(
    dataset: DataSource, batch_size: int, order: tuple[str | int, ...], **options: Unpack[Options]
) -> TrainingBatches:
    """Return the batches of a data set; see `TrainingBatches` for the arguments."""
    if isinstance(dataset, StreamedSource):
        return StreamedBatches(dataset, batch_size, order, **options)
    if isinstance(dataset, Dataset):
        return Batches(dataset, batch_size, order, **options)
    raise DataError(f"data set '{dataset.name}' cannot be trained on: it is a {type(dataset).__name__}")


def _cropped(x: UInt8[Tensor, "n c h w"], crops: Int64[Tensor, "2 n"]) -> UInt8[Tensor, "n c h w"]:
    """Return of every image, padded with black, the part that begins at its row and column of `crops`."""
    windows = F.pad(x, (PADDING,) * 4).unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)  # (n, c, top, left, h, w)
    return windows.movedim(1, 3)[torch.arange(len(x), device=x.device), crops[0], crops[1]]


def _joined(batches: Sequence[range], device: torch.device) -> slice | Int64[Tensor, " n"]:
    """Return the places of several batches as one index: a slice where they follow on each other."""
    if all(a.stop == b.start for a, b in itertools.pairwise(batches)):
        return slice(batches[0].start, batches[-1].stop)
    return torch.cat([torch.arange(places.start, places.stop) for places in batches]).to(device)
