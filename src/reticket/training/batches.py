"""Batches of training inputs in an order that labels decide: gathered from memory, or streamed from a disk."""

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, Unpack
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from reticket.data import Dataset, DataSource, StreamedSource
from reticket.errors import ConfigError, DataError
from reticket.rng import generator_for
from reticket.training.augmentations import Transform, transformed
from reticket.training.mixing import Mixing, mixing_of
from reticket.training.recipe import Recipe, steps_per_epoch

CHUNK_VALUES = 2**20  # gathered at a time: few calls for small inputs, little memory for large ones
NORMALISED_BYTES = 256 * 2**20  # of inputs that are kept normalised, as nothing is drawn for them


Batch = tuple[Shaped[Tensor, "n ..."], Shaped[Tensor, "n ..."]]  # normalised inputs, or tokens, and labels; mixed
# inputs have probabilities of every class for labels


class Options(TypedDict):
    """The further arguments of `TrainingBatches`, named there."""

    augment: bool
    dtype: torch.dtype
    device: torch.device
    channels_last: bool
    shard: NotRequired[tuple[int, int]]
    transform: NotRequired[Transform | None]
    mixing: NotRequired[Mixing | None]


class TrainingBatches(ABC):
    """The training inputs of a data set as batches, the same for the same labels wherever a run begins or stops.

    Args:
        dataset: the data.
        batch_size: inputs in a batch, those of all ranks together.
        rng_label: labels of data order and augmentation.
        augment: whether to do what `dataset.augmentation` says.
        dtype: of the model's inputs.
        device: where the batches are wanted.
        channels_last: memory layout of images.
        shard: (rank, world): of every batch of n inputs only those from `n rank // world` to `n (rank + 1) // world`
            are made, which may be none. All ranks together see the batches of a single process.
        transform: what becomes of every input as stored, after that; decided by epoch and place in its order.
        mixing: what becomes of a batch in the end; decided by epoch and number.

    Raises:
        ConfigError: when batches are to be mixed of which a rank has only a part.
    """

    def __init__(
        self,
        dataset: DataSource,
        batch_size: int,
        rng_label: tuple[str | int, ...],
        *,
        augment: bool,
        dtype: torch.dtype,
        device: torch.device,
        channels_last: bool,
        shard: tuple[int, int] = (0, 1),
        transform: Transform | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        self.dataset, self.batch_size, self.rng_label, self.shard = dataset, batch_size, rng_label, shard
        self.augment, self.dtype, self.device = augment, dtype, device
        self.transform, self.mixing = transform, mixing
        if mixing is not None and shard[1] > 1:
            raise ConfigError(f"mixup and cutmix mix whole batches, but {shard[1]} processes share them; train in one")
        self.channels_last = channels_last and dataset.is_images
        self.n = dataset.size("train")
        self.steps = steps_per_epoch(self.n, batch_size)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch as (normalised inputs, labels), without the first `skip` of them."""
        return self._mixed(epoch, self.positions(skip))

    def batch(self, epoch: int, number: int) -> Batch:
        """Return one batch of an epoch as (normalised inputs, labels); no other is made."""
        return next(self._mixed(epoch, self.positions(number)[:1]))

    @abstractmethod
    def made(self, epoch: int, batches: Sequence[range]) -> Iterator[Batch]:
        """Yield the batches at some positions of an epoch's order as (normalised inputs, labels), not mixed."""

    def _mixed(self, epoch: int, batches: Sequence[range]) -> Iterator[Batch]:
        made, mixing = self.made(epoch, batches), self.mixing
        if mixing is None:
            return made
        return (
            mixing(x, y, generator_for(*self.rng_label, "epoch", epoch, "mixing", positions.start))
            for positions, (x, y) in zip(batches, made, strict=True)
        )

    def seeds(self, epoch: int) -> Int64[Tensor, " n"]:
        """Return what decides the transform of each position in an epoch's order."""
        generator = generator_for(*self.rng_label, "epoch", epoch, "transform")
        return torch.randint(2**62, (self.n,), generator=generator, device="cpu")

    def size(self, number: int) -> int:
        """Return how many inputs the batch of this number in an epoch has, those of all ranks together."""
        return min(self.batch_size, self.n - number * self.batch_size)

    def positions(self, skip: int) -> list[range]:
        """Return for every batch of an epoch but the first `skip` the positions in the epoch's order that are made."""
        rank, world = self.shard
        batches = []
        for number in range(skip, self.steps):
            begin, size = number * self.batch_size, self.size(number)
            batches.append(range(begin + size * rank // world, begin + size * (rank + 1) // world))
        return batches


@dataclass(frozen=True, eq=False)
class Draws:
    """What an epoch draws, or a part of it.

    Args:
        order: which input stands at which position.
        crops: first row and column of each position's window, at most twice the padding; None where nothing is cropped.
        flips: which are mirrored; None where nothing is.
        seeds: what decides the transform of each position; None where there is none.
    """

    order: Int64[Tensor, " n"]
    crops: Int64[Tensor, "2 n"] | None = None
    flips: Bool[Tensor, " n"] | None = None
    seeds: Int64[Tensor, " n"] | None = None

    def at(self, positions: "slice | Int64[Tensor, ' m']") -> "Draws":
        """Return what was drawn for some positions."""
        return self._changed(lambda drawn: drawn[..., positions])

    def to(self, device: torch.device) -> "Draws":
        """Return the same on a device, from the CPU; a GPU is not waited for."""
        return self._changed(lambda drawn: sent(drawn, device))

    def copy_(self, other: "Draws") -> None:
        """Take over what stands in another one of the same kind; from the CPU without waiting for the device."""
        for own, theirs in zip(self._tensors(), other._tensors(), strict=True):
            if own is not None and theirs is not None:
                own.copy_(staged(theirs, own.device), non_blocking=True)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Draws":
        order, *others = self._tensors()
        assert order is not None
        return Draws(change(order), *(None if drawn is None else change(drawn) for drawn in others))

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.order, self.crops, self.flips, self.seeds


class Batches(TrainingBatches):
    """Batches of a data set in memory; see `TrainingBatches` for the arguments.

    Epoch e draws its permutation, then (with augmentation) all its flips and crops, from
    `generator_for(*rng_label, "epoch", e)`; nothing else decides them. The data go to the device once, to a GPU once
    for all runs of this process: as stored, or normalised where nothing is augmented and they are small. Where a
    transform of one input is to be done they stay on the CPU, which does it, and batches go to the device.
    """

    dataset: Dataset

    def __init__(
        self, dataset: Dataset, batch_size: int, rng_label: tuple[str | int, ...], **options: Unpack[Options]
    ) -> None:
        super().__init__(dataset, batch_size, rng_label, **options)
        self.crop = self.augment and dataset.augmentation in ("crop", "flip-crop")
        self.flip = self.augment and dataset.augmentation == "flip-crop"
        self.held_on = self.device if self.transform is None else torch.device("cpu")
        is_small = dataset.train_x.numel() * self.dtype.itemsize <= NORMALISED_BYTES
        self.normalised = not self.crop and self.transform is None and is_small
        self.x, self.y = self._on_device()
        at_once = CHUNK_VALUES // (batch_size * dataset.train_x[0].numel())
        # batches gathered at a time; on a GPU one, since a kernel is chosen by where in memory its inputs begin
        self.chunk = 1 if self.device.type == "cuda" else max(1, at_once)

    def made(self, epoch: int, batches: Sequence[range]) -> Iterator[Batch]:
        """Yield the batches at some positions of an epoch's order as (normalised inputs, labels)."""
        draws = self.draws(epoch).to(self.held_on)
        for first in range(0, len(batches), self.chunk):
            together = batches[first : first + self.chunk]
            x, y = self.taken(draws.at(_joined(together, self.held_on)))
            sizes = [len(positions) for positions in together]
            yield from zip(x.split(sizes), y.split(sizes), strict=True)

    def draws(self, epoch: int) -> Draws:
        """Return what an epoch draws, on the CPU."""
        generator = generator_for(*self.rng_label, "epoch", epoch)
        order = torch.randperm(self.n, generator=generator, device="cpu")
        places = 2 * self.dataset.padding + 1
        crops = torch.randint(places, (2, self.n), generator=generator, device="cpu") if self.crop else None
        flips = torch.rand(self.n, generator=generator, device="cpu") < 0.5 if self.flip else None
        return Draws(order, crops, flips, None if self.transform is None else self.seeds(epoch))

    def taken(self, draws: Draws) -> Batch:
        """Return the (normalised inputs, labels) that some draws stand for; nothing is read from a device."""
        x, y = self.x.index_select(0, draws.order), self.y.index_select(0, draws.order)
        if draws.crops is not None:
            x = _cropped(x, draws.crops, self.dataset.padding)
        if draws.flips is not None:
            x = torch.where(draws.flips.view(-1, 1, 1, 1), x.flip(3), x)
        if self.transform is not None and draws.seeds is not None:
            x, y = sent(transformed(self.transform, x, draws.seeds), self.device), sent(y, self.device)
        if not self.normalised:
            x = self._ready(x.contiguous(memory_format=torch.channels_last) if self.channels_last else x)
        elif self.channels_last:
            x = x.permute(0, 3, 1, 2)
        return x, y

    def _on_device(self) -> tuple[Tensor, Shaped[Tensor, "n ..."]]:
        """Return inputs and labels where they are wanted; on a GPU the same for all runs and threads."""
        if self.held_on.type != "cuda":
            return self._moved()
        with _moving:
            held = _held.setdefault(self.dataset, {})
            key = (self.device, self.normalised and (self.dtype, self.channels_last))
            if key not in held:
                held[key] = self._moved()
                torch.cuda.current_stream(self.device).synchronize()  # other threads read it on their own streams
            return held[key]

    def _moved(self) -> tuple[Tensor, Shaped[Tensor, "n ..."]]:
        x, y = self.dataset.train_x.to(self.held_on), self.dataset.train_y.to(self.held_on)
        if self.normalised:
            x = torch.cat([self._ready(part) for part in x.split(1024)])
            x = x.permute(0, 2, 3, 1).contiguous() if self.channels_last else x
        return x, y

    def _ready(self, x: Tensor) -> Shaped[Tensor, "n ..."]:
        ready = self.dataset.normalise(x)
        return ready if self.dataset.is_tokens else ready.to(self.dtype)


_moving = threading.Lock()
_held: WeakKeyDictionary[Dataset, dict[Any, tuple[Tensor, Tensor]]] = WeakKeyDictionary()  # on GPUs, by what they are


class StreamedBatches(TrainingBatches):
    """Batches of a data set that is streamed: of each batch only this rank's inputs are read.

    See `TrainingBatches` for the arguments. Epoch e draws its permutation from `generator_for(*rng_label, "epoch", e)`,
    and what becomes of an image file from these labels and its name; nothing else decides them.
    """

    dataset: StreamedSource

    def made(self, epoch: int, batches: Sequence[range]) -> Iterator[Batch]:
        """Yield the batches at some positions of an epoch's order as (normalised inputs, labels)."""
        labels, y = (*self.rng_label, "epoch", epoch), self.dataset.labels("train")
        order = torch.randperm(self.n, generator=generator_for(*labels), device="cpu")
        indices_of = [order[positions.start : positions.stop] for positions in batches]
        drawn = self.dataset.drawn(indices_of, labels, augment=self.augment)
        seeds = None if self.transform is None else self.seeds(epoch)
        for positions, indices in zip(batches, indices_of, strict=True):
            seeds_of = None if seeds is None else seeds[positions.start : positions.stop]
            yield self._ready(next(drawn), seeds_of), y[indices].to(self.device)  # kept by nothing here

    def _ready(self, x: Tensor, seeds: Int64[Tensor, " n"] | None) -> Shaped[Tensor, "n ..."]:
        if self.transform is not None and seeds is not None:
            x = transformed(self.transform, x, seeds)
        ready = self.dataset.normalise(x.to(self.device))
        ready = ready if self.dataset.is_tokens else ready.to(self.dtype)
        return ready.contiguous(memory_format=torch.channels_last) if self.channels_last else ready


def training_batches(
    dataset: DataSource, batch_size: int, rng_label: tuple[str | int, ...], **options: Unpack[Options]
) -> TrainingBatches:
    """Return the batches of a data set; see `TrainingBatches` for the arguments."""
    if isinstance(dataset, StreamedSource):
        return StreamedBatches(dataset, batch_size, rng_label, **options)
    if isinstance(dataset, Dataset):
        return Batches(dataset, batch_size, rng_label, **options)
    raise DataError(f"data set '{dataset.name}' cannot be trained on: it is a {type(dataset).__name__}")


def batches_by(
    recipe: Recipe,
    dataset: DataSource,
    rng_label: tuple[str | int, ...],
    *,
    dtype: torch.dtype,
    device: torch.device,
    channels_last: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> TrainingBatches:
    """Return the batches that a recipe makes of a data set; see `TrainingBatches` for the other arguments.

    Args:
        recipe: says how large they are, what becomes of an input and whether inputs are mixed.

    Raises:
        ConfigError: when the data cannot be mixed, or not here.
    """
    return training_batches(
        dataset,
        recipe.batch_size,
        rng_label,
        augment=recipe.augment is not False,
        dtype=dtype,
        device=device,
        channels_last=channels_last,
        shard=shard,
        transform=recipe.transform(),
        mixing=mixing_of(dataset, recipe.mixup, recipe.cutmix),
    )


def _cropped(x: UInt8[Tensor, "n c h w"], crops: Int64[Tensor, "2 n"], padding: int) -> UInt8[Tensor, "n c h w"]:
    """Return of every image, padded with black, the part that begins at its row and column of `crops`."""
    windows = F.pad(x, (padding,) * 4).unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)  # (n, c, top, left, h, w)
    return windows.movedim(1, 3)[torch.arange(len(x), device=x.device), crops[0], crops[1]]


def staged(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU where a device can take it from while the CPU goes on: pinned for a GPU."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; on a GPU without waiting for it."""
    return staged(tensor, device).to(device, non_blocking=True)


def _joined(batches: Sequence[range], device: torch.device) -> slice | Int64[Tensor, " n"]:
    """Return the positions of several batches as one index: a slice where they follow on each other."""
    if all(a.stop == b.start for a, b in itertools.pairwise(batches)):
        return slice(batches[0].start, batches[-1].stop)
    return sent(
        torch.cat([torch.arange(positions.start, positions.stop, device="cpu") for positions in batches]), device
    )
