"""Apply permutations to one tensor, given the terms of its axes."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from reticket.symmetry.terms import Atom, Key, Layout, Product, Sum, Term, atoms, key_of
from reticket.types import Permutation

KeyedPositions: TypeAlias = dict[Key, Tensor]


def gather(
    tensor: Shaped[Tensor, "..."], layout: Layout, permutations: Mapping[str, Permutation]
) -> Shaped[Tensor, "..."]:
    """Return the permuted tensor, `x[index]` along every axis that moves; a new tensor unless nothing moves.

    Args:
        tensor: tensor of the layout's shape.
        layout: term of each axis.
        permutations: permutation of every group that occurs in the layout.
    """
    if any(atom.parents for term in layout for atom in atoms(term)):
        return _gather_dependent(tensor, layout, permutations)
    for axis, term in enumerate(layout):
        if any(not permutations[str(atom.key)].is_identity for atom in atoms(term)):
            tensor = tensor.index_select(axis, axis_index(term, permutations).to(tensor.device))
    return tensor


def axis_index(term: Term, permutations: Mapping[str, Permutation]) -> Int64[Tensor, " n"]:
    """Return the index vector of an axis without dependent atoms; `index[new] == old`."""
    return _encode(term, torch.arange(term.size, device="cpu"), {}, permutations)


def _encode(term: Term, new: Tensor, parents: KeyedPositions, permutations: Mapping[str, Permutation]) -> Tensor:
    """Return the old position for every new position along an axis; `parents` holds their new positions."""
    match term:
        case Atom(key, _, above):
            return permutations[str(key)].index[(*(parents[parent] for parent in above), new)]
        case Product(factors):
            digits = digits_of(factors, new)
            own = {**parents, **_keyed_positions(factors, digits)}
            total = torch.zeros_like(new)
            for factor, digit in zip(factors, digits, strict=True):
                total = total * factor.size + _encode(factor, digit, own, permutations)
            return total
        case Sum(parts):
            start, total = 0, new
            for part in parts:
                inside = (new >= start) & (new < start + part.size)
                value = _encode(part, (new - start).clamp(0, part.size - 1), parents, permutations) + start
                total = torch.where(inside, value, total)
                start += part.size
            return total
        case _:
            return new


def digits_of(factors: Sequence[Term], new: Tensor) -> list[Tensor]:
    """Split positions into their row-major digits, one for each factor."""
    digits, stride = [], math.prod(factor.size for factor in factors)
    for factor in factors:
        stride //= factor.size
        digits.append(new // stride % factor.size)
    return digits


def _keyed_positions(factors: Sequence[Term], digits: Sequence[Tensor]) -> KeyedPositions:
    """Return the positions of the atoms and fixed parents among the factors."""
    pairs = zip(factors, digits, strict=True)
    return {key: digit for factor, digit in pairs if (key := key_of(factor)) is not None}


def _gather_dependent(tensor: Tensor, layout: Layout, permutations: Mapping[str, Permutation]) -> Tensor:
    """Gather where a parent may stand on another axis: `x'[i, j] = x[a(i), b(i, j)]`, plain axes first."""
    factors = [term.factors if isinstance(term, Product) else (term,) for term in layout]
    positions = [
        torch.arange(term.size, device="cpu").reshape([-1 if i == axis else 1 for i in range(len(layout))])
        for axis, term in enumerate(layout)
    ]
    keyed = [_keyed_positions(own, digits_of(own, new)) for own, new in zip(factors, positions, strict=True)]
    joint = False
    indices = list(positions)
    for axis, (term, new) in enumerate(zip(layout, positions, strict=True)):
        others = {key: digit for i, digits in enumerate(keyed) if i != axis for key, digit in digits.items()}
        index = _encode(term, new, others, permutations)
        if index.numel() > term.size:
            indices[axis], joint = index, True
        elif not torch.equal(index, new):
            tensor = tensor.index_select(axis, index.flatten().to(tensor.device))
    return tensor[tuple(index.to(tensor.device) for index in indices)] if joint else tensor
