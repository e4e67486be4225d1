"""The weights a model uses: what its next forward would compute them to be, and which parameters they come from.

With `torch.nn.utils.prune`, the older `weight_norm` and `spectral_norm`, `weight` is a plain attribute that only a
forward refreshes: after `load_state_dict` or `optimizer.step` it is that of the weights before.
"""

import copy
from collections.abc import Hashable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from reticket.errors import MaskError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
DERIVED = ("_orig", "_v", "_g")  # what `prune`, `spectral_norm` and `weight_norm` call a weight's parameters


def weight_used(module: nn.Module, attribute: str, name: str) -> Tensor | None:
    """Return the weight that the next forward in eval mode would use, None where there is none; nothing is changed.

    Args:
        module: whose weight it is.
        attribute: its name there.
        name: its name in the model, for the error.

    Raises:
        MaskError: when it was computed from other tensors in a way that is not known, so that it may be out of date.
    """
    if attribute in module._parameters or attribute in module._buffers:
        return module._parameters.get(attribute, module._buffers.get(attribute))
    if parametrize.is_parametrized(module, attribute):
        return _parametrized(module, attribute)
    for hook in module._forward_pre_hooks.values():
        if _refreshes(hook, attribute):
            return _refreshed(module, hook, attribute)
    weight = getattr(module, attribute, None)
    if isinstance(weight, Tensor) and weight.grad_fn is not None and attribute in vars(module):
        raise MaskError(
            f"'{name}' was computed from other tensors by something that is not known, so it may be out of date; "
            f"expected a parameter, torch.nn.utils.prune, weight_norm, spectral_norm or a parametrization: make it "
            f"permanent first"
        )
    return weight if isinstance(weight, Tensor) else None


def source_of(module: nn.Module, attribute: str) -> Tensor | None:
    """Return the parameter that a weight is, or is computed from; None where there is none. Nothing is computed."""
    parametrized = parametrize.is_parametrized(module, attribute)
    holder: Any = module.parametrizations[attribute] if parametrized else module  # pyright: ignore
    keys = (
        ("original", "original1", "original0")
        if parametrized
        else (attribute, *(attribute + suffix for suffix in DERIVED))
    )
    return next((p for p in map(holder._parameters.get, keys) if p is not None), None)


def place_of(tensor: Tensor) -> Hashable:
    """Return what tells a tensor from others: where its values lie, so that two names of one tensor are equal."""
    if tensor.layout != torch.strided or not tensor.numel() or not tensor.data_ptr():
        return id(tensor)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def attributes(module: nn.Module) -> Iterator[str]:
    """Yield what the parameters directly on a module are called when nothing prunes or parametrizes it."""
    names = [*module._parameters, *(module.parametrizations if parametrize.is_parametrized(module) else ())]  # pyright: ignore
    for name in dict.fromkeys(map(str, names)):
        stem = next((name.removesuffix(suffix) for suffix in DERIVED if name.endswith(suffix)), name)
        refreshed = any(_refreshes(hook, stem) for hook in module._forward_pre_hooks.values())
        yield stem if refreshed else name


def _refreshes(hook: Any, attribute: str) -> bool:
    if isinstance(hook, BasePruningMethod):
        return hook._tensor_name == attribute
    return isinstance(hook, (WeightNorm, SpectralNorm)) and hook.name == attribute


@torch.no_grad()
def _refreshed(module: nn.Module, hook: Any, attribute: str) -> Tensor:
    """Let the hook write into a copy that shares the tensors; in eval mode it writes nothing else."""
    beside = copy.copy(module)
    beside.training = False
    hook(beside, ())
    return vars(beside)[attribute]


@torch.no_grad()
def _parametrized(module: nn.Module, attribute: str) -> Tensor:
    """Compute the weight in eval mode, in which a spectral norm's iteration stands still."""
    chain = cast("parametrize.ParametrizationList", module.parametrizations[attribute])  # pyright: ignore
    modes = [(part, part.training) for part in chain.modules()]
    try:
        chain.eval()
        return chain()
    finally:
        for part, training in modes:
            part.training = training
