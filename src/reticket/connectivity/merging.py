"""One network made of several: their mean in a common order of units, with its activations renormalised."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from reticket.connectivity.interpolation import interpolate
from reticket.connectivity.repairing import repair
from reticket.errors import InputError
from reticket.matching import CommonFrame
from reticket.symmetry import Alignment
from reticket.weights import Weights, module_of, state_of


def merge(
    model: nn.Module,
    networks: Sequence[Weights],
    alignments: CommonFrame | Sequence[Alignment],
    batches: Iterable[object] | None = None,
    *,
    weights: Sequence[float | int] | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> dict[str, Any]:
    """Return the mean of several networks, each carried to the same order of units, as a state_dict.

    Averaging shrinks activations, the more so the less the networks agree, so on `batches` they are renormalised by
    REPAIR, or where the model has BatchNorm layers by these layers' own statistics, taken anew; see `repair`.

    Args:
        model: gives the architecture; it is not changed.
        networks: two or more, modules or state_dicts.
        alignments: of each network into the order that all share: what `match_many` returns, or for instance
            `[identity_alignment(sym), match(b, a, ...), match(c, a, ...)]`.
        batches: inputs, or tuples whose first element is the inputs; None for the plain mean.
        weights: share of each network, none below 0, with sum 1; None for equal shares.
        to_inputs: what of a batch the model takes, a tensor, a tuple or a dict of keywords.

    Raises:
        InputError: not one alignment and one weight for each network, or weights below 0 or of another sum.
        AlignmentError: an alignment of another model.
        ModelError: as `repair` does.

    >>> import torch
    >>> from reticket import discover, load_into, match_many, random_alignment
    >>> a, b = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2))
    >>> sym = discover(a, torch.randn(2, 4))
    >>> load_into(b, random_alignment(sym, 0).apply(a.state_dict()))
    >>> merged = merge(a, [a, b], match_many([a, b], sym, method="weight"))
    >>> all(torch.allclose(merged[name], tensor) for name, tensor in a.state_dict().items())
    True
    """
    module_of(model)
    if isinstance(networks, nn.Module | Mapping | str) or len(networks) < 2:
        raise InputError("merge needs a list of two networks or more")
    carried = tuple(alignments)
    shares = [1 / len(networks)] * len(networks) if weights is None else list(weights)
    for what, many in (("alignments", carried), ("weights", shares)):
        if len(many) != len(networks):
            raise InputError(f"merge got {len(networks)} networks and {len(many)} {what}; give one for each network")
    ends = [
        alignment.apply(dict(state_of(network, f"networks[{number}]")))
        for number, (network, alignment) in enumerate(zip(networks, carried, strict=True))
    ]
    if batches is None:
        return interpolate(ends, shares)
    return repair(model, ends, shares, batches, to_inputs=to_inputs)
