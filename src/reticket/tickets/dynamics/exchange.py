"""Dynamics that exchange weights inside each layer, so that its number of kept weights stays: SET and RigL."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reticket.options import Within
from reticket.tickets.dynamics.registry import dynamics
from reticket.tickets.mask import Mask
from reticket.tickets.ranking import keep_largest


@dynamics("set")
def set_(
    mask: Mask,
    weights: Mapping[str, Float[Tensor, "..."]],
    progress: float,
    generator: torch.Generator,
    *,
    fraction: Annotated[float, Within(0, 1)] = 0.3,
) -> Mask:
    """SET: a fraction of each layer's smallest weights goes, as many come at random.

    Of a layer with n kept weights floor(fraction n) of least |w| go, at most as many as it has pruned ones, and as many
    of those come that were pruned before, from 0. At the last change nothing is exchanged any more.

    Args:
        mask: as it is.
        weights: the masked weights by name.
        progress: share of the changing part of the training that is done, in (0, 1].
        generator: on the CPU; layers are drawn in the order of their names' spelling.
        fraction: of the kept weights that is exchanged, zeta in the paper, in [0, 1].

    Returns:
        The next mask, with as many kept in each layer.

    Mocanu et al. 2018, arXiv 1707.04780, algorithm 1. Deviations: signs are not told apart (the paper drops the
    smallest positive and the largest negative weights, each by that fraction); it changes the mask every `every` steps
    up to a share `end` of the training, not after each epoch.

    >>> mask = Mask({"w": torch.tensor([True, True, False, False])})
    >>> set_.function(mask, {"w": torch.tensor([3.0, -1.0, 0, 0])}, 0.5, torch.Generator(), fraction=0.5)["w"][:2]
    tensor([ True, False])
    """
    found: dict[str, Tensor] = {}
    for name in sorted(mask):
        kept = mask[name].flatten()
        pruned = (~kept).nonzero().flatten()
        count = 0 if progress >= 1 else min(exchanged(fraction, int(kept.sum())), len(pruned))
        stays = without_smallest(weights[name].flatten(), kept, count)
        stays[pruned[torch.randperm(len(pruned), generator=generator, device="cpu")[:count]]] = True
        found[name] = stays.view_as(mask[name])
    return Mask({name: found[name] for name in mask})


@dynamics("rigl")
def rigl(
    mask: Mask,
    weights: Mapping[str, Float[Tensor, "..."]],
    gradient: Mapping[str, Float[Tensor, "..."]],
    progress: float,
    *,
    alpha: Annotated[float, Within(0, 1)] = 0.3,
) -> Mask:
    """RigL: a fraction of each layer's smallest weights goes, as many come where the dense gradient is largest.

    f(t) = alpha / 2 (1 + cos(pi t / T_end)); of a layer with n kept weights floor(f n) of least |w| go, and of all that
    do not stay as many of largest |dL/dw| come. Those that come anew begin at 0; one that went and comes keeps its
    weight.

    Args:
        mask: as it is.
        weights: the masked weights by name.
        gradient: of the loss by name, pruned weights included.
        progress: t / T_end, share of the changing part of the training that is done, in (0, 1].
        alpha: the fraction exchanged at the beginning, in [0, 1].

    Returns:
        The next mask, with as many kept in each layer.

    Evci et al. 2020, arXiv 1911.11134, section 3 and algorithm 1, with T_end at `end` of the training and delta T =
    `every`. Deviation: the training steps at the changes too, where the paper leaves the step out.

    >>> mask = Mask({"w": torch.tensor([True, True, False, False])})
    >>> weights, gradient = torch.tensor([3.0, -1.0, 0, 0]), torch.tensor([0.0, 1.0, 0.5, -2.0])
    >>> rigl.function(mask, {"w": weights}, {"w": gradient}, 1e-9, alpha=0.5)["w"]
    tensor([ True, False, False,  True])
    """
    share = annealed(alpha, progress)
    found = {}
    for name, before in mask.items():
        kept = before.flatten()
        count = exchanged(share, int(kept.sum()))
        stays = without_smallest(weights[name].flatten(), kept, count)
        size = gradient[name].flatten().abs().float().masked_fill(stays, -math.inf)
        found[name] = (stays | keep_largest(size, count)).view_as(before)
    return Mask(found)


def annealed(alpha: float, progress: float) -> float:
    """Return alpha / 2 (1 + cos(pi t)), which falls from alpha at t = 0 to 0 at t = 1.

    >>> [round(annealed(0.3, t), 3) for t in (0, 0.5, 1)]
    [0.3, 0.15, 0.0]
    """
    return alpha / 2 * (1 + math.cos(math.pi * progress))


def without_smallest(weights: Float[Tensor, " n"], kept: Bool[Tensor, " n"], count: int) -> Bool[Tensor, " n"]:
    """Return what is kept without the `count` weights of least magnitude; of equal ones the first stay.

    Args:
        weights: of one layer.
        kept: which of them are kept.
        count: how many go, at most as many as are kept.
    """
    size = weights.abs().float().masked_fill(~kept, -math.inf)
    return keep_largest(size, int(kept.sum()) - count)


def exchanged(share: float, kept: int) -> int:
    """Return a share of what is kept, in whole weights.

    The product is rounded to 1e-6 first, so that its last bits do not count.

    >>> exchanged(0.3, 10), exchanged(0.29, 10)
    (3, 2)
    """
    return math.floor(round(share * kept, 6))
