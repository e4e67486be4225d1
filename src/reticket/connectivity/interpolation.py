"""The straight line between two networks in weight space."""

import copy
from typing import Any

import torch
from torch import Tensor

from reticket.dense import described, is_dense, mixed, same_stored
from reticket.errors import InputError, ModelError
from reticket.symmetry.state import is_extra
from reticket.types import StateDict


def interpolate(a: StateDict, b: StateDict, alpha: float | int) -> dict[str, Any]:
    """Return `(1 - alpha) * a + alpha * b`, tensor by tensor.

    Args:
        a: state at alpha = 0.
        b: state at alpha = 1, with the names and shapes of `a`.
        alpha: position on the line, in [0, 1].

    Returns:
        New tensors. The ends are `a` and `b` bit for bit, and so is every entry where the two are equal. Integer,
        boolean and quantised tensors (step counters, index tables) are those of the nearer end, of `b` at 0.5; so is
        what is no weight at all: `_extra_state`, tensor or not, and every other value that is no tensor.

    Raises:
        InputError: alpha outside [0, 1].
        ModelError: the states differ in names or shapes.

    >>> interpolate({"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([4.0, 1.0])}, 0.25)
    {'w': tensor([1., 1.])}
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is a position on the line from a to b and must be in [0, 1], got {alpha}")
    check_same_layout(a, b)
    nearer = a if alpha < 0.5 else b
    return {
        name: _between(value.detach(), b[name].detach(), alpha) if _is_weight(name, value) else _copied(nearer[name])
        for name, value in a.items()
    }


def check_same_layout(a: StateDict, b: StateDict) -> None:
    """Raise ModelError unless both states have the same names and shapes."""
    if alone := sorted(a.keys() ^ b.keys()):
        where = "a" if alone[0] in a else "b"
        raise ModelError(f"the two states are of different models: '{alone[0]}' is in {where} only")
    for name in a:
        if _is_weight(name, a[name]) or _is_weight(name, b[name]):
            first, second = _described(name, a[name]), _described(name, b[name])
            if first != second:
                raise ModelError(
                    f"the two states are of different models: '{name}' has {first} in a and "
                    f"{second.removeprefix('shape ')} in b"
                )


def _is_weight(name: str, value: object) -> bool:
    return isinstance(value, Tensor) and not is_extra(name)


def _described(name: str, value: object) -> str:
    """Return what two states must have in common in one entry."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_nested:
        raise ModelError(f"'{name}' is a nested tensor, which has no line to another: pad it, or leave it out")
    return f"shape {tuple(value.shape)}{'' if is_dense(value) else f' as {described(value)}'}"


def _copied(value: object) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _between(a: Tensor, b: Tensor, alpha: float | int) -> Tensor:
    b = b.to(a.device)
    if alpha in (0, 1) or not (a.is_floating_point() or a.is_complex()):
        return (a if alpha < 0.5 else b).clone()
    if not is_dense(a):
        return a.clone() if same_stored(a, b) else mixed(a, b, alpha)
    # Equal entries are kept as they are: between two infinities of an attention mask lerp gives NaN.
    return torch.where(a == b, a, torch.lerp(a, b.to(a.dtype), alpha))
