"""Soft alignments: doubly stochastic matrices in the place of permutations, which are their corners; differentiable.

A soft permutation of a group is a tensor J of shape `(*parents, n, *parents, n)`: the share that A's unit (first half)
has in the new unit (second half), joint over the positions of what the group depends on. Over all old units the shares
of a new unit sum to 1 and the other way round; a permutation has one share of 1 for each unit. Where a group stands
beside its parents its J moves them too, so that a tensor is linear in the J of every group that moves it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from reticket.matching.constraints import FREE, rule_of
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.symmetry import Symmetry
from reticket.symmetry.alignment import old_parents
from reticket.symmetry.terms import Atom, Layout, Product, Sum, Term, atoms
from reticket.symmetry.units import axis_of
from reticket.types import Permutation

Soft: TypeAlias = Mapping[str, Tensor]  # by group, of shape (*parents, n, *parents, n)
ROUNDS = 20  # of Sinkhorn's normalisation


def applied(tensor: Float[Tensor, "..."], layout: Layout, soft: Soft) -> Float[Tensor, "..."]:
    """Return a tensor whose units are mixed by soft permutations; of permutations the permuted tensor.

    Args:
        tensor: of the layout's shape.
        layout: term of each axis, one that `is_soft` holds for.
        soft: shares of every group that occurs in the layout.

    >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> applied(torch.tensor([5.0, 7.0]), (Atom("g", 2),), {"g": swap})
    tensor([7., 5.])
    """
    return _mixed(tensor, list(enumerate(layout)), soft)


def _mixed(tensor: Tensor, axes: list[tuple[int, Term]], soft: Soft) -> Tensor:
    """Mix along every axis; `axes` holds for each the axis of the layout that it is a piece of, and its term."""
    for i, (axis, term) in enumerate(axes):
        before, after = axes[:i], axes[i + 1 :]
        match term:
            case Product(factors):
                spread = tensor.unflatten(i, [factor.size for factor in factors])
                mixed = _mixed(spread, [*before, *((axis, factor) for factor in factors), *after], soft)
                return mixed.flatten(i, i + len(factors) - 1)
            case Sum(parts) if any(True for _ in atoms(term)):
                pieces = zip(tensor.split([part.size for part in parts], dim=i), parts, strict=True)
                return torch.cat([_mixed(piece, [*before, (axis, part), *after], soft) for piece, part in pieces], i)
    for group, moved in _moves(axes):
        tensor = _along(tensor, moved, soft[group])
    return tensor


def _moves(axes: list[tuple[int, Term]]) -> list[tuple[str, list[int]]]:
    """Return each group that moves axes by itself, with these: those of its parents and its own.

    A parent with a child beside it is moved by the child's shares.
    """
    found = [
        (str(term.key), [*(axis_of(parent, axis, axes) for parent in term.parents), i])
        for i, (axis, term) in enumerate(axes)
        if isinstance(term, Atom)
    ]
    moved_by_child = {i for _, moved in found for i in moved[:-1]}
    return [(group, moved) for group, moved in found if moved[-1] not in moved_by_child]


def _along(tensor: Tensor, axes: Sequence[int], shares: Tensor) -> Tensor:
    """Mix the positions of several axes together."""
    front = list(range(len(axes)))
    moved = tensor.movedim(list(axes), front)
    units = math.prod(moved.shape[: len(axes)])
    mixed = shares.reshape(units, units).T.to(moved) @ moved.reshape(units, -1)
    return mixed.reshape(moved.shape).movedim(front, list(axes))


def is_soft(layout: Layout) -> bool:
    """Whether soft permutations move a tensor: no two groups on it depend on the same one, whose shares they both hold.

    Args:
        layout: term of each axis.
    """
    return all(_is_soft(axes) for axes in _pieces(list(enumerate(layout))))


def _is_soft(axes: list[tuple[int, Term]]) -> bool:
    free = [i for _, moved in _moves(axes) for i in moved if isinstance(axes[i][1], Atom)]
    return len(free) == len(set(free))


def _pieces(axes: list[tuple[int, Term]]) -> list[list[tuple[int, Term]]]:
    """Return the axes of every piece into which products and sums fall."""
    for i, (axis, term) in enumerate(axes):
        before, after = axes[:i], axes[i + 1 :]
        match term:
            case Product(factors):
                return _pieces([*before, *((axis, factor) for factor in factors), *after])
            case Sum(parts) if any(True for _ in atoms(term)):
                return [piece for part in parts for piece in _pieces([*before, (axis, part), *after])]
    return [axes]


def degree(layout: Layout) -> int:
    """Return the degree of a mixed tensor as a polynomial of the shares: how many groups move it by themselves.

    >>> degree((Atom("heads", 4), Atom("channels", 8, ("heads",)), Atom("stream", 3)))
    2
    """
    return max(len(_moves(axes)) for axes in _pieces(list(enumerate(layout))))


def corner(sym: Symmetry, permutations: Mapping[str, Permutation]) -> dict[str, Tensor]:
    """Return permutations as soft ones, float32 on the CPU.

    Args:
        sym: the symmetry.
        permutations: of every group.
    """
    found = {}
    for name, group in sym.groups.items():
        index = permutations[name].index
        new = torch.meshgrid(*(torch.arange(n, device="cpu") for n in index.shape), indexing="ij")
        old = [position.unsqueeze(-1).expand_as(index) for position in old_parents(sym, group, permutations)]
        shares = torch.zeros(2 * tuple(index.shape), device="cpu")
        shares[(*old, index, *new)] = 1.0
        found[name] = shares
    return found


def barycentre(sym: Symmetry) -> dict[str, Tensor]:
    """Return the mean of all permutations: every unit has the same share in every other."""
    sizes = {name: (*sym.parent_sizes(group), group.size) for name, group in sym.groups.items()}
    return sinkhorn(sym, {name: torch.zeros(2 * size, device="cpu") for name, size in sizes.items()})


def between(soft: Soft, other: Soft, at: float) -> dict[str, Tensor]:
    """Return the point at a position on the line from one soft alignment, at 0, to another, at 1."""
    return {name: torch.lerp(shares, other[name], at) for name, shares in soft.items()}


def nearest(sym: Symmetry, soft: Soft) -> dict[str, Permutation]:
    """Return the permutations with the largest sum of shares.

    Args:
        sym: the symmetry.
        soft: of every group.
    """
    scores = {
        name: SimilarityScores(sym.groups[name].parents, shares.detach().double().cpu())
        for name, shares in soft.items()
    }
    return GroupForest(sym, scores).assign()


def sinkhorn(sym: Symmetry, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return soft permutations of logits, differentiably: rows and columns of `exp(logits)` are normalised in turn.

    The logits of a group that depends on others say how its units share, given that the positions of its parents do;
    these shares times those of the parents are joint (Sinkhorn 1964; Mena et al. 2018 for logits that are learned).

    Args:
        sym: the symmetry.
        logits: of every group, in the shape of its shares.
    """
    given = {}
    for name, one in logits.items():
        parents = len(sym.groups[name].parents)
        rule = rule_of(sym, name)
        given[name] = _doubly_stochastic(one if rule is FREE else rule.tied(one, parents), parents)
    found = {}
    for name, group in sym.groups.items():
        names, shares = (*group.parents, name), given[name]
        for parent, size in zip(group.parents, sym.parent_sizes(group), strict=True):
            if parent in sym.fixed_parents:
                shares = shares * _among(torch.eye(size).to(shares), (parent,), names)
            else:
                shares = shares * _among(given[parent], (*sym.groups[parent].parents, parent), names)
        found[name] = shares
    return found


def _doubly_stochastic(logits: Tensor, parents: int) -> Tensor:
    """Normalise the block of every pair of positions of the parents; the shares of a new unit sum to 1 exactly."""
    block = logits.movedim(parents, -2)
    for _ in range(ROUNDS):
        block = block - block.logsumexp(dim=-1, keepdim=True)
        block = block - block.logsumexp(dim=-2, keepdim=True)
    return block.exp().movedim(-2, parents)


def _among(shares: Tensor, own: Sequence[str], names: Sequence[str]) -> Tensor:
    """Return shares over some axes as shares over more, which broadcast.

    Args:
        shares: of shape `(*own, *own)`.
        own: names of its axes.
        names: names of the axes wanted, those among them.
    """
    order = sorted(range(len(own)), key=lambda i: names.index(own[i]))
    sizes = dict(zip(own, shares.shape, strict=False))
    shape = [sizes.get(name, 1) for name in names]
    return shares.permute(*order, *(len(own) + i for i in order)).reshape(*shape, *shape)
