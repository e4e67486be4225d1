"""The one rule for weights: whatever takes them takes a module or its state_dict, parallel and compiled ones too."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from torch import Tensor, nn

from reticket.errors import InputError
from reticket.types import StateDict
from reticket.wrapped import inside

Weights: TypeAlias = nn.Module | StateDict  # a network's weights: the network itself, or its state_dict


def state_of(weights: Weights, name: str = "weights") -> StateDict:
    """Return the state_dict of a module, wrappers looked through; a state_dict as it is.

    Args:
        weights: either.
        name: what the caller calls it, for the error.

    Raises:
        InputError: for anything else, a checkpoint that holds the state_dict included; says what it is.

    >>> sorted(state_of(nn.DataParallel(nn.Linear(2, 1))))
    ['bias', 'weight']
    """
    if isinstance(weights, nn.Module):
        return inside(weights).state_dict()
    if isinstance(weights, Mapping):
        _refuse_checkpoint(weights, name)
        return weights
    raise InputError(
        f"{name} is a {type(weights).__name__}, but a module or its state_dict was expected{_advice(weights)}"
    )


def module_of(model: nn.Module, name: str = "model") -> nn.Module:
    """Return a module as it is.

    Args:
        model: the module.
        name: what the caller calls it, for the error.

    Raises:
        InputError: for anything else, its state_dict included; says what it is.

    >>> module_of(nn.Linear(2, 1))
    Linear(in_features=2, out_features=1, bias=True)
    """
    if isinstance(model, nn.Module):
        return model
    weights = isinstance(model, Mapping)
    more = "; weights alone do not say how they are computed with, give the model" if weights else _advice(model)
    raise InputError(f"{name} is a {type(model).__name__}, but a module was expected{more}")


def _refuse_checkpoint(weights: StateDict, name: str) -> None:
    """Refuse what holds a state_dict beside other things."""
    inner = next((key for key, value in weights.items() if isinstance(value, Mapping) and _holds_tensors(value)), None)
    if inner is not None and not _holds_tensors(weights):
        raise InputError(f"{name} is a checkpoint that holds weights as '{inner}'; give that: checkpoint['{inner}']")


def _holds_tensors(value: StateDict) -> bool:
    return any(isinstance(one, Tensor) for one in value.values())


def _advice(value: object) -> str:
    if isinstance(value, str | Path):
        return "; read the file first"
    if getattr(value, "__name__", "") == "state_dict":
        return "; call it: model.state_dict()"
    if isinstance(value, type) and issubclass(value, nn.Module):
        return "; make one of the class"
    return ""
