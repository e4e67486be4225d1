"""Masks that know nothing of a trained network, or only its layer densities: the controls of an experiment."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.rng import as_generator
from reticket.tickets.counts import kept_count, refuse_empty, share_out, uniform_counts
from reticket.tickets.mask import Mask
from reticket.tickets.prunable import named_weights
from reticket.weights import Weights, state_of


def random_mask(like: Weights, density: float, generator: torch.Generator | int) -> Mask:
    """Return a mask drawn uniformly at the same density in every layer; the total kept is exact.

    Deviation from the "uniform" of Evci et al. 2020: the first layer is pruned like the others.

    Args:
        like: name -> tensor (a weight or a mask) of the shape to mask, or a module: its `prunable` weights.
        density: fraction kept, in (0, 1].
        generator: on the CPU, or a seed; layers are drawn in the order of their names' spelling.

    Raises:
        MaskError: when the density is out of range or a layer would keep nothing.

    >>> random_mask({"w": torch.zeros(4, 5)}, 0.25, torch.Generator().manual_seed(0)).kept
    5
    """
    like = _shapes(like)
    return _draw(like, uniform_counts(density, _sizes(like)), generator)


def erk_counts(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, int]:
    """Return how many weights each layer keeps under Erdos-Renyi-Kernel densities (Evci et al. 2020, section 3, ERK).

    The density of a layer of shape (out, in, height, width) is eps * (out + in + height + width) / (out * in * height *
    width), and eps * (out + in) / (out * in) for a linear layer; layers that would exceed 1 are dense, and eps is such
    that the total is exact.

    Args:
        shapes: name -> shape.
        density: fraction kept of all weights, in (0, 1].

    Raises:
        MaskError: when the density is out of range or a layer would keep nothing.
    """
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    total = kept_count(density, sum(sizes.values()))
    dense: list[str] = []
    while True:
        sums = {name: sum(shape) for name, shape in shapes.items() if name not in dense}
        left = total - sum(sizes[name] for name in dense)
        eps = left / sum(sums.values()) if sums else 0.0
        full = [name for name, around in sums.items() if eps * around > sizes[name]]
        if not full:
            break
        dense += full
    quotas = {name: float(sizes[name]) if name in dense else eps * sums[name] for name in shapes}
    counts = share_out(quotas, total, sizes)
    refuse_empty(counts, sizes, density)
    return counts


def erk_mask(like: Weights, density: float, generator: torch.Generator | int) -> Mask:
    """Return a random mask with Erdos-Renyi-Kernel densities (`erk_counts`); the total kept is exact.

    Args:
        like: name -> tensor (a weight or a mask) of the shape to mask, or a module: its `prunable` weights.
        density: fraction kept of all weights, in (0, 1].
        generator: on the CPU, or a seed; layers are drawn in the order of their names' spelling.

    Raises:
        MaskError: when the density is out of range or a layer would keep nothing.
    """
    like = _shapes(like)
    shapes = {name: tuple(like[name].shape) for name in sorted(like)}
    return _draw(like, erk_counts(shapes, density), generator)


def layer_shuffle(mask: Mask, generator: torch.Generator | int) -> Mask:
    """Return the mask with its entries shuffled inside each layer, so that only the layers' kept counts remain.

    Args:
        mask: the mask.
        generator: on the CPU, or a seed; layers are drawn in the order of their names' spelling.
    """
    return _draw(mask, {name: int(tensor.sum()) for name, tensor in mask.items()}, generator)


def _shapes(like: Weights) -> Mapping[str, Tensor]:
    return named_weights(like, None, None) if isinstance(like, nn.Module) else state_of(like, "like")


def _sizes(like: Mapping[str, Tensor]) -> dict[str, int]:
    if not like:
        raise MaskError("a mask needs at least one weight, got none; name the weights that are pruned")
    return {name: like[name].numel() for name in sorted(like)}


def _draw(like: Mapping[str, Tensor], counts: Mapping[str, int], generator: torch.Generator | int) -> Mask:
    generator = as_generator(generator, "mask")
    # Equal masks are equal whatever the order of their layers, so the order of draws must not depend on it.
    drawn = {name: _choose(like[name], counts[name], generator) for name in sorted(like)}
    return Mask({name: drawn[name] for name in like})


def _choose(like: Tensor, kept: int, generator: torch.Generator) -> Bool[Tensor, "..."]:
    flags = torch.zeros(like.numel(), dtype=torch.bool, device="cpu")
    flags[torch.randperm(like.numel(), generator=generator, device="cpu")[:kept]] = True
    return flags.reshape(like.shape)
