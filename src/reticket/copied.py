"""A private copy of a user's model, so that nothing is done to the model itself."""

import copy
from typing import TypeVar

from torch import Tensor, nn

from reticket.dense import is_dense

Model = TypeVar("Model", bound=nn.Module)


def private_copy(model: Model) -> Model:
    """Return a deep copy of the model.

    Plain attributes that were computed from parameters (`weight` under `torch.nn.utils.prune`, `weight_norm` and
    `spectral_norm`), which torch refuses to copy, are copied as values; the next forward computes them anew. So are
    sparse tensors, of which torch refuses some.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in (*vars(module).values(), *module._buffers.values(), *module._parameters.values()):
            if isinstance(value, Tensor) and (value.grad_fn is not None or not is_dense(value)):
                copied = value.detach().clone()
                memo[id(value)] = nn.Parameter(copied, value.requires_grad) if type(value) is nn.Parameter else copied
    return copy.deepcopy(model, memo)
