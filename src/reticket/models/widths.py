"""Scaling a number of channels by a width factor."""

from reticket.errors import ModelError


def scaled(channels: int, width: float | int) -> int:
    """Return `channels * width`, rounded.

    Raises:
        ModelError: when less than one channel is left.

    >>> scaled(64, 0.5)
    32
    """
    result = round(channels * width)
    if result < 1:
        raise ModelError(f"width {width} leaves {result} of {channels} channels; use at least {1 / channels:.3g}")
    return result
