"""Batches of training inputs in an order that labels decide: gathered from memory, or streamed from a disk."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

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


class TrainingBatches(ABC):
    """The training inputs of a data set as batches, the same for the same labels wherever a run begins or stops.

    Args:
        dataset: the data.
        batch_size: inputs in a batch, those of all ranks together.
        order: labels of data order and augmentation.
        shard: (rank, world): of every batch of n inputs only those from `n rank // world` to `n (rank + 1) // world`
            are made, which may be none. All ranks together see the batches of a single process.
    """

    def __init__(
        self, dataset: DataSource, batch_size: int, order: tuple[str | int, ...], shard: tuple[int, int] = (0, 1)
    ) -> None:
        self.dataset, self.batch_size, self.order, self.shard = dataset, batch_size, order, shard
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


def training_batches(
    dataset: DataSource,
    batch_size: int,
    order: tuple[str | int, ...],
    *,
    augment: bool,
    dtype: torch.dtype,
    device: torch.device,
    channels_last: bool,
    shard: tuple[int, int] = (0, 1),
) -> TrainingBatches:
    """Return the batches of a data set; see `TrainingBatches` and `Batches` for the arguments."""
    if isinstance(dataset, StreamedSource):
        return StreamedBatches(dataset, batch_size, order, augment=augment, dtype=dtype, device=device, shard=shard)
    if not isinstance(dataset, Dataset):
        raise DataError(f"data set '{dataset.name}' cannot be trained on: it is a {type(dataset).__name__}")
    return Batches(
        dataset,
        batch_size,
        order,
        augment=augment,
        dtype=dtype,
        device=device,
        channels_last=channels_last,
        shard=shard,
    )


class Batches(TrainingBatches):
    """Batches of a data set in memory.

    Epoch e draws its permutation, then (with augmentation) all its flips and crops, from
    `generator_for(*order, "epoch", e)`; nothing else decides them.

    Args:
        dataset: the data; moved to `device` once, as stored.
        batch_size, order, shard: see `TrainingBatches`.
        augment: whether to do what `dataset.augmentation` says.
        dtype: of the model's inputs.
        device: where the batches are made.
        channels_last: memory layout of images.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        order: tuple[str | int, ...],
        *,
        augment: bool,
        dtype: torch.dtype,
        device: torch.device,
        channels_last: bool,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(dataset, batch_size, order, shard)
        self.dtype, self.device, self.channels_last = dtype, device, channels_last
        self.crop = augment and dataset.augmentation in ("crop", "flip-crop")
        self.flip = augment and dataset.augmentation == "flip-crop"
        x = dataset.train_x.to(device)
        if self.crop:
            x = F.pad(x, (PADDING,) * 4)
        self.x = x.permute(0, 2, 3, 1).contiguous() if channels_last and dataset.is_images else x
        self.y = dataset.train_y.to(device)
        values = dataset.train_x[0].numel()
        self.chunk = max(1, CHUNK_VALUES // (batch_size * values))  # batches gathered at a time

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
            if crops is not None:
                x = self._augmented(order[part], crops[:, part], None if flips is None else flips[part])
            else:
                x = self.x[order[part]]
                x = x.permute(0, 3, 1, 2) if self.channels_last and x.dim() == 4 else x
            x = self.dataset.normalise(x).to(self.dtype)
            sizes = [len(places) for places in together]
            yield from zip(x.split(sizes), self.y[order[part]].split(sizes), strict=True)

    def _augmented(
        self, index: Int64[Tensor, " n"], crops: Int64[Tensor, "2 n"], flips: Tensor | None
    ) -> UInt8[Tensor, "n c h w"]:
        height, width = self.dataset.input_shape[1:]
        if self.channels_last:
            windows = self.x.unfold(1, height, 1).unfold(2, width, 1)  # (n, top, left, c, h, w), a view
        else:
            windows = self.x.unfold(2, height, 1).unfold(3, width, 1).movedim(1, 3)
        x = windows[index, crops[0], crops[1]]
        if flips is not None:
            x = torch.where(flips.view(-1, 1, 1, 1), x.flip(3), x)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x


class StreamedBatches(TrainingBatches):
    """Batches of a data set that is streamed from a disk: of each batch only this rank's images are decoded.

    Epoch e draws its permutation from `generator_for(*order, "epoch", e)`, and what becomes of an image from these
    labels and the image's name; nothing else decides them.

    Args:
        dataset: the data.
        batch_size, order, shard: see `TrainingBatches`.
        augment: whether to do what `dataset.augmentation` says.
        dtype: of the model's inputs.
        device: where the batches are wanted.
    """

    def __init__(
        self,
        dataset: StreamedSource,
        batch_size: int,
        order: tuple[str | int, ...],
        *,
        augment: bool,
        dtype: torch.dtype,
        device: torch.device,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(dataset, batch_size, order, shard)
        self.source, self.augment, self.dtype, self.device = dataset, augment, dtype, device
        self.y = dataset.labels("train")

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Float[Tensor, "n ..."], Int64[Tensor, " n"]]]:
        """Yield the batches of one epoch as (normalised inputs, labels), without the first `skip` of them."""
        labels = (*self.order, "epoch", epoch)
        order = torch.randperm(self.n, generator=generator_for(*labels))
        batches = [order[places.start : places.stop] for places in self.places(skip)]
        drawn = self.source.drawn(batches, labels, augment=self.augment)
        for indices, x in zip(batches, drawn, strict=True):
            ready = self.source.normalise(x.to(self.device)).to(self.dtype)
            yield ready, self.y[indices].to(self.device)


def _joined(batches: Sequence[range], device: torch.device) -> slice | Int64[Tensor, " n"]:
    """Return the places of several batches as one index: a slice where they follow on each other."""
    if all(a.stop == b.start for a, b in itertools.pairwise(batches)):
        return slice(batches[0].start, batches[-1].stop)
    return torch.cat([torch.arange(places.start, places.stop) for places in batches]).to(device)
