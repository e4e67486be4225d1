"""The weights that an experiment prunes: what the key of a round says of them, and whether they can be pruned."""

import hashlib
from typing import Any

from torch import nn

from reticket.errors import ConfigError, MaskError
from reticket.figures.text import listed
from reticket.tickets import Pruning, known_prunable
from reticket.tickets.parts import LAYERS, Weight, parts_of
from reticket.tickets.prune import pruned_to
from reticket.tickets.ranking import Budget


def prunable_spec(model: nn.Module, pruning: Pruning) -> dict[str, Any]:
    """Return what the `spec` of a round holds of a model's prunable weights, beside how they are chosen.

    Nothing where each matrix is the weight of one linear layer or convolution: these were pruned from the first version
    on. Of other models (attention, recurrent and bilinear layers, weights that layers share) earlier versions pruned
    other weights, so their keys hold a digest of the names.

    Args:
        model: the network.
        pruning: what it takes in and leaves out.

    Returns:
        A part of the `spec`, as JSON.

    Raises:
        MaskError: when a pattern matches nothing, or nothing is left.

    >>> prunable_spec(nn.Linear(4, 2), Pruning())
    {}
    """
    if all(_of_one_layer(model, weight) for weight in parts_of(model) if weight.part == "matrix"):
        return {}
    names = "\n".join(known_prunable(model, pruning.exclude, pruning.include))
    return {"prunable": hashlib.sha256(names.encode()).hexdigest()}


def check_pruning(name: str, model: nn.Module, pruning: Pruning, density: float, *, frozen: bool = False) -> None:
    """Refuse a model that cannot be pruned so, before the networks are trained that would have been pruned.

    Args:
        name: of the model, for errors.
        model: the network.
        pruning: what it takes in and leaves out.
        density: the lowest that is asked for.
        frozen: whether weights that are not trained may be pruned, as by a training of the user's own.

    Raises:
        ConfigError: a name in `exclude` matches nothing, nothing is left, a weight is not trained, or a layer cannot
            have the density or the pattern.

    >>> check_pruning("small", nn.Linear(4, 2), Pruning(), 0.01)
    Traceback (most recent call last):
    reticket.errors.ConfigError: pruning of model 'small': density 0.01 keeps 0 of 8 weights in 'all layers'; use ...
    """
    try:
        names = known_prunable(model, pruning.exclude, pruning.include)
        pruned_to(Budget(density, pruning.scope, pattern=pruning.pattern), model, names=names)
    except MaskError as problem:
        raise ConfigError(f"pruning of model '{name}': {problem}") from None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    still = [one for one in names if one in parameters and not parameters[one].requires_grad]
    if still and not frozen:
        raise ConfigError(
            f"pruning of model '{name}': {listed([repr(one) for one in still])} {'is' if len(still) == 1 else 'are'} "
            f"frozen (requires_grad is False), and what is pruned is trained; exclude by prune.exclude, as "
            f"{still[:1]}, or let it train"
        )


def _of_one_layer(model: nn.Module, weight: Weight) -> bool:
    owner, _, attribute = weight.name.rpartition(".")
    return len(weight.names) == 1 and attribute == "weight" and isinstance(model.get_submodule(owner), LAYERS)
