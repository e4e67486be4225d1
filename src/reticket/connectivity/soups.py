"""The average of sparse networks that share one mask, or that do once each is carried to where the mask is from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from reticket.connectivity.interpolation import interpolate
from reticket.connectivity.repairing import repair
from reticket.errors import InputError, MaskError
from reticket.symmetry import Alignment
from reticket.tickets import Mask
from reticket.tickets.start import refuse_revived
from reticket.weights import Weights, module_of, state_of


def soup(
    model: nn.Module,
    networks: Sequence[Weights],
    mask: Mask,
    alignments: Sequence[Alignment] | None = None,
    batches: Iterable[object] | None = None,
    *,
    weights: Sequence[float | int] | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> dict[str, Any]:
    """Return the mean of networks that were trained from one ticket, as sparse as the ticket itself.

    `mean_j pi_j^-1(w_j)`, with pi_j the alignment by which the ticket was carried to the network j: `w_j` is trained
    under `pi_j(m)`, so that `pi_j^-1(w_j)` computes the same and has the mask m. On `batches` the mean's activations
    are renormalised by REPAIR, as `repair` does it, which leaves zeros where they are.

    Zimmer, Spiegel and Pokutta 2024 (Sparse Model Soups, arXiv 2306.16788) average runs of one pruned network with the
    same weights at the start; here the runs may start from networks of their own, which is what the permutations are
    for, and the soup is not pruned and retrained again.

    Args:
        model: gives the architecture; it is not changed.
        networks: two or more, modules or state_dicts.
        mask: of the ticket, in the frame that all are carried to.
        alignments: by network the one that carried the ticket to it; None where all have the mask as it is.
        batches: inputs, or tuples whose first element is the inputs; None for the plain mean.
        weights: share of each network, none below 0, with sum 1; None for equal shares.
        to_inputs: what of a batch the model takes, a tensor, a tuple or a dict of keywords.

    Raises:
        InputError: fewer than two networks, or not one alignment and one weight for each.
        MaskError: a network that has weights where the mask has none.
        ModelError, AlignmentError: as `repair` and an alignment do.

    >>> import torch
    >>> from reticket import discover, load_into, random_alignment, generator_for
    >>> a, b = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2))
    >>> mask = Mask({name: torch.rand(a.state_dict()[name].shape) < 0.5 for name in ("0.weight", "2.weight")})
    >>> load_into(a, mask.apply_to(a.state_dict()))
    >>> sym = discover(a, torch.randn(2, 4))
    >>> first, second = random_alignment(sym, 0), random_alignment(sym, 1)
    >>> mean = soup(a, [first.apply(a.state_dict()), second.apply(a.state_dict())], mask, [first, second])
    >>> all(torch.equal(mean[name], tensor) for name, tensor in a.state_dict().items())
    True
    """
    module_of(model)
    if not isinstance(networks, Sequence) or isinstance(networks, str) or len(networks) < 2:
        raise InputError("a soup is made of a list of two networks or more")
    shares = [1 / len(networks)] * len(networks) if weights is None else list(weights)
    for what, many in (("alignments", alignments), ("weights", shares)):
        if many is not None and len(many) != len(networks):
            raise InputError(f"soup got {len(networks)} networks and {len(many)} {what}; give one for each network")
    carried = [dict(state_of(network, f"networks[{number}]")) for number, network in enumerate(networks)]
    if alignments is not None:
        carried = [a.whole().inverse().apply(state) for a, state in zip(alignments, carried, strict=True)]
    for number, state in enumerate(carried):
        try:
            refuse_revived(state, mask)
        except MaskError as error:
            raise MaskError(
                f"networks[{number}] was not trained from this ticket: {str(error).partition(';')[0]}; give the mask "
                f"and the alignment that it was trained with, one that leaves no units out"
            ) from None
    if batches is None:
        return interpolate(carried, shares)
    return repair(
        model, carried, shares, list(batches) if isinstance(batches, Iterator) else batches, to_inputs=to_inputs
    )
