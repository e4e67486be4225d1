"""Batches from a data set in memory, gathered and augmented many images at a time, in an order that labels decide."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from reticket.data import Dataset
from reticket.rng import generator_for
from reticket.training.recipe import steps_per_epoch

PADDING = 4
CHUNK_VALUES = 2**20  # gathered at a time: few calls for small inputs, little memory for large ones


class Batches:
    """The training inputs of a data set as batches, the same for the same labels wherever a run begins or stops.

    Epoch e draws its permutation, then (with augmentation) all its flips and crops, from
    `generator_for(*order, "epoch", e)`; nothing else decides them.

    Args:
        dataset: the data; moved to `device` once, as stored.
        batch_size: inputs in a batch.
        order: labels of data order and augmentation.
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
    ) -> None:
        self.dataset, self.batch_size, self.order = dataset, batch_size, order
        self.dtype, self.device, self.channels_last = dtype, device, channels_last
        self.n = len(dataset.train_y)
        self.steps = steps_per_epoch(self.n, batch_size)
        self.augment = augment and dataset.augmentation == "flip-crop"
        x = dataset.train_x.to(device)
        if self.augment:
            x = F.pad(x, (PADDING,) * 4)
        self.x = x.permute(0, 2, 3, 1).contiguous() if channels_last and dataset.is_images else x
        self.y = dataset.train_y.to(device)
        values = dataset.train_x[0].numel()
        self.chunk = batch_size * max(1, CHUNK_VALUES // (batch_size * values))

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Float[Tensor, "n ..."], Int64[Tensor, " n"]]]:
        """Yield the batches of one epoch as (normalised inputs, labels), without the first `skip` of them."""
        generator = generator_for(*self.order, "epoch", epoch)
        order = torch.randperm(self.n, generator=generator)
        crops = flips = None
        if self.augment:
            crops = torch.randint(2 * PADDING + 1, (2, self.n), generator=generator).to(self.device)
            flips = (torch.rand(self.n, generator=generator) < 0.5).to(self.device)
        order = order.to(self.device)
        for begin in range(skip * self.batch_size, min(self.n, self.steps * self.batch_size), self.chunk):
            part = slice(begin, min(begin + self.chunk, self.n, self.steps * self.batch_size))
            if crops is not None and flips is not None:
                x = self._augmented(order[part], crops[:, part], flips[part])
            else:
                x = self.x[order[part]]
                x = x.permute(0, 3, 1, 2) if self.channels_last and x.dim() == 4 else x
            x = self.dataset.normalise(x).to(self.dtype)
            yield from zip(x.split(self.batch_size), self.y[order[part]].split(self.batch_size), strict=True)

    def _augmented(
        self, index: Int64[Tensor, " n"], crops: Int64[Tensor, "2 n"], flips: Tensor
    ) -> UInt8[Tensor, "n c h w"]:
        height, width = self.dataset.input_shape[1:]
        if self.channels_last:
            windows = self.x.unfold(1, height, 1).unfold(2, width, 1)  # (n, top, left, c, h, w), a view
        else:
            windows = self.x.unfold(2, height, 1).unfold(3, width, 1).movedim(1, 3)
        x = windows[index, crops[0], crops[1]]
        x = torch.where(flips.view(-1, 1, 1, 1), x.flip(3), x)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x
