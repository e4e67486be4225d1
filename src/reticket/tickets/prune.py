"""Magnitude pruning with exact kept counts."""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.lookup import nearest
from reticket.symmetry.filled import check_filled
from reticket.tickets.by_name import refuse_twice
from reticket.tickets.counts import kept_count, refuse_empty, share_out
from reticket.tickets.mask import Mask
from reticket.tickets.prunable import named_weights
from reticket.types import StateDict

Scope = Literal["global", "layer"]
"""Where magnitudes are compared: over all layers, or inside each."""
SCOPES = get_args(Scope)


def prune_magnitude(
    model: nn.Module | StateDict,
    density: float,
    *,
    names: Iterable[str] | None = None,
    scope: Scope = "global",
    within: Mask | None = None,
) -> Mask:
    """Keep the weights of largest magnitude, exactly as many as the density says.

    With N weights in all, round(density * N) are kept (half up). Of equal magnitudes the first is kept: first by the
    order of `names`, then row-major within the tensor. With `scope="global"` the magnitudes of all layers are compared;
    with `scope="layer"` each layer keeps its density * n, rounded up or down such that the total is the same.

    Args:
        model: a module, or weights by name.
        density: fraction of the named weights to keep, in (0, 1]; also with `within`, it is a fraction of all of them.
        names: weights to prune, or one of them; by default those of `within`, else `prunable(model)`.
        scope: compare magnitudes over all layers or inside each.
        within: an earlier mask; only what it keeps can be kept.

    Returns:
        A mask of the named weights.

    Raises:
        MaskError: when the scope is unknown, a density is out of range or keeps nothing (of a layer, with
            `scope="layer"`), a weight is not finite or named twice, or `within` keeps fewer weights than wanted or
            masks others.
        ModelError: when the model holds no values (lazy, meta).

    >>> prune_magnitude({"w": torch.tensor([0.1, -3.0, 2.0, 2.0])}, 0.5, names=["w"])["w"]
    tensor([False,  True,  True, False])
    """
    check_scope(scope)
    if isinstance(model, nn.Module):
        check_filled(model)
    weights = named_weights(model, names, within)
    refuse_twice(model, weights)
    if within is not None:
        if set(within) != set(weights):
            raise MaskError("`within` masks other weights than those named; prune the names of the earlier mask")
        within.check_fits(weights)
    magnitudes = {name: _magnitudes(name, weight, within) for name, weight in weights.items()}
    sizes = {name: magnitude.numel() for name, magnitude in magnitudes.items()}
    total = kept_count(density, sum(sizes.values()))
    if total == 0:
        refuse_empty({"all layers": 0}, {"all layers": sum(sizes.values())}, density)
    if within is not None and total > within.kept:
        raise MaskError(f"density {density} keeps {total} weights, but `within` only has {within.kept}; prune further")
    if scope == "global":
        flat = keep_largest(torch.cat(list(magnitudes.values())), total)
        flags = dict(zip(magnitudes, flat.split(list(sizes.values())), strict=True))
    else:
        counts = _layer_counts(density, total, sizes, within)
        flags = {name: keep_largest(magnitude, counts[name]) for name, magnitude in magnitudes.items()}
    return Mask({name: flags[name].reshape(weight.shape) for name, weight in weights.items()})


def check_scope(scope: object) -> None:
    """Refuse a scope that there is not.

    Raises:
        MaskError: with the nearest right one.
    """
    if scope not in SCOPES:
        raise MaskError(
            f"unknown scope {scope!r}{nearest(str(scope).lower(), SCOPES)}; choose from {', '.join(SCOPES)}"
        )


def keep_largest(magnitudes: Float[Tensor, " n"], kept: int) -> Bool[Tensor, " n"]:
    """Return True for exactly `kept` of the largest entries; of equal ones the first are kept.

    Args:
        magnitudes: finite numbers.
        kept: how many, in [0, n].
    """
    n = magnitudes.numel()
    if kept in (0, n):
        return torch.full((n,), kept == n, device="cpu")
    values = magnitudes.numpy()
    threshold = np.partition(values, n - kept)[n - kept]  # five times as fast as torch.kthvalue on 25 million
    keep = values > threshold
    ties = np.flatnonzero(values == threshold)
    keep[ties[: kept - int(keep.sum())]] = True
    return torch.from_numpy(keep)


def _magnitudes(name: str, weight: Tensor, within: Mask | None) -> Float[Tensor, " n"]:
    if not torch.isfinite(weight).all():
        bad = int((~torch.isfinite(weight)).sum())
        raise MaskError(
            f"'{name}' holds {bad} NaN or infinite weights, which have no rank; prune a network that trained"
        )
    magnitude = weight.cpu().abs().reshape(-1)
    if magnitude.dtype != torch.float64:
        magnitude = magnitude.float()
    return magnitude if within is None else magnitude.masked_fill(~within[name].reshape(-1), -1)


def _layer_counts(density: float, total: int, sizes: Mapping[str, int], within: Mask | None) -> dict[str, int]:
    counts = share_out({name: density * size for name, size in sizes.items()}, total, sizes)
    refuse_empty(counts, sizes, density)
    for name, count in counts.items():
        if within is not None and count > int(within[name].sum()):
            raise MaskError(
                f"density {density} keeps {count} weights in '{name}', but `within` only has {int(within[name].sum())} "
                f"there; prune further, or with scope='global' as before"
            )
    return counts
