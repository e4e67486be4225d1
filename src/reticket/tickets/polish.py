"""Polishing a moved mask: which weights it keeps is decided anew, by A's verdict on each and by what B knows at k."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reticket.errors import MaskError
from reticket.tickets.mask import Mask
from reticket.tickets.ranking import keep_largest
from reticket.types import StateDict

Room = Literal["layer", "global"]
"""Where weights compete for a place in the mask: inside a layer, whose count stays, or in all of them at once."""


def polish(
    moved: Mask,
    pruned_a: StateDict,
    trained_a: StateDict,
    scores_b: Mapping[str, Tensor],
    share: float = 0.1,
    scope: Room = "layer",
) -> Mask:
    """Return a mask that keeps as many weights as a moved one, those of the highest score (1 - share) r_A + share r_B.

    r_A and r_B are ranks in (0, 1], inside a layer or over all of them; of equal ones the first is the higher. r_B is
    that of B's scores. r_A is A's verdict: the weights that its mask keeps stand above all that it prunes; among the
    kept the magnitude in the pruned network decides, among the pruned that in the dense trained one. The pruned network
    alone, which is 0 wherever the mask prunes, would make all of these equal: up to a share of nearly one half nothing
    would change, and then B alone would say what comes in. The dense one alone has another order than the mask.

    So share 0 gives the moved mask, and share 1 what B's scores alone keep in that room. Between them the sum of r_B
    over the kept weights never falls, and that of r_A never rises, as the share grows.

    Args:
        moved: A's mask in B's order.
        pruned_a: A's weights at the end of its pruning, in B's order.
        trained_a: A's dense weights at the end of training, in B's order.
        scores_b: by name a score for each weight of B, as |w| or |w g|.
        share: of B's rank in the score, in [0, 1].
        scope: "layer" keeps the count of each layer, "global" only that of all.

    Raises:
        MaskError: when the share is out of range, or the mask does not fit the weights or scores.

    >>> moved = Mask({"w": torch.tensor([True, True, False, False])})
    >>> a, b = {"w": torch.tensor([4.0, 1.0, 2.0, 0.0])}, {"w": torch.tensor([0.0, 1.0, 3.0, 2.0])}
    >>> polish(moved, moved.apply_to(a), a, b, share=0.5)["w"]
    tensor([ True, False,  True, False])
    """
    if not 0 <= share <= 1:
        raise MaskError(f"the share of B's rank is {share}, expected a number in [0, 1]")
    for values in (pruned_a, trained_a, scores_b):
        moved.check_fits(values)
    rooms = [list(moved)] if scope == "global" else [[name] for name in moved]
    kept: dict[str, Tensor] = {}
    for names in rooms:
        flags = _flat(moved, names)
        of_a = torch.where(flags, _flat(pruned_a, names).abs(), _flat(trained_a, names).abs())
        score = (1 - share) * _ranks(of_a, flags) + share * _ranks(_flat(scores_b, names))
        chosen = keep_largest(score, int(flags.sum())).split([moved[name].numel() for name in names])
        kept |= {name: part.reshape(moved[name].shape) for name, part in zip(names, chosen, strict=True)}
    return Mask(kept)


def _flat(tensors: Mapping[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([tensors[name].detach().cpu().reshape(-1) for name in names])


def _ranks(scores: Float[Tensor, " n"], above: Bool[Tensor, " n"] | None = None) -> Float[Tensor, " n"]:
    """Return ranks in (0, 1], the largest 1; no two are equal, the first of equal scores ranks higher.

    Args:
        scores: numbers.
        above: those that rank above all others; within these and the others the score decides.
    """
    order = scores.argsort(descending=True, stable=True)
    if above is not None:
        order = order[above[order].to(torch.uint8).argsort(descending=True, stable=True)]
    n = len(scores)
    ranks = torch.empty(n, dtype=torch.float64, device="cpu")
    ranks[order] = torch.arange(n, 0, -1, dtype=torch.float64, device="cpu") / n
    return ranks
