"""Shared value types, and the one index convention of the package.

**Index convention.** `Permutation.index[new] == old`: the permuted tensor is `x[index]`. `rt.match(a, b)` carries A's
units to B's order, so `al.apply(a.state_dict())` is close to `b.state_dict()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from reticket.errors import PermutationError

StateDict = Mapping[str, Any]  # tensors by name, and what else a state_dict holds, as `_extra_state`


@runtime_checkable
class Permutable(Protocol):
    """A value made of tensors that are indexed like a model's weights (a Mask, a Ticket).

    `Alignment.apply` reads `tensors()`, permutes each by the axes of the parameter of that name, and gives the result
    to `with_tensors`, which returns a new value of the same type and leaves the old one untouched.
    """

    def tensors(self) -> Mapping[str, Tensor]:
        """Return every tensor under the name of the parameter it is indexed like."""
        ...

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Permutable":
        """Return a copy of this value that holds `tensors` instead."""
        ...


class Rebuilt:
    """A frozen dataclass with read-only mappings that pickles and copies: its constructor makes and checks the copy."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how the value is made again."""
        held = {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]
        plain = {name: dict(one) if isinstance(one, MappingProxyType) else one for name, one in held.items()}
        return _rebuilt, (type(self), plain)


def _rebuilt(kind: type, held: Mapping[str, Any]) -> Any:
    return kind(**held)


@dataclass(frozen=True, eq=False)
class Permutation:
    """A permutation of n units, or one for each position of its parents.

    Args:
        index: shape `(n,)`, or `(*parents, n)` for a dependent group, where the last axis is a permutation for each
            **new** parent position; `index[..., new] == old`. Moved to the CPU as int64.

    Raises:
        PermutationError: when a row is not a permutation of `0 .. n-1`.

    >>> p = Permutation(torch.tensor([2, 0, 1]))
    >>> torch.tensor([10, 20, 30])[p.index]
    tensor([30, 10, 20])
    >>> p.inverse().after(p).is_identity
    True
    """

    index: Int64[Tensor, "*parents n"]

    def __post_init__(self) -> None:
        index = torch.as_tensor(self.index, device="cpu")
        if index.dim() == 0 or index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise PermutationError(
                f"a permutation needs an integer index of shape (..., n), got {index.dtype} of shape "
                f"{tuple(index.shape)}"
            )
        index = index.detach().to("cpu", torch.int64).clone()
        if not torch.equal(index.sort(dim=-1).values, torch.arange(index.shape[-1], device="cpu").expand_as(index)):
            raise PermutationError(
                f"index of shape {tuple(index.shape)} is not a permutation: each row must hold every one of "
                f"0..{index.shape[-1] - 1} once, got {index.flatten()[:8].tolist()}..."
            )
        object.__setattr__(self, "index", index)

    @classmethod
    def identity(cls, n: int, parents: tuple[int, ...] = ()) -> "Permutation":
        """Return the permutation that moves nothing.

        Args:
            n: units.
            parents: sizes of the groups for whose positions there is a permutation each.
        """
        return cls(torch.arange(n, device="cpu").expand(*parents, n))

    @property
    def size(self) -> int:
        """Number of units n."""
        return self.index.shape[-1]

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return torch.equal(self.index, torch.arange(self.size, device="cpu").expand_as(self.index))

    def inverse(self) -> "Permutation":
        """Return q with `x[p.index][q.index] == x` (a permutation without parents)."""
        self._no_parents("inverse")
        return Permutation(torch.argsort(self.index))

    def after(self, first: "Permutation") -> "Permutation":
        """Return the permutation that does `first` and then this one: `x[first.index][self.index]`."""
        self._no_parents("after")
        first._no_parents("after")
        if first.size != self.size:
            raise PermutationError(f"cannot combine permutations of {first.size} and {self.size} units")
        return Permutation(first.index[self.index])

    def _no_parents(self, what: str) -> None:
        if self.index.dim() != 1:
            raise PermutationError(
                f"Permutation.{what} is defined for index shape (n,), got {tuple(self.index.shape)}: a dependent "
                f"permutation moves with its parent, use Alignment.{what}"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Permutation) and torch.equal(self.index, other.index)

    def __hash__(self) -> int:
        return hash((tuple(self.index.shape), self.index.numpy().tobytes()))
