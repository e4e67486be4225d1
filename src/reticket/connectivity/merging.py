"""One network made of several in a common order of units, or several that share what is matched well."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import nn

from reticket.connectivity.interpolation import alike, mixture_of
from reticket.connectivity.least_squares import least_squares
from reticket.connectivity.mixture import mixture
from reticket.connectivity.repairing import Repairer, repair
from reticket.errors import InputError
from reticket.lookup import nearest
from reticket.matching import CommonFrame
from reticket.symmetry import Alignment
from reticket.symmetry.terms import atoms
from reticket.types import StateDict
from reticket.weights import Weights, module_of, state_of

How = Literal["mean", "least-squares"]


def merge(
    model: nn.Module,
    networks: Sequence[Weights],
    alignments: CommonFrame | Sequence[Alignment],
    batches: Iterable[object] | None = None,
    *,
    weights: Sequence[float | int] | None = None,
    how: How = "mean",
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
        how: "mean", or "least-squares": the weights of linear layers and plain 2-d convolutions with which each layer
            does on the inputs that every network gives it most nearly what that network's layer does (RegMean, Jin et
            al. 2023), then renormalised likewise; needs batches.
        to_inputs: what of a batch the model takes, a tensor, a tuple or a dict of keywords.

    Raises:
        InputError: not one alignment and one weight for each network, weights below 0 or of another sum, another
            `how`, or least squares without batches.
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
    if how not in get_args(How):
        raise InputError(
            f"how is {how!r}{nearest(str(how), get_args(How))}; expected one of {', '.join(get_args(How))}"
        )
    if how == "least-squares" and batches is None:
        raise InputError("merge by least squares looks at what the layers of each network get; give it batches")
    ends, shares = _carried(model, networks, alignments, weights)
    mix = mixture(len(ends), shares)
    if batches is None:
        return mixture_of(alike(ends), mix)
    kept = list(batches) if isinstance(batches, Iterator) else batches
    if how == "mean":
        return repair(model, ends, shares, kept, to_inputs=to_inputs)
    repairer = Repairer(model, ends, kept, to_inputs=to_inputs)
    return repairer.at(shares, least_squares(model, ends, mixture_of(alike(ends), mix), mix, kept, to_inputs))


def merge_partly(
    model: nn.Module,
    networks: Sequence[Weights],
    alignments: CommonFrame | Sequence[Alignment],
    batches: Iterable[object] | None = None,
    *,
    least: float | int = 0.5,
    weights: Sequence[float | int] | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> list[dict[str, Any]]:
    """Return the networks in one order of units, sharing the parameters of groups that are matched well.

    A parameter on which only groups stand whose matched correlation, on average over the alignments, is `least` or more
    is that of their merge, one tensor for all; the others stay each network's own. So one on which no group stands, as
    the bias of outputs, is shared. How well a group is matched is what `quality` of the alignments says, which of
    matchers that look at no data is how alike the weights are. The outputs of the networks are then
    averaged as those of an ensemble. Any model will do: each of the networks is one of it. It costs as much memory as
    one network and all that is apart, and as many forward passes as there are networks.

    Args:
        model, networks, alignments, batches, weights, to_inputs: as `merge` has them; on batches BatchNorm layers take
            their running statistics anew, in each network its own.
        least: matched correlation from which on a group is shared: at -1 all are, as in `merge`; above 1 none.

    Returns:
        A state_dict for each network; shared parameters are the same tensors in all.

    Raises:
        InputError, AlignmentError, ModelError: as `merge` does.

    >>> import torch
    >>> from reticket import discover, match_many
    >>> a, b = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2))
    >>> frame = match_many([a, b], discover(a, torch.randn(2, 4)), method="weight")
    >>> first, second = merge_partly(a, [a, b], frame, least=1.1)
    >>> first["0.weight"] is second["0.weight"], first["2.bias"] is second["2.bias"]
    (False, True)
    """
    if isinstance(least, bool) or not isinstance(least, float | int) or math.isnan(least):
        raise InputError(f"least is {least!r}, but a matched correlation, as 0.5, was expected")
    kept = list(batches) if isinstance(batches, Iterator) else batches
    ends, _ = _carried(model, networks, alignments, weights)
    merged = merge(model, networks, alignments, kept, weights=weights, to_inputs=to_inputs)
    shared = _well_matched(tuple(alignments), least) & merged.keys()
    members = [{**end, **{name: merged[name] for name in shared}} for end in ends]
    if kept is None:
        return members
    parameters = dict(module_of(model).named_parameters())
    anew = [repair(model, [member], [1.0], kept, to_inputs=to_inputs) for member in members]
    return [{**one, **{name: merged[name] for name in shared if name in parameters}} for one in anew]


def _well_matched(alignments: Sequence[Alignment], least: float | int) -> set[str]:
    """Return the tensors on which no group stands that is matched worse, or that nobody says how well it is matched."""
    known: dict[str, list[float]] = {}
    for alignment in alignments:
        for group, quality in alignment.quality.items():
            known.setdefault(group, []).append(quality.correlation)
    well = {group for group, every in known.items() if sum(every) / len(every) >= least}
    layouts = alignments[0].symmetry.layouts
    return {name for name, layout in layouts.items() if {str(a.key) for term in layout for a in atoms(term)} <= well}


def _carried(
    model: nn.Module,
    networks: Sequence[Weights],
    alignments: CommonFrame | Sequence[Alignment],
    weights: Sequence[float | int] | None,
) -> tuple[list[StateDict], list[float | int]]:
    """Return the networks in one order of units, and the share of each."""
    module_of(model)
    if isinstance(networks, nn.Module | Mapping | str) or len(networks) < 2:
        raise InputError("merge needs a list of two networks or more")
    if not isinstance(alignments, CommonFrame | Sequence) or any(not isinstance(a, Alignment) for a in alignments):
        raise InputError(
            "alignments must be what match_many gave, or a list of one Alignment for each network, got "
            f"{type(alignments).__name__}"
        )
    carried = tuple(alignments)
    shares = [1 / len(networks)] * len(networks) if weights is None else list(weights)
    for what, many in (("alignments", carried), ("weights", shares)):
        if len(many) != len(networks):
            raise InputError(f"merge got {len(networks)} networks and {len(many)} {what}; give one for each network")
    ends: list[StateDict] = [
        alignment.apply(dict(state_of(network, f"networks[{number}]")))
        for number, (network, alignment) in enumerate(zip(networks, carried, strict=True))
    ]
    return ends, shares
