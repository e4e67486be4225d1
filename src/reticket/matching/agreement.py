"""How far each weight of two aligned networks stands between the same units: correlations spread over the weights."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from reticket.matching.correlations import activation_similarity, matched_positions
from reticket.symmetry import Alignment
from reticket.symmetry.units import rows


def weight_correlations(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    alignment: Alignment,
    batches: Iterable[object],
    names: Iterable[str],
) -> dict[str, Tensor]:
    """Return for each weight, in B's order, the product of the matched correlations of the units that it joins.

    A unit's matched correlation is that of its activations with those of the unit of A which the alignment gives it;
    below 0 it counts as 0. What is no unit (inputs, classes) counts as 1, and so does a unit that no activation shows.

    Args:
        models_a, models_b: the networks, or their checkpoints, one by one; correlations are their mean.
        alignment: carries A's units to B's order.
        batches: of inputs, as for `match`.
        names: of tensors of the `state_dict`.

    Returns:
        Name -> float64 tensor of the weight's shape, in [0, 1].

    Raises:
        AlignmentError: when there is no batch, or a name is no tensor of the symmetry.
    """
    sym = alignment.symmetry
    seen = activation_similarity(models_a, models_b, sym, batches).found
    matched: dict[str, Tensor] = {}
    for name, scores in seen.items():
        old, new = matched_positions(sym, name, alignment.permutations)
        matched[name] = scores.scores[(*old, *new)].clamp(0, 1)
    return {name: _spread(alignment, name, matched) for name in names}


def _spread(alignment: Alignment, name: str, matched: dict[str, Tensor]) -> Tensor:
    sym = alignment.symmetry
    shape = sym.shape(name)
    layout, size = sym.layouts[alignment.owner_of(name, shape)], math.prod(shape)
    places, found = torch.arange(size, device="cpu").reshape(shape), torch.ones(size, dtype=torch.float64, device="cpu")
    for group, correlation in matched.items():
        for entries in rows(places, list(enumerate(layout)), group, None):
            found[entries] *= correlation.unsqueeze(-1)
    return found.reshape(shape)
