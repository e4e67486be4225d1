"""Widenings: which unit of a narrow network each unit of a wider one stands for, and what is carried along."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from reticket.errors import AlignmentError
from reticket.symmetry.alignment import resolve_name
from reticket.symmetry.gather import digits_of
from reticket.symmetry.symmetry import Symmetry
from reticket.symmetry.terms import Atom, Fixed, Product, Sum, Term, describe
from reticket.types import Permutable, Rebuilt

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False, repr=False)
class Widening(Rebuilt):
    """For every group of a wide network the unit of a narrow one that each of its units stands for.

    Of n narrow units and m >= n wide ones each narrow unit is stood for by floor(m / n) wide ones, m mod n of them by
    one more. A tensor of the narrow network is carried by `x[index]` along every axis that carries a group, so that
    with m a multiple of n everywhere the fraction of every tensor that a mask keeps stays exactly what it was.

    Args:
        narrow: symmetry of the narrow model.
        wide: of the wide one: groups of the same names, tensors of the same names whose axes are made up alike.
        sources: by group an index of m narrow units, `sources[wide unit] == narrow unit`.
        correlation: by group the mean correlation of wide units with the narrow ones they stand for; empty where
            nothing was matched.

    Raises:
        AlignmentError: when the models do not correspond, units depend on others (as those within heads do), or an
            index does not give every narrow unit its share.
    """

    narrow: Symmetry
    wide: Symmetry
    sources: Mapping[str, Int64[Tensor, " m"]]
    correlation: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_wider(self.narrow, self.wide)
        held = {name: self.sources[name].to("cpu", torch.int64) for name in self.wide.groups if name in self.sources}
        if held.keys() != self.wide.groups.keys() or len(self.sources) != len(held):
            raise AlignmentError(
                f"sources are given of {sorted(self.sources)}; give one for each of {[*self.wide.groups]}"
            )
        for name, index in held.items():
            n, m = self.narrow.groups[name].size, self.wide.groups[name].size
            within = index.shape == (m,) and bool(((index >= 0) & (index < n)).all())
            shares = torch.bincount(index, minlength=n) if within else index
            if not within or int(shares.max() - shares.min()) > 1:
                raise AlignmentError(
                    f"the sources of group '{name}' are no {m} units of {n}, each as often as the widths ask for "
                    f"({m // n} times, {m % n} of them once more)"
                )
        object.__setattr__(self, "sources", MappingProxyType(held))
        object.__setattr__(self, "correlation", MappingProxyType(dict(self.correlation)))

    def __repr__(self) -> str:
        sizes = [f"{name} {self.narrow.groups[name].size} -> {len(index)}" for name, index in self.sources.items()]
        return f"Widening({', '.join(sizes)})"

    def apply(self, value: Value) -> Value:
        """Return a mask, a ticket or weights of the narrow network, each entry repeated for all that stand for it.

        Weights that are repeated keep their values: who wants to keep the function, too, divides those that leave a
        unit by how many stand for it (Chen et al. 2016, Net2Net, arXiv 1511.05641).

        Args:
            value: a `Permutable` (Mask, Ticket) or tensors by name; it is untouched.

        Raises:
            AlignmentError: when a tensor is not of the narrow network.
        """
        if isinstance(value, Permutable):
            tensors = {name: self.tensor(name, tensor) for name, tensor in value.tensors().items()}
            return value.with_tensors(tensors)  # pyright: ignore[reportReturnType]
        if isinstance(value, Mapping):
            carried: Any = {name: self.tensor(name, tensor) for name, tensor in value.items()}
            return carried
        raise AlignmentError(f"cannot widen a {type(value).__name__}: expected a Mask, a Ticket or tensors by name")

    def tensor(self, name: str, tensor: Tensor) -> Tensor:
        """Return one tensor in the shape of the wide network; always a new one.

        Args:
            name: of a tensor of the narrow network's state_dict.
            tensor: of its shape.
        """
        owner = resolve_name(self.narrow, name)
        if owner is None or tuple(tensor.shape) != self.narrow.shape(owner):
            raise AlignmentError(
                f"'{name}' of shape {tuple(tensor.shape)} is no tensor of the narrow network; is it the wide one's?"
            )
        found = tensor.detach().clone()
        for axis, (of_a, of_b) in enumerate(zip(self.narrow.layouts[owner], self.wide.layouts[owner], strict=True)):
            new = torch.arange(of_b.size, device="cpu")
            found = found.index_select(axis, _old(of_a, of_b, new, self.sources).to(tensor.device))
        return found


def check_wider(narrow: Symmetry, wide: Symmetry) -> None:
    """Raise unless two symmetries correspond, group by group and axis by axis, and no group of the second is smaller.

    Args:
        narrow: of one model.
        wide: of the other.

    Raises:
        AlignmentError: naming the first group or tensor that does not correspond.
    """
    for what, of_a, of_b in (
        ("group", narrow.groups.keys(), wide.groups.keys()),
        ("tensor", narrow.layouts.keys(), wide.layouts.keys()),
    ):
        if alone := sorted(of_a ^ of_b):
            raise AlignmentError(
                f"{what} '{alone[0]}' is in one of the two models only; both must be one architecture in two widths"
            )
    for name, group in wide.groups.items():
        if group.parents or narrow.groups[name].parents:
            raise AlignmentError(f"group '{name}' depends on others, as units of heads do; such models are not widened")
        if group.size < narrow.groups[name].size:
            raise AlignmentError(
                f"group '{name}' has {narrow.groups[name].size} units in the narrow model and {group.size} in the wide "
                f"one; give the wider model second"
            )
    for name, layout in wide.layouts.items():
        for axis, (of_a, of_b) in enumerate(zip(narrow.layouts[name], layout, strict=False)):
            if not _alike(of_a, of_b):
                raise AlignmentError(
                    f"axis {axis} of '{name}' is {describe(of_a)} in the narrow model and {describe(of_b)} in the wide "
                    f"one; only the units of groups may be more"
                )


def _alike(of_a: Term, of_b: Term) -> bool:
    """Whether two terms are made up alike, of the same groups."""
    match of_a, of_b:
        case Atom(), Atom():
            return of_a.key == of_b.key
        case Fixed(), Fixed():
            return of_a.size == of_b.size
        case (Product(a), Product(b)) | (Sum(a), Sum(b)):
            return len(a) == len(b) and all(_alike(one, other) for one, other in zip(a, b, strict=True))
        case _:
            return False


def _old(of_a: Term, of_b: Term, new: Tensor, sources: Mapping[str, Tensor]) -> Int64[Tensor, " n"]:
    """Return for positions along an axis of the wide network those of the narrow one that they stand for."""
    match of_a, of_b:
        case Atom(), Atom():
            return sources[str(of_b.key)][new]
        case Product(a), Product(b):
            total = torch.zeros_like(new)
            for one, other, digit in zip(a, b, digits_of(b, new), strict=True):
                total = total * one.size + _old(one, other, digit, sources)
            return total
        case Sum(a), Sum(b):
            total, start, old_start = new.clone(), 0, 0
            for one, other in zip(a, b, strict=True):
                inside = (new >= start) & (new < start + other.size)
                total[inside] = _old(one, other, new[inside] - start, sources) + old_start
                start, old_start = start + other.size, old_start + one.size
            return total
        case _:
            return new
