"""What the key of a round of pruning says of the weights that it prunes."""

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from reticket.models import build_model
from reticket.rng import generator_for
from reticket.tickets import Pruning, known_prunable
from reticket.tickets.parts import LAYERS, Weight, parts_of


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


def _of_one_layer(model: nn.Module, weight: Weight) -> bool:
    owner, _, attribute = weight.name.rpartition(".")
    return len(weight.names) == 1 and attribute == "weight" and isinstance(model.get_submodule(owner), LAYERS)
