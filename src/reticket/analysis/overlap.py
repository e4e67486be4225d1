"""Overlap of two masks against chance."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from reticket.errors import MaskError


@dataclass(frozen=True)
class Overlap:
    """How much of what one mask keeps another keeps too.

    Args:
        kept: number of weights the first mask keeps.
        share: percent of them that the second keeps too; None when the first keeps nothing.
        chance: percent expected of a second mask of the same layer densities, drawn at random; None likewise.
    """

    kept: int
    share: float | None
    chance: float | None


@dataclass(frozen=True)
class MaskOverlap:
    """Overlap of two masks over all layers, and layer by layer.

    Args:
        total: over all layers; its chance weighs each layer by what the first mask keeps there.
        layers: by name.
    """

    total: Overlap
    layers: Mapping[str, Overlap]


def overlap(mask_a: Mapping[str, Tensor], mask_b: Mapping[str, Tensor]) -> MaskOverlap:
    """Return which share of the weights that `mask_a` keeps is kept by `mask_b`, against chance.

    share = |a & b| / |a|; chance = sum_l |a_l| d(b_l) / |a|, d being the density of b in layer l.

    Args:
        mask_a: name -> bool tensor.
        mask_b: name -> bool tensor, of the same names and shapes.

    Raises:
        MaskError: when the masks are not of one model.

    >>> import torch
    >>> a, b = torch.tensor([True, True, False, False]), torch.tensor([True, False, False, False])
    >>> overlap({"w": a}, {"w": b}).total
    Overlap(kept=2, share=50.0, chance=25.0)
    """
    if mask_a.keys() != mask_b.keys():
        odd = min(mask_a.keys() ^ mask_b.keys())
        raise MaskError(f"the masks belong to different models: only one of them masks '{odd}'")
    layers: dict[str, Overlap] = {}
    both, kept, expected = 0, 0, 0.0
    for name, a in mask_a.items():
        b = mask_b[name]
        if a.shape != b.shape:
            raise MaskError(
                f"the masks belong to different models: '{name}' has shapes {tuple(a.shape)} and {tuple(b.shape)}"
            )
        kept_a, shared, density = int(a.sum()), int((a & b).sum()), int(b.sum()) / b.numel()
        layers[name] = _overlap(shared, kept_a, kept_a * density)
        both, kept, expected = both + shared, kept + kept_a, expected + kept_a * density
    return MaskOverlap(_overlap(both, kept, expected), layers)


def _overlap(shared: int, kept: int, expected: float) -> Overlap:
    if kept == 0:
        return Overlap(0, None, None)
    return Overlap(kept, 100 * shared / kept, 100 * expected / kept)
