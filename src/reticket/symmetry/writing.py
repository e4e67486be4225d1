"""Writing weights into a module: the one function of the package that does."""

import torch
from torch import Tensor, nn

from reticket.dense import is_dense
from reticket.errors import AlignmentError
from reticket.symmetry.filled import check_filled
from reticket.symmetry.model_tensors import is_extra, named_state
from reticket.weights import Weights, module_of, state_of
from reticket.wrapped import named_like, same_values


def load_into(model: nn.Module, state_dict: Weights) -> None:
    """Write weights into a module: the one function of the package that does.

    Args:
        model: module to write into; its tensors keep their identity, dtype and device.
        state_dict: a tensor for every tensor of `model.state_dict()`, or a module that has them; a tied weight is
            needed under one of its names, and wrappers are looked through. What it has under `_extra_state` is given
            to `set_extra_state`.

    Raises:
        InputError: when `model` is no module, or `state_dict` neither that nor a module.
        AlignmentError: when names or shapes differ; nothing is written then.
        ModelError: when the model holds no values (lazy, meta), or its `state_dict()` hands out other tensors than its
            own; nothing is written then.
    """
    check_filled(module_of(model))
    own = named_state(model)
    state_dict = named_like(own, state_of(state_dict, "state_dict"))
    extra = [name for name in state_dict if is_extra(name)]
    missing, odd = [n for n in own if n not in state_dict], [n for n in state_dict if n not in own and n not in extra]
    if missing or odd:
        raise AlignmentError(
            f"cannot load into {type(model).__name__}: {len(missing)} tensors missing {missing[:3]}, {len(odd)} "
            f"unknown {odd[:3]}"
        )
    for name, tensor in own.items():
        _check_loads(name, tensor, state_dict[name])
    first: dict[int, str] = {}
    for name, tensor in own.items():
        other = first.setdefault(id(tensor), name)
        if other != name and not same_values(state_dict[name], state_dict[other]):
            raise AlignmentError(
                f"cannot load '{name}': in this {type(model).__name__} it is one tensor with '{other}', but two "
                f"different ones were given; give one of the two, or untie the model"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state_dict[name])
    for name in extra:
        model.get_submodule(name.rpartition(".")[0]).set_extra_state(state_dict[name])


def _check_loads(name: str, tensor: Tensor, given: Tensor) -> None:
    """Raise AlignmentError unless a tensor can be written into one of the model's."""
    if tuple(given.shape) != tuple(tensor.shape):
        raise AlignmentError(
            f"cannot load '{name}': it has shape {tuple(given.shape)}, the model's is {tuple(tensor.shape)}"
        )
    if not is_dense(tensor) or not is_dense(given):
        try:
            tensor.detach().clone().copy_(given)
        except Exception as error:
            raise AlignmentError(
                f"cannot load '{name}', of layout {given.layout}, into one of layout {tensor.layout}: "
                f"{str(error).splitlines()[0]}"
            ) from error
