"""A dial on the signs that a ticket carries: a share of the kept weights takes them, the others keep their own."""

from collections.abc import Mapping

import torch
from torch import Tensor

from reticket.errors import MaskError
from reticket.tickets.mask import Mask
from reticket.tickets.ranking import keep_largest
from reticket.tickets.ticket import Ticket


def share_of_signs(ticket: Ticket, scores: Mapping[str, Tensor], share: float) -> Ticket:
    """Return the part of a ticket that has a share of its signs: in each layer those of the highest score.

    Of n kept weights of a layer round(share n) are chosen, half up; of equal scores the first. What a smaller share
    chooses a larger one does too. `write_signs` of the part writes these signs and no others.

    Args:
        ticket: with signs.
        scores: name -> a number for each weight of the ticket's tensors; only those of kept weights count.
        share: of the kept weights of each layer, in [0, 1]; 1 gives the ticket, 0 one that keeps nothing.

    Raises:
        MaskError: when the ticket has no signs, the share is out of range, the scores do not fit, or one of a kept
            weight is NaN or infinite.

    >>> ticket = Ticket.of({"w": torch.tensor([0.5, -2.0, 0.1])}, Mask({"w": torch.tensor([True, True, False])}))
    >>> share_of_signs(ticket, {"w": torch.tensor([1.0, 2.0, 3.0])}, 0.5).write_signs({"w": torch.ones(3)})["w"]
    tensor([ 1., -1.,  1.])
    """
    if ticket.signs is None:
        raise MaskError("the ticket has no signs; make it with Ticket.of(weights, mask)")
    if not 0 <= share <= 1:
        raise MaskError(f"the share of signs is {share}, expected a number in [0, 1]")
    ticket.mask.check_fits(scores)
    chosen = {}
    for name, kept in ticket.mask.items():
        among = scores[name].detach().cpu()[kept]
        if bad := int((~torch.isfinite(among)).sum()):
            raise MaskError(f"the scores give '{name}' {bad} NaN or infinite ones of kept weights, which have no rank")
        flags = torch.zeros(kept.shape, dtype=torch.bool, device="cpu")
        flags[kept] = keep_largest(among, int(share * len(among) + 0.5))
        chosen[name] = flags
    signs = {name: sign * chosen[name] for name, sign in ticket.signs.items()}
    return Ticket(Mask(chosen), signs, ticket.provenance)
