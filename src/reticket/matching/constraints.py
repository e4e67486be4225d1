"""What a matching may not do: units that stay where they are, and units that move as whole blocks.

The permutations that are left form a group of their own, of which a linear assignment problem finds the best element
exactly: fixed units are taken out of it, and of blocks it is the blocks that are assigned, each pair of them scored by
the best that its units can do inside. A symmetry carries its rules, so that whatever assigns its groups keeps to them.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from reticket.errors import AlignmentError, InputError
from reticket.lookup import as_names, nearest
from reticket.matching.assignment import assign
from reticket.symmetry import Alignment, Group, Symmetry

Found = TypeVar("Found", bound=Alignment)
EVERY_ORDER = 4  # units of a block up to which all orders of it are tried at once


@dataclass(frozen=True)
class Rule:
    """How the units of one group may move.

    Args:
        fixed: units that stay where they are.
        block: how many consecutive units move as one; 1 for each on its own. A block with a fixed unit stays.
        ordered: whether units keep their order inside a block, or are free there; `fixed` then holds whole blocks.
    """

    fixed: frozenset[int] = frozenset()
    block: int = 1
    ordered: bool = False

    def assign(self, scores: Float64[Tensor, "n n"]) -> Int64[Tensor, " n"]:
        """Return the best permitted permutation, `index[new] = old`.

        Args:
            scores: similarity of A's unit (row) with B's unit (column).
        """
        if self.block == 1:
            return _assigned_around(scores, sorted(self.fixed))
        n = self.block
        pairs = scores.cpu().unflatten(1, (-1, n)).unflatten(0, (-1, n)).transpose(1, 2)  # of blocks, of units in them
        still = sorted({unit // n for unit in self.fixed})
        blocks = _assigned_around(self._values(pairs), still)
        return torch.cat([old * n + self._within(pairs[old, new], new) for new, old in enumerate(blocks.tolist())])

    def _within(self, scores: Float64[Tensor, "m m"], number: int) -> Int64[Tensor, " m"]:
        """Return the order of the units inside the block that moves to place `number`."""
        if self.ordered:
            return torch.arange(self.block, device="cpu")
        first = number * self.block
        return _assigned_around(scores, sorted(unit - first for unit in self.fixed if unit // self.block == number))

    def _values(self, pairs: Float64[Tensor, "blocks blocks m m"]) -> Float64[Tensor, "blocks blocks"]:
        """Return what every pair of blocks can do at best; of one that stays any number."""
        if self.ordered:
            return pairs.diagonal(dim1=2, dim2=3).sum(dim=-1)
        if self.block <= EVERY_ORDER:
            new = torch.arange(self.block, device="cpu")
            orders = itertools.permutations(range(self.block))
            return torch.stack([pairs[:, :, list(old), new].sum(dim=-1) for old in orders]).amax(dim=0)
        return torch.stack([torch.stack([_best_sum(scores) for scores in row]) for row in pairs])

    def permits(self, index: Int64[Tensor, "*parents n"]) -> bool:
        """Whether every row of an index is a permitted permutation.

        Args:
            index: `index[..., new] == old`.
        """
        new = torch.arange(index.shape[-1], device="cpu")
        fixed = sorted(self.fixed)
        blocks = (index // self.block).unflatten(-1, (-1, self.block))
        together = bool((blocks == blocks[..., :1]).all())
        in_order = not self.ordered or bool((index % self.block == new % self.block).all())
        return together and in_order and bool((index[..., fixed] == new[fixed]).all())

    def tied(self, logits: Tensor, parents: int) -> Tensor:
        """Return logits of soft permutations of which only permitted units share, -inf for the others.

        Args:
            logits: of shape `(*parents, n, *parents, n)`.
            parents: number of parents.
        """
        units, m = logits.movedim(parents, -2), self.block
        at = torch.arange(units.shape[-1], device=units.device)
        fixed = torch.tensor([unit in self.fixed for unit in range(len(at))], device=units.device)
        still = fixed.unflatten(0, (-1, m)).any(dim=-1).repeat_interleave(m)  # units whose block stays
        barred = (fixed[:, None] | fixed) & (at[:, None] != at)
        barred |= (still[:, None] | still) & (at[:, None] // m != at // m)
        if self.ordered:
            shares = units.unflatten(-1, (-1, m)).unflatten(-3, (-1, m)).diagonal(dim1=-3, dim2=-1).mean(dim=-1)
            units = shares.repeat_interleave(m, dim=-2).repeat_interleave(m, dim=-1)
            barred |= at[:, None] % m != at % m
        return units.masked_fill(barred, -math.inf).movedim(-2, parents)


FREE = Rule()


@dataclass(frozen=True, repr=False)
class ConstrainedSymmetry(Symmetry):
    """A symmetry of whose permutations a matching may use some only.

    Args:
        rules: by name of a group, of those that are not free.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict, kw_only=True)


def rule_of(sym: Symmetry, group: str) -> Rule:
    """Return how the units of a group may move.

    Args:
        sym: the symmetry, constrained or not.
        group: its name.
    """
    return sym.rules.get(group, FREE) if isinstance(sym, ConstrainedSymmetry) else FREE


def constrained(
    sym: Symmetry,
    *,
    fixed: str | Sequence[str] | Mapping[str, Sequence[int]] | None = None,
    blocks: int | Mapping[str, int] | None = None,
    ordered_blocks: int | Mapping[str, int] | None = None,
) -> Symmetry:
    """Return a symmetry of which a matching uses permitted permutations only; the same one where nothing is given.

    Args:
        sym: the symmetry.
        fixed: groups whose units stay where they are; or by group those of its units that do.
        blocks: by group, how many consecutive units move as one, in any order among themselves; or one number for every
            group that it divides.
        ordered_blocks: likewise, and units keep their order inside.

    Raises:
        InputError: for an unknown group, a unit that it lacks, or a block that does not divide it.
    """
    still = _fixed_units(sym, fixed)
    free, kept = _block_sizes(sym, "blocks", blocks), _block_sizes(sym, "ordered_blocks", ordered_blocks)
    if both := sorted(free.keys() & kept.keys()):
        raise InputError(f"group '{both[0]}' is in blocks and in ordered_blocks; leave it out of one of them")
    names = [name for name in sym.groups if name in still or name in free or name in kept]
    if not names:
        return sym
    rules = {name: _rule(still.get(name, ()), free.get(name, 1), kept.get(name, 1)) for name in names}
    return ConstrainedSymmetry(**{one.name: getattr(sym, one.name) for one in fields(Symmetry)}, rules=rules)


def released(found: Found, sym: Symmetry, narrow: Symmetry, method: str) -> Found:
    """Return what a matcher found for a constrained symmetry as an alignment of the whole one.

    Args:
        found: by the matcher.
        sym: the whole symmetry.
        narrow: the constrained one; the whole one where there are no rules.
        method: name of the matcher, for the error.

    Raises:
        AlignmentError: when a group was moved in a way that its rule forbids.
    """
    if narrow is sym:
        return found
    odd = [name for name, one in found.permutations.items() if not rule_of(narrow, name).permits(one.index)]
    if odd:
        raise AlignmentError(
            f"matcher '{method}' moved group '{odd[0]}' in a way that fixed, blocks or ordered_blocks forbid; a "
            "matcher that assigns by GroupForest of the symmetry it is given keeps to them"
        )
    return replace(found, symmetry=sym)


def _rule(fixed: Iterable[int], free: int, kept: int) -> Rule:
    whole = {unit // kept * kept + other for unit in fixed for other in range(kept)}
    return Rule(frozenset(whole), max(free, kept), kept > 1)


def _fixed_units(sym: Symmetry, fixed: Any) -> dict[str, Sequence[int]]:
    if fixed is None:
        return {}
    if not isinstance(fixed, Mapping):
        if not isinstance(fixed, str | Sequence):
            raise InputError(f"fixed is a {type(fixed).__name__}; give names of groups, or units by name of a group")
        return {name: range(_group(sym, "fixed", name).size) for name in as_names(fixed)}
    for name, units in fixed.items():
        size = _group(sym, "fixed", name).size
        odd = [u for u in units if not 0 <= u < size] if _are_whole(units) else [units]
        if odd:
            raise InputError(
                f"fixed has the unit {odd[0]!r} of group '{name}', but whole numbers from 0 to {size - 1} were expected"
            )
    return dict(fixed)


def _are_whole(units: Any) -> bool:
    return isinstance(units, Iterable) and all(isinstance(u, int) and not isinstance(u, bool) for u in units)


def _block_sizes(sym: Symmetry, what: str, blocks: Any) -> dict[str, int]:
    """Return how many units of each group move as one, of those that are not free."""
    if blocks is None:
        return {}
    given: dict[str, Any] = dict(blocks) if isinstance(blocks, Mapping) else dict.fromkeys(sym.groups, blocks)
    if odd := [size for size in given.values() if not isinstance(size, int) or isinstance(size, bool) or size < 1]:
        raise InputError(f"{what} has the size {odd[0]!r}, but a number of units, 1 or more, was expected")
    apart = [name for name, size in given.items() if _group(sym, what, name).size % size]
    if apart and (isinstance(blocks, Mapping) or len(apart) == len(given)):
        size = sym.groups[apart[0]].size
        raise InputError(
            f"{what} moves {given[apart[0]]} units of group '{apart[0]}' at a time, but it has {size}; give a number "
            "that divides it"
        )
    return {name: size for name, size in given.items() if size > 1 and name not in apart}


def _group(sym: Symmetry, what: str, name: Any) -> Group:
    if name not in sym.groups:
        known = nearest(str(name), sym.groups) or f"; its groups are {', '.join(list(sym.groups)[:5])}"
        raise InputError(f"{what} names the group '{name}', which the symmetry has not{known}")
    return sym.groups[name]


def _assigned_around(scores: Float64[Tensor, "n n"], fixed: Sequence[int]) -> Int64[Tensor, " n"]:
    """Return the best permutation that leaves some units where they are."""
    if not fixed:
        return assign(scores).index
    index = torch.arange(len(scores), device="cpu")
    free = torch.tensor([unit for unit in index.tolist() if unit not in fixed], dtype=torch.int64, device="cpu")
    if len(free):
        index[free] = free[assign(scores[free][:, free]).index]
    return index


def _best_sum(scores: Float64[Tensor, "m m"]) -> Tensor:
    return scores.gather(0, assign(scores).index[None]).sum()
