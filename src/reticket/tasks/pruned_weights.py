"""The weights that an experiment prunes: what the key of a round says of them, and whether they can be pruned."""

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from reticket.errors import ConfigError, MaskError
from reticket.figures.text import listed
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.tickets import Pruning, known_prunable
from reticket.tickets.parts import LAYERS, Weight, parts_of
from reticket.tickets.prune import pruned_to
from reticket.tickets.ranking import Budget


def prunable_spec(name: str, params: Mapping[str, Any], pruning: Pruning) -> dict[str, Any]:
    """Return what the `spec` of a round holds of a model's prunable weights, beside how they are chosen.

    Nothing where each matrix is the weight of one linear layer or convolution: these were pruned from the first version
    on. Of other models (attention, recurrent and bilinear layers, weights that layers share) earlier versions pruned
    other weights, so their keys hold a digest of the names.

    Args:
        name: of the model.
        params: of the model.
        pruning: what it takes in and leaves out.

    Returns:
        A part of the `spec`, as JSON.

    Raises:
        ModelError: when the model cannot be built.
        MaskError: when a pattern matches nothing, or nothing is left.

    >>> prunable_spec("mlp", {"in_features": 4, "hidden": (3,), "classes": 2}, Pruning())
    {}
    """
    model = build_model(name, generator=generator_for("structure", "init"), **params)
    if all(_of_one_layer(model, weight) for weight in parts_of(model) if weight.part == "matrix"):
        return {}
    names = "\n".join(known_prunable(model, pruning.exclude, pruning.include))
    return {"prunable": hashlib.sha256(names.encode()).hexdigest()}


def check_pruning(
    name: str, params: Mapping[str, Any], pruning: Pruning, density: float, *, frozen: bool = False
) -> None:
    """Refuse a model that cannot be pruned so, before the networks are trained that would have been pruned.

    Args:
        name: of the model.
        params: of the model.
        pruning: what it takes in and leaves out.
        density: the lowest that is asked for.
        frozen: whether weights that are not trained may be pruned, as by a training of the user's own.

    Raises:
        ConfigError: a name in `exclude` matches nothing, nothing is left, a weight is not trained, or a layer cannot
            have the density or the pattern.

    >>> check_pruning("mlp", {"in_features": 4, "hidden": (3,), "classes": 2}, Pruning(), 0.01)
    Traceback (most recent call last):
    reticket.errors.ConfigError: pruning of model 'mlp': density 0.01 keeps 0 of 18 weights in 'all layers'; use ...
    """
    model = build_model(name, generator=generator_for("structure", "init"), **params)
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
