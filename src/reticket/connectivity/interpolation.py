"""The straight line between two networks in weight space."""

import torch
from torch import Tensor

from reticket.errors import InputError, ModelError
from reticket.types import StateDict


def interpolate(a: StateDict, b: StateDict, alpha: float | int) -> dict[str, Tensor]:
    """Return `(1 - alpha) * a + alpha * b`, tensor by tensor.

    Args:
        a: state at alpha = 0.
        b: state at alpha = 1, with the names and shapes of `a`.
        alpha: position on the line, in [0, 1].

    Returns:
        New tensors. The ends are `a` and `b` bit for bit, and so is every entry where the two are equal. Integer and
        boolean tensors (step counters, index tables) are those of the nearer end, of `b` at 0.5.

    Raises:
        InputError: alpha outside [0, 1].
        ModelError: the states differ in names or shapes.

    >>> interpolate({"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([4.0, 1.0])}, 0.25)
    {'w': tensor([1., 1.])}
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is a position on the line from a to b and must be in [0, 1], got {alpha}")
    check_same_layout(a, b)
    return {name: _between(tensor.detach(), b[name].detach(), alpha) for name, tensor in a.items()}


def check_same_layout(a: StateDict, b: StateDict) -> None:
    """Raise ModelError unless both states have the same names and shapes."""
    if alone := sorted(a.keys() ^ b.keys()):
        where = "a" if alone[0] in a else "b"
        raise ModelError(f"the two states are of different models: '{alone[0]}' is in {where} only")
    for name, tensor in a.items():
        if tensor.shape != b[name].shape:
            raise ModelError(
                f"the two states are of different models: '{name}' has shape {tuple(tensor.shape)} in a and "
                f"{tuple(b[name].shape)} in b"
            )


def _between(a: Tensor, b: Tensor, alpha: float | int) -> Tensor:
    b = b.to(a.device)
    if alpha in (0, 1) or not (a.is_floating_point() or a.is_complex()):
        return (a if alpha < 0.5 else b).clone()
    # Equal entries are kept as they are: between two infinities of an attention mask lerp gives NaN.
    return torch.where(a == b, a, torch.lerp(a, b.to(a.dtype), alpha))
