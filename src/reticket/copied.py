"""A private copy of a user's model, so that nothing is done to the model itself."""

import copy
from typing import TypeVar

from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def private_copy(model: Model) -> Model:
    """Return a deep copy of the model.

    Plain attributes that were computed from parameters (`weight` under `torch.nn.utils.prune`, `weight_norm` and
    `spectral_norm`), which torch refuses to copy, are copied as values; the next forward computes them anew.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)
