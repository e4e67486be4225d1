"""Whether two models compute alike but for the numbers in their state_dict, so that one traced graph serves both."""

from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any
from weakref import ReferenceType

import torch
from torch import Tensor, nn

from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.reach import is_foreign

PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size, range, slice)
SAME = (type, FunctionType, BuiltinFunctionType)  # alike if they are the same


def compute_alike(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models have the same modules, attributes and tied tensors; the numbers in their state may differ.

    What is not understood counts as different.

    >>> compute_alike(nn.Linear(2, 3), nn.Linear(2, 3)), compute_alike(nn.LayerNorm(2), nn.LayerNorm(2, eps=0.1))
    (True, False)
    """
    own, other = (frozenset(map(id, named_state(model).values())) for model in (a, b))
    return _ties(a) == _ties(b) and _Comparison(own, other).same(a, b)


def _ties(model: nn.Module) -> list[Any]:
    """Return for every tensor of the state its first name, its shape and what else a graph takes from it."""
    first: dict[int, str] = {}
    return [
        (first.setdefault(id(t), name), tuple(t.shape), t.dtype, t.device, type(t), t.requires_grad)
        for name, t in named_state(model).items()
    ]


class _Comparison:
    """Compares what two models hold; pairs that are being compared count as alike."""

    def __init__(self, own: frozenset[int], other: frozenset[int]) -> None:
        self.own, self.other = own, other  # the tensors of the state_dict, by identity
        self.seen: dict[tuple[int, int], tuple[Any, Any]] = {}

    def same(self, a: Any, b: Any) -> bool:
        """Whether two values are alike."""
        if (id(a), id(b)) in self.seen:
            return True
        if type(a) is not type(b):
            return False
        if isinstance(a, SAME):
            return a is b
        if isinstance(a, PLAIN):
            return bool(a == b)
        self.seen[id(a), id(b)] = a, b  # kept, so that their ids stay their own
        if isinstance(a, Tensor):
            return self._tensors(a, b)
        return all(self.same(one, two) for one, two in _contents(a, b))

    def _tensors(self, a: Tensor, b: Tensor) -> bool:
        if id(a) in self.own or id(b) in self.other:
            return id(a) in self.own and id(b) in self.other
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def _contents(a: Any, b: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of what two values of one type hold; a pair that cannot be alike where this is not known."""
    if isinstance(a, dict):
        yield list(a), list(b)
        if list(a) == list(b):
            yield from zip(a.values(), b.values(), strict=True)
    elif isinstance(a, tuple | list):
        yield len(a), len(b)
        yield from zip(a, b, strict=False)
    elif isinstance(a, set | frozenset):
        yield sorted(map(repr, a)), sorted(map(repr, b))
    elif isinstance(a, ReferenceType):
        yield a(), b()
    elif isinstance(a, nn.Module) or _is_plain(type(a)):
        yield dict(sorted(vars(a).items())), dict(sorted(vars(b).items()))
    else:
        yield 0, 1


def _is_plain(kind: type) -> bool:
    """Whether all that a value of this class holds is in its `__dict__`."""
    return all(
        base is object or not (is_foreign(base.__module__) or "__slots__" in vars(base)) for base in kind.__mro__
    )
