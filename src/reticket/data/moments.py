"""Mean and standard deviation of all pixels, exact and therefore the same on every machine."""

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
    count = images.numel() // images.shape[1]
    total = torch.zeros(images.shape[1], dtype=torch.int64, device="cpu")
    squares = torch.zeros_like(total)
    for part in images.split(CHUNK):
        wide = part.to(torch.int32)
        total += wide.sum((0, 2, 3), dtype=torch.int64)
        squares += wide.square_().sum((0, 2, 3), dtype=torch.int64)
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).sqrt()
    return tuple(round(float(m) / 255, 6) for m in mean), tuple(round(float(s) / 255, 6) for s in std)
