"""How much of a model a mask keeps: of all its weight matrices, not of the pruned ones alone."""

from collections.abc import Iterable

from torch import nn

from reticket.tickets.by_name import as_names, identity, source_named
from reticket.tickets.mask import Mask
from reticket.tickets.prunable import named_weights
from reticket.tickets.used import matrices
from reticket.types import StateDict


def true_density(mask: Mask, model: nn.Module | StateDict, names: Iterable[str] | None = None) -> float:
    """Return the fraction kept of *all* weight matrices, those that are never pruned included.

    A mask's own density is nominal: where projection shortcuts are not pruned, a nominal 10 % is more in truth.

    Args:
        mask: the mask.
        model: a module, or weights by name.
        names: the weights that count; by default every matrix of the module that is no embedding: the weights of
            convolutions and linear layers, of attention and recurrent layers, of layers of other libraries. A tensor
            under several names counts once. With weights by name they must be given.

    Returns:
        Fraction kept, in [0, 1].

    Raises:
        MaskError: when the mask belongs to another model, or masks a weight that is not among `names`.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> from reticket.tickets import prune_magnitude
    >>> mask = prune_magnitude(net, 0.25, names=["0.weight"])
    >>> mask.density, true_density(mask, net)
    (0.25, 0.5)
    """
    if names is None and isinstance(model, nn.Module):
        names = [*matrices(model), *(name for name in mask if source_named(model, name) is not None)]
    names = dict.fromkeys(as_names(names or ()))
    weights = named_weights(model, names or None, None)
    mask.names_among(weights)
    once = {identity(model, name, weight): weight.numel() for name, weight in weights.items()}
    total = sum(once.values())
    return (total - mask.numel + mask.kept) / total
