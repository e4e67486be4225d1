"""Apply permutations to one tensor, given the terms of its axes."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from reticket.symmetry.terms import Atom, Key, Layout, Product, Sum, Term, atoms
from reticket.types import Permutation

Old = Callable[[Atom, Tensor], Tensor]


def gather(
    tensor: Shaped[Tensor, "..."], layout: Layout, permutations: Mapping[str, Permutation]
) -> Shaped[Tensor, "..."]:
    """Return the permuted tensor, `x[index]` along every axis that moves; a new tensor unless nothing moves.

    Args:
        tensor: tensor of the layout's shape.
        layout: term of each axis.
        permutations: permutation of every group that occurs in the layout.
    """
    if any(atom.over for term in layout for atom in atoms(term)):
        return tensor[_dependent_index(layout, permutations, tensor.device)]
    for axis, term in enumerate(layout):
        if any(not permutations[str(atom.key)].is_identity for atom in atoms(term)):
            tensor = tensor.index_select(axis, axis_index(term, permutations).to(tensor.device))
    return tensor


def axis_index(term: Term, permutations: Mapping[str, Permutation]) -> Int64[Tensor, " n"]:
    """Return the index vector of an axis without dependent atoms; `index[new] == old`."""
    return _encode(term, torch.arange(term.size), lambda atom, new: permutations[str(atom.key)].index[new])


def _encode(term: Term, new: Tensor, old: Old) -> Tensor:
    """Return the old position for every new position along an axis."""
    match term:
        case Atom():
            return old(term, new)
        case Product(factors):
            stride, total = term.size, torch.zeros_like(new)
            for factor in factors:
                stride //= factor.size
                total = total + _encode(factor, new // stride % factor.size, old) * stride
            return total
        case Sum(parts):
            start, total = 0, new
            for part in parts:
                inside = (new >= start) & (new < start + part.size)
                value = _encode(part, (new - start).clamp(0, part.size - 1), old) + start
                total = torch.where(inside, value, total)
                start += part.size
            return total
        case _:
            return new


def _dependent_index(
    layout: Layout, permutations: Mapping[str, Permutation], device: torch.device
) -> tuple[Tensor, ...]:
    """Return one index array for each axis, broadcast against each other; a parent may stand on another axis."""
    places: dict[Key, Tensor] = {}
    positions = [
        torch.arange(term.size).reshape([-1 if i == axis else 1 for i in range(len(layout))])
        for axis, term in enumerate(layout)
    ]

    def note(atom: Atom, new: Tensor) -> Tensor:
        places.setdefault(atom.key, new)
        return new

    for term, new in zip(layout, positions, strict=True):
        _encode(term, new, note)

    def old(atom: Atom, new: Tensor) -> Tensor:
        return permutations[str(atom.key)].index[(*(places[parent] for parent in atom.over), new)]

    return tuple(_encode(term, new, old).to(device) for term, new in zip(layout, positions, strict=True))
