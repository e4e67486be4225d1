"""Mean and standard deviation of all pixels, exact and therefore the same on every machine."""

from collections.abc import Iterable

import torch
from jaxtyping import UInt8
from torch import Tensor

CHUNK = 2**13  # images whose squares are held at a time


def channel_moments(
    images: UInt8[Tensor, "n channels height width"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel's pixels scaled to [0, 1], to six decimals.

    Sums of whole numbers have no rounding, so the result depends on neither threads nor the order of adding.

    >>> channel_moments(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    return moments_of(images.split(CHUNK))


def moments_of(
    parts: Iterable[UInt8[Tensor, "_ channels height width"]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what `channel_moments` does of images that come some at a time.

    Args:
        parts: of the images, at least one.
    """
    count, sums = 0, torch.zeros(2, 1, dtype=torch.int64, device="cpu")
    for part in parts:
        wide = part.to(torch.int32)
        count += part.numel() // part.shape[1]
        both = wide.sum((0, 2, 3), dtype=torch.int64), wide.square_().sum((0, 2, 3), dtype=torch.int64)
        sums = sums + torch.stack(both)
    total, squares = sums
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).sqrt()
    return tuple(round(float(m) / 255, 6) for m in mean), tuple(round(float(s) / 255, 6) for s in std)
