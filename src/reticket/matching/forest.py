"""Assignment of groups that depend on one another: heads and their channels, experts and their hidden units.

The objective is the sum of matched scores over all units of all groups. Where groups form a tree (channels over heads)
it is maximised exactly: for every pair of parent positions, one of A and one of B, the inner problems of all children
are solved, and their optimal sums join the parent's own scores in its linear assignment problem. A group that is only
seen together with others (queries that share a head of keys) is assigned after them, with their permutations held.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from reticket.matching.assignment import matched_and_margin
from reticket.matching.constraints import ConstrainedSymmetry, rule_of
from reticket.symmetry import Alignment, Group, Quality, Symmetry, random_alignment
from reticket.symmetry.views import free_parents, parent_of, reached_by
from reticket.types import Permutation

Positions: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class SimilarityScores:
    """Scores of the units of one group, seen along the positions of others.

    Args:
        along: names of the groups and fixed parents whose positions are told apart, outermost first.
        scores: float64 of shape `(*along, n, *along, n)`: unit of A (first half) against unit of B (second half).
    """

    along: tuple[str, ...]
    scores: Float64[Tensor, "..."]

    def block(self, in_a: Positions, in_b: Positions) -> Float64[Tensor, "n n"]:
        """Return the scores at one position, in A and in B, of every group along."""
        a, b = ([at[name] for name in self.along] for at in (in_a, in_b))
        return self.scores[(*a, slice(None), *b)]


def children_of(sym: Symmetry) -> dict[str, list[Group]]:
    """Return the groups directly below each group: those whose parents are its parents and itself."""
    found: dict[str, list[Group]] = {name: [] for name in sym.groups}
    for group in sym.groups.values():
        if (parent := parent_of(sym, group)) is not None:
            found[parent].append(group)
    return found


@dataclass
class GroupForest:
    """The groups of a symmetry as trees, with what was seen of each.

    Args:
        sym: the symmetry.
        direct: scores of a group along its parents, for every group that is seen so.
        conditional: scores of groups that are only seen along others too; assigned after those.
    """

    sym: Symmetry
    direct: Mapping[str, SimilarityScores]
    conditional: Mapping[str, SimilarityScores] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.children = children_of(self.sym)
        self.reached = reached_by(self.sym, self.direct)

    def assign(self) -> dict[str, Permutation]:
        """Return the best permutation of every group of which something was seen."""
        found: dict[str, Tensor] = {}
        for group in self.sym.groups.values():
            if group.name in self.reached or group.name in self.conditional:
                found[group.name] = torch.zeros(
                    *self.sym.parent_sizes(group), group.size, dtype=torch.int64, device="cpu"
                )
        for group in self.sym.groups.values():
            if group.name in self.reached and not free_parents(self.sym, group):
                self._descend(group, {}, {}, found)
        rest = [g for g in self.sym.groups.values() if g.name in found and not self._on_a_tree(g)]
        for group in sorted(rest, key=lambda g: g.name in self.conditional):
            self._fill(group, found)
        return {name: Permutation(index) for name, index in found.items()}

    def _on_a_tree(self, group: Group) -> bool:
        """Whether descending from the roots reached the group."""
        above = free_parents(self.sym, group)
        parent = parent_of(self.sym, group)
        return group.name in self.reached and (
            not above or (parent is not None and self._on_a_tree(self.sym.groups[parent]))
        )

    def _pairs(self, group: Group, in_a: Positions, in_b: Positions) -> tuple[Tensor, int]:
        """Return the scores of every pair of units with all that depends on them, and how many units these are."""
        total, weight = torch.zeros(group.size, group.size, dtype=torch.float64, device="cpu"), 0
        if group.name in self.direct:
            total, weight = total + self.direct[group.name].block(in_a, in_b), 1
        for child in self.children[group.name]:
            if child.name in self.reached:
                below = 0
                for i, j in itertools.product(range(group.size), repeat=2):
                    value, below = self._best(child, {**in_a, group.name: i}, {**in_b, group.name: j})
                    total[i, j] += value
                weight += below
        return total, weight

    def _best(self, group: Group, in_a: Positions, in_b: Positions) -> tuple[float, int]:
        value, weight = 0.0, 0
        for fixed in self._fixed_positions(group, in_a):
            scores, units = self._pairs(group, {**in_a, **fixed}, {**in_b, **fixed})
            index = rule_of(self.sym, group.name).assign(scores)
            value += float(scores.gather(0, index[None]).sum())
            weight += units * group.size
        return value, weight

    def _fixed_positions(self, group: Group, held: Positions) -> Iterator[dict[str, int]]:
        """Yield every position of the fixed parents that a group depends on and that are not held yet."""
        names = [name for name in group.parents if name in self.sym.fixed_parents and name not in held]
        for positions in itertools.product(*(range(self.sym.fixed_parents[name]) for name in names)):
            yield dict(zip(names, positions, strict=True))

    def _descend(self, group: Group, in_a: Positions, in_b: Positions, found: dict[str, Tensor]) -> None:
        for fixed in self._fixed_positions(group, in_a):
            at_a, at_b = {**in_a, **fixed}, {**in_b, **fixed}
            index = rule_of(self.sym, group.name).assign(self._pairs(group, at_a, at_b)[0])
            found[group.name][tuple(at_b[name] for name in group.parents)] = index
            for child in self.children[group.name]:
                if child.name in self.reached:
                    for new, old in enumerate(index.tolist()):
                        self._descend(child, {**at_a, group.name: old}, {**at_b, group.name: new}, found)

    def _fill(self, group: Group, found: dict[str, Tensor]) -> None:
        """Assign a group whose parents, and what else it is seen along, are assigned."""
        similarity = self.direct.get(group.name) or self.conditional[group.name]
        total: dict[tuple[int, ...], Tensor] = {}
        for in_a, in_b in self._matched(similarity.along, found):
            where = tuple(in_b[name] for name in group.parents)
            block = similarity.block(in_a, in_b)
            total[where] = total[where] + block if where in total else block
        for where, scores in total.items():
            found[group.name][where] = rule_of(self.sym, group.name).assign(scores)

    def _matched(self, along: tuple[str, ...], found: Mapping[str, Tensor]) -> Iterator[tuple[Positions, Positions]]:
        """Yield every new position of groups and fixed parents with the old one that their permutations put there."""
        sizes = [self.sym.fixed_parents.get(name) or self.sym.groups[name].size for name in along]
        for positions in itertools.product(*map(range, sizes)):
            in_b = dict(zip(along, positions, strict=True))
            yield {name: self._old(name, in_b, found) for name in along}, in_b

    def _old(self, name: str, in_b: Positions, found: Mapping[str, Tensor]) -> int:
        if name in self.sym.fixed_parents or name not in found:
            return in_b[name]
        return int(found[name][(*(in_b[above] for above in self.sym.groups[name].parents), in_b[name])])

    def quality(self, permutations: Mapping[str, Permutation]) -> dict[str, Quality]:
        """Return how well each group was matched: means over its units, or over what depends on them."""
        found = {name: permutation.index for name, permutation in permutations.items()}
        return {name: self._quality(self.sym.groups[name], found) for name in found}

    def _quality(self, group: Group, found: Mapping[str, Tensor]) -> Quality:
        results = []
        if group.name in self.reached:
            for in_a, in_b in self._matched(group.parents, found):
                scores, weight = self._pairs(group, in_a, in_b)
                index = found[group.name][tuple(in_b[name] for name in group.parents)]
                results.append(matched_and_margin(scores / weight, Permutation(index)))
        else:
            similarity = self.conditional[group.name]
            for in_a, in_b in self._matched(similarity.along, found):
                index = found[group.name][tuple(in_b[name] for name in group.parents)]
                results.append(matched_and_margin(similarity.block(in_a, in_b), Permutation(index)))
        correlations, margins = zip(*results, strict=True)
        return Quality(sum(correlations) / len(results), sum(margins) / len(results))


def drawn(sym: Symmetry, generator: torch.Generator) -> Alignment:
    """Return a uniform draw from all permutations that a matching may use.

    Args:
        sym: the symmetry, constrained or not.
        generator: on the CPU.
    """
    if not isinstance(sym, ConstrainedSymmetry):
        return random_alignment(sym, generator)
    noise = {}
    for name, group in sym.groups.items():
        shape = 2 * (*sym.parent_sizes(group), group.size)
        scores = torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")
        noise[name] = SimilarityScores(group.parents, scores)
    return Alignment(sym, GroupForest(sym, noise).assign())
