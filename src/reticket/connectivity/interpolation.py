"""The straight line between two networks in weight space, and the average of several."""

import copy
from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor

from reticket.connectivity.mixture import Mixture, mixture
from reticket.dense import described, is_dense
from reticket.errors import InputError, ModelError
from reticket.symmetry.model_tensors import is_extra
from reticket.types import StateDict
from reticket.weights import Weights, state_of
from reticket.wrapped import renamed_like


@overload
def interpolate(a: Weights, b: Weights, alpha: float | int) -> dict[str, Any]: ...
@overload
def interpolate(a: Sequence[Weights], b: Sequence[float | int]) -> dict[str, Any]: ...
def interpolate(a: Any, b: Any, alpha: float | int | None = None) -> dict[str, Any]:
    """Return `(1 - alpha) * a + alpha * b`, tensor by tensor; or of several networks the sum of weight times network.

    `interpolate([a, b, c], [0.5, 0.25, 0.25])` is that average of three. Its order decides nothing but which of several
    equally heavy networks is the nearest.

    Args:
        a: state at alpha = 0: a state_dict, or a network; or a list of several.
        b: state at alpha = 1, with the names and shapes of `a`; or a weight for each of several: none below 0, sum 1.
        alpha: position on the line: 0 is a, 1 is b, and others go beyond them; not given for several.

    Returns:
        New tensors. The ends are `a` and `b` bit for bit, and so is every entry where the two are equal; of several a
        network with weight 1, and entries in which all that have a weight are equal. Integer, boolean and quantised
        tensors (step counters, index tables) are those of the nearer end, of `b` at 0.5, the heaviest of several and
        the last of equally heavy ones; so is what is no weight at all: `_extra_state`, tensor or not, and every other
        value that is no tensor.

    Raises:
        InputError: alpha that is no number, weights that are not one for each, below 0 or of another sum,
            or what is neither a module nor a state_dict.
        ModelError: the states differ in names or shapes.

    >>> import torch
    >>> interpolate({"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([4.0, 1.0])}, 0.25)
    {'w': tensor([1., 1.])}
    >>> interpolate([{"w": torch.tensor([value])} for value in (0.0, 4.0, 8.0)], [0.5, 0.25, 0.25])
    {'w': tensor([3.])}
    """
    if alpha is not None:
        networks, at, names = [a, b], alpha, ["a", "b"]
    elif isinstance(a, Sequence) and isinstance(b, Sequence):
        networks, at, names = list(a), b, [f"a[{number}]" for number in range(len(a))]
    else:
        raise InputError("interpolate needs a, b and alpha, or a list of networks and a list of weights")
    mixed = mixture(len(networks), at)
    states = [state_of(network, name) for network, name in zip(networks, names, strict=True)]
    return mixture_of(alike(states), mixed)


def mixture_of(states: Sequence[StateDict], mixed: Mixture) -> dict[str, Any]:
    """Return the mixture of states that have the same names and shapes; see `interpolate`."""
    return {
        name: mixed([state[name].detach() for state in states])
        if _is_weight(name, value)
        else _copied(states[mixed.nearest][name])
        for name, value in states[0].items()
    }


def alike(states: Sequence[StateDict]) -> list[StateDict]:
    """Return states by the names of the first, wrappers looked through.

    Raises:
        ModelError: when they differ in names or shapes.
    """
    named = [renamed_like(states[0], state) for state in states]
    check_same_layout(*named)
    return named


def check_same_layout(*states: StateDict) -> None:
    """Raise ModelError unless all states have the same names and shapes."""
    names = ("a", "b") if len(states) == 2 else tuple(f"states[{number}]" for number in range(len(states)))
    for other, name in zip(states[1:], names[1:], strict=True):
        _check_pair(states[0], other, names[0], name)


def _check_pair(a: StateDict, b: StateDict, name_a: str, name_b: str) -> None:
    if alone := sorted(a.keys() ^ b.keys()):
        where = name_a if alone[0] in a else name_b
        raise ModelError(f"the states are of different models: '{alone[0]}' is in {where} only")
    for name in a:
        if _is_weight(name, a[name]) or _is_weight(name, b[name]):
            first, second = _described(name, a[name]), _described(name, b[name])
            if first != second:
                raise ModelError(
                    f"the states are of different models: '{name}' has {first} in {name_a} and "
                    f"{second.removeprefix('shape ')} in {name_b}"
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
