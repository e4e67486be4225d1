"""Images of a published set at a half, a quarter, ... of their side: the same classes at a fraction of the work."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from reticket.errors import DataError

CHUNK = 2**13  # images that are held as whole numbers at a time


def check_side(name: str, side: object, full: int) -> None:
    """Refuse a side that images of `full` pixels cannot be averaged to.

    Raises:
        DataError: when it is no whole part of `full`.

    >>> check_side("cifar10", 16, 32)
    """
    possible = [full // factor for factor in range(1, full // 2 + 1) if full % factor == 0]
    if type(side) is not int or side not in possible:
        raise DataError(
            f"data set '{name}': side is {side!r}, but its images have {full} pixels a side, which are averaged to "
            f"{', '.join(map(str, possible[:-1]))} or {possible[-1]}"
        )


def shrunk(images: UInt8[Tensor, "n c full full"], side: int) -> UInt8[Tensor, "n c side side"]:
    """Return images whose pixels are means of squares of the given ones, halves rounded up.

    Sums of whole numbers have no rounding, so the images are the same on every machine.

    Args:
        images: square ones.
        side: height and width of the result, a divisor of theirs (`check_side`).

    >>> shrunk(torch.tensor([[1, 2], [4, 7]], dtype=torch.uint8)[None, None], 1)
    tensor([[[[4]]]], dtype=torch.uint8)
    """
    factor = images.shape[-1] // side
    if factor == 1:
        return images
    squares = images.unflatten(3, (side, factor)).unflatten(2, (side, factor))
    sums = torch.cat([part.sum((3, 5), dtype=torch.int32) for part in squares.split(CHUNK)])
    return ((2 * sums + factor**2) // (2 * factor**2)).to(torch.uint8)
