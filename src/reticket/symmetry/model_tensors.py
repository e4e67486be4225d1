"""The tensors that a model computes with, under the names of its `state_dict()`.

`state_dict()` may hand out others: a hook or an override copies, casts, offloads. What is written into those does not
reach the model, so the model's own are looked up; where the two differ in more than dtype and device, nothing is
guessed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reticket.dense import is_dense
from reticket.errors import ModelError
from reticket.symmetry.untouched import same_bits

EXTRA = "_extra_state"


def is_extra(name: str) -> bool:
    """Whether a name of a state_dict stands for what `get_extra_state` gave, tensor or not: no weight.

    >>> is_extra("layer._extra_state"), is_extra("layer.weight")
    (True, False)
    """
    return name.rpartition(".")[2] == EXTRA


def named_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a model computes with, by the names and in the order of its `state_dict()`.

    Raises:
        ModelError: when `state_dict()` hands out, under some name, what is no tensor of the model.
    """
    own: dict[str, Tensor] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for held in (module._parameters, module._buffers):  # `named_parameters` looks through all modules again
            own.update({f"{path}.{name}" if path else name: t for name, t in held.items() if t is not None})
    handed = {n: v for n, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor) and not is_extra(n)}
    held = {id(tensor) for tensor in own.values()}
    return {n: v if id(v) in held else _behind(model, n, v, own) for n, v in handed.items()}


def _behind(model: nn.Module, name: str, handed: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    """Return the model's tensor behind one that `state_dict()` made."""
    mine = own.get(name)
    if mine is not None and same_tensor(mine, handed):
        return mine
    if any(_share_memory(handed, tensor) for tensor in own.values()):
        return handed
    if mine is not None and mine.shape == handed.shape and _agree(mine.detach(), handed.detach()):
        return mine
    raise ModelError(
        f"state_dict() of {type(model).__name__} hands out '{name}', which is neither a tensor of the model nor a copy "
        f"of one with its values; load it with the model's own load_state_dict, and remove the hook or override of "
        f"state_dict to work on it here"
    )


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Whether what is written into one tensor stands in the other, in the same places."""
    if a is b:
        return True
    return _share_memory(a, b) and (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())


def _share_memory(a: Tensor, b: Tensor) -> bool:
    plain = all(t.layout is torch.strided and not t.is_meta and t.numel() for t in (a, b))
    return plain and a.untyped_storage()._cdata == b.untyped_storage()._cdata


def _agree(own: Tensor, handed: Tensor) -> bool:
    """Whether one tensor is a copy of the other, in its own or in another dtype."""
    if own.is_meta or handed.is_meta or not is_dense(own) or not is_dense(handed):
        return own.layout == handed.layout
    return same_bits(own.to(handed.device, handed.dtype), handed)
