"""How many weights are kept: exact totals, shared out over layers."""

import math
from collections.abc import Mapping

from reticket.errors import MaskError


def kept_count(density: float, n: int) -> int:
    """Return the number of `n` weights that `density` keeps: density * n, rounded half up.

    The product is rounded to 1e-6 first, so that 1 - 0.9 and 0.1 count the same.

    Args:
        density: fraction kept, in (0, 1].
        n: number of weights.

    Raises:
        MaskError: when the density is not in (0, 1].

    >>> kept_count(0.1, 25), kept_count(1 - 0.9, 25)
    (3, 3)
    """
    if not 0 < density <= 1:
        raise MaskError(f"density {density} is not in (0, 1]; give the fraction of weights to keep (1 - sparsity)")
    return math.floor(round(density * n, 6) + 0.5)


def share_out(quotas: Mapping[str, float], total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Round real `quotas` that add up to `total` to whole numbers that do so exactly (largest remainder).

    Every count is its quota rounded up or down, and at most the layer's size; equal remainders go to the first layer.

    Args:
        quotas: name -> number of weights wanted.
        total: number of weights in all.
        sizes: name -> number of weights there are.

    Returns:
        Name -> number of weights to keep, in the order of `quotas`.

    >>> share_out({"a": 1.5, "b": 1.5, "c": 1.0}, 4, {"a": 3, "b": 3, "c": 3})
    {'a': 2, 'b': 1, 'c': 1}
    """
    counts = {name: min(math.floor(quota + 1e-9), sizes[name]) for name, quota in quotas.items()}
    while (short := total - sum(counts.values())) > 0:
        open_layers = [name for name in counts if counts[name] < sizes[name]]
        if not open_layers:
            raise MaskError(f"cannot keep {total} of {sum(sizes.values())} weights")
        open_layers.sort(key=lambda name: counts[name] - quotas[name])
        for name in open_layers[:short]:
            counts[name] += 1
    return counts


def erk_quotas(shapes: Mapping[str, tuple[int, ...]], total: int) -> dict[str, float]:
    """Return how many weights each layer is to keep by Erdos-Renyi-Kernel densities, as real numbers (`erk_counts`).

    Args:
        shapes: name -> shape.
        total: number of weights to keep in all.

    Returns:
        Name -> quota; they add up to the total.

    >>> erk_quotas({"a": (2, 2), "b": (4, 4)}, 6)
    {'a': 2.0, 'b': 4.0}
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    dense: list[str] = []
    while True:
        sums = {name: sum(shape) for name, shape in shapes.items() if name not in dense}
        left = total - sum(sizes[name] for name in dense)
        eps = left / sum(sums.values()) if sums else 0.0
        full = [name for name, around in sums.items() if eps * around > sizes[name]]
        if not full:
            return {name: float(sizes[name]) if name in dense else eps * sums[name] for name in shapes}
        dense += full


def raised(quotas: Mapping[str, float], least: Mapping[str, int], total: int) -> dict[str, float]:
    """Return quotas of which none is below the least that a layer keeps; the others shrink alike.

    Args:
        quotas: name -> number of weights wanted; they add up to `total`.
        least: name -> number of weights that the layer keeps at least; together at most `total`.
        total: number of weights in all.

    >>> raised({"a": 1.0, "b": 3.0, "c": 6.0}, {"a": 4}, 10)
    {'a': 4.0, 'b': 2.0, 'c': 4.0}
    """
    held: dict[str, int] = {}
    while True:
        free = sum(quota for name, quota in quotas.items() if name not in held)
        share = (total - sum(held.values())) / free if free else 0.0
        found = {name: share * quota if name not in held else float(held[name]) for name, quota in quotas.items()}
        below = {name: least[name] for name in found if name in least and found[name] < least[name]}
        if not below:
            return found
        held |= below


def uniform_counts(density: float, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return how many weights each layer keeps when all have one density; the total is `kept_count` of all.

    Args:
        density: fraction kept, in (0, 1].
        sizes: name -> number of weights.

    Raises:
        MaskError: when a layer would keep nothing.
    """
    total = kept_count(density, sum(sizes.values()))
    counts = share_out({name: density * size for name, size in sizes.items()}, total, sizes)
    refuse_empty(counts, sizes, density)
    return counts


def refuse_empty(counts: Mapping[str, int], sizes: Mapping[str, int], density: float) -> None:
    """Raise when a layer keeps nothing, since nothing can pass through it.

    Raises:
        MaskError: naming the layer and the least density that keeps one weight.
    """
    for name, count in counts.items():
        if count == 0:
            raise MaskError(
                f"density {density} keeps 0 of {sizes[name]} weights in '{name}'; "
                f"use density >= {1 / max(sizes[name], 1):.3g} or exclude it"
            )
