"""Where the units of a group stand in the weights, and how alike those of two networks are there.

A unit is known by its slices: the row of weights that it computes from, its bias, the column that carries it on. Which
entry of A's slice belongs to which of B's is decided by the permutations of the other axes, so a similarity of weights
is always one given permutations.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from reticket.errors import AlignmentError
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.symmetry import Group, Quality, Symmetry
from reticket.symmetry.alignment import SIMILARITY
from reticket.symmetry.gather import gather
from reticket.symmetry.terms import Atom, Fixed, Layout, Term, atoms, indexing_keys, rewrite, shape_of
from reticket.symmetry.units import rows, siblings
from reticket.types import Permutation

Permutations: TypeAlias = Mapping[str, Permutation]
Pair: TypeAlias = tuple[Tensor, Tensor]  # a tensor of A and that of B
ROUNDS = 8  # of balancing; rows and columns then differ from spread 1 by a few percent at most
VECTOR = 0.1  # norm of a number of a vector, where the slice of a matrix has 1
FAINT = 0.01  # share of the mean spread below which a slice is not scaled up: it is dead, and its entries are noise


@dataclass(frozen=True)
class Place:
    """One axis of one tensor on which the units of a group stand.

    Args:
        tensor: name in the state_dict.
        units: layout that shows the group, and its parents, on the axes whose positions are told apart and nowhere
            else.
        others: layout of what the permutations of other groups do to the tensor.
        given: names of the groups in `others`.
        entries: numbers that each unit has here.
    """

    tensor: str
    units: Layout
    others: Layout
    given: frozenset[str]
    entries: int


def places_of(sym: Symmetry, group: Group) -> tuple[Place, ...]:
    """Return every place of a group at which its units can be compared, given the permutations of the others.

    That is not so where the order of what stands beside a unit depends on which unit it is, as the channels of heads do
    beside the heads: their own places show the heads too.
    """
    found = []
    for name, axis in dict.fromkeys((member.tensor, member.axis) for member in group.members):
        place = _place(sym.layouts[name], name, axis, group)
        if place is not None:
            found.append(place)
    return tuple(found)


def _place(layout: Layout, name: str, axis: int, group: Group) -> Place | None:
    beside = next(siblings(layout[axis], group.name))
    elsewhere = [parent for parent in group.parents if parent not in beside]
    told = {axis, *(_axis_showing(layout, parent) for parent in elsewhere)}
    line = {group.name, *group.parents}

    def still(leaf: Term) -> Term:
        tied = isinstance(leaf, Atom) and (leaf.key in line or not line.isdisjoint(map(str, leaf.parents)))
        return Fixed(leaf.size) if tied else leaf

    def plain(leaf: Term) -> Term:
        return Fixed(leaf.size) if isinstance(leaf, Atom) and leaf.key == group.name else leaf

    others = tuple(rewrite(term, still) if i in told else term for i, term in enumerate(layout))
    if any(not _settled(term, told, layout) for i, term in enumerate(layout) if i not in told):
        return None
    if any(group.name in map(str, atom.parents) for atom in atoms(layout[axis])):
        return None
    units = tuple(term if i == axis else rewrite(term, plain) for i, term in enumerate(layout))
    given = frozenset(str(atom.key) for term in others for atom in atoms(term))
    entries = _rows(torch.empty(shape_of(layout), device="meta"), units, group.name).shape[-1]
    return Place(name, units, others, given, entries)


def _axis_showing(layout: Layout, key: str) -> int:
    return next(i for i, term in enumerate(layout) if key in indexing_keys(term))


def _settled(term: Term, told: set[int], layout: Layout) -> bool:
    """Whether what moves on an axis depends on no axis that is told apart."""
    shown = {key for i in told for key in indexing_keys(layout[i])}
    return all(
        parent in beside or parent not in shown
        for atom in atoms(term)
        for beside in siblings(term, str(atom.key))
        for parent in map(str, atom.parents)
    )


def trees_of(sym: Symmetry) -> tuple[tuple[str, ...], ...]:
    """Return the names of the groups that are assigned together: those that depend on one another."""
    found: list[set[str]] = []
    for group in sym.groups.values():
        own = {group.name, *(name for name in group.parents if name in sym.groups)}
        joined = [one for one in found if one & own]
        found = [one for one in found if one not in joined] + [own.union(*joined)]
    order = list(sym.groups)
    return tuple(sorted((tuple(sorted(one, key=order.index)) for one in found), key=lambda one: order.index(one[0])))


def comparable(tensor: Tensor, layout: Layout) -> Float[Tensor, "..."]:
    """Return a weight without what a network may choose freely: the scale of each unit.

    A matrix is scaled until its slices along every axis with units have equal mean squares (Sinkhorn's scaling, of
    squares), which no scale of incoming against outgoing weights, and no gain of a normalisation behind, changes. Then
    the slice of a unit has a sum of squares of 1 on average, so that every matrix says as much about a unit as any
    other, large or small. A vector, one number a unit, is centred and says `VECTOR` squared as much.

    Args:
        tensor: floating point.
        layout: term of each axis.

    >>> weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> rescaled = weight * torch.tensor([[5.0], [7.0]])
    >>> layout = (Atom("g", 2), Fixed(2))
    >>> torch.allclose(comparable(weight, layout), comparable(rescaled, layout))
    True
    """
    values, tiny = tensor.detach().float(), torch.finfo(torch.float32).tiny
    moving = [axis for axis, term in enumerate(layout) if any(True for _ in atoms(term))]
    is_vector = values.numel() == max(values.shape)
    if is_vector:
        values = values - values.mean()
    for _ in range(0 if is_vector else ROUNDS if len(moving) > 1 else 1):
        for axis in moving:
            spread = _spread(values, [axis])
            values = values / spread.clamp_min(FAINT * float(spread.mean())).clamp_min(tiny)
    slices = sum(values.shape[axis] for axis in moving) / len(moving)
    norm = float(torch.linalg.vector_norm(values))
    return values / max(norm, tiny) * ((VECTOR if is_vector else 1.0) * math.sqrt(slices))  # one of zeros stays so


def comparable_state(sym: Symmetry, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every floating-point tensor on which units stand, without what is free in it; see `comparable`.

    Raises:
        AlignmentError: for a tensor with entries that are not finite.
    """
    compared = {name: layout for name, layout in sym.layouts.items() if _is_compared(layout, state.get(name))}
    odd = [name for name in compared if not bool(state[name].isfinite().all())]
    if odd:
        raise AlignmentError(
            f"weights in '{odd[0]}' are not finite, which no permutation can be found by; give models that have not "
            "diverged"
        )
    return {name: comparable(state[name], layout) for name, layout in compared.items()}


def _spread(values: Tensor, kept: Sequence[int]) -> Tensor:
    """Return the root mean square over all axes but those that are kept."""
    over = [axis for axis in range(values.dim()) if axis not in kept]
    return values.square().mean(dim=over, keepdim=True).sqrt() if over else values.abs()


class WeightSimilarity:
    """How alike the units of A and B are in their weights, given permutations.

    Args:
        sym: the symmetry of both.
        pairs: for each checkpoint, by name, the tensors of A and B to compare; other tensors are not looked at.
    """

    def __init__(self, sym: Symmetry, pairs: Sequence[Mapping[str, Pair]]) -> None:
        self.sym, self.pairs = sym, pairs
        self.trees = trees_of(sym)
        self.places = {
            group.name: tuple(place for place in places_of(sym, group) if place.tensor in pairs[0])
            for group in sym.groups.values()
        }

    @classmethod
    def of_signs(
        cls, sym: Symmetry, mask: Mapping[str, Tensor], of_a: Mapping[str, Tensor], of_b: Mapping[str, Tensor]
    ) -> "WeightSimilarity":
        """Return that of A's signs on the weights that a mask keeps, and B's signs there.

        Args:
            sym: the symmetry of both.
            mask: of A, True for what is kept.
            of_a, of_b: the weights whose signs are compared.
        """
        names = [name for name in mask if _is_compared(sym.layouts.get(name, ()), of_a.get(name))]
        signs = {name: (of_a[name].detach().sign(), of_b[name].detach().sign()) for name in names}
        return cls(sym, [{name: (a.float() * mask[name], b.float()) for name, (a, b) in signs.items()}])

    def quality(self, permutations: Permutations) -> dict[str, Quality]:
        """Return how alike matched units are, 1 for equal ones at most, and by how much more than others."""
        scores = {name: own for tree in self.trees for name, own in self.scores(tree, permutations).items()}
        most = {name: self._most(name) or 1.0 for name in scores}  # 0 where all weights, and so all products, are
        shares = {name: SimilarityScores(own.along, own.scores / most[name]) for name, own in scores.items()}
        forest = GroupForest(self.sym, shares)
        found = forest.quality({name: permutations[name] for name in self.sym.groups if name in forest.reached})
        return {name: replace(one, measure=SIMILARITY) for name, one in found.items()}

    def a_unit(self) -> "WeightSimilarity":
        """Return it in the unit of a correlation: about 1 for a unit of A and one of B that agree in everything.

        Every tensor is divided by the sum over all its tensors that a unit has with an equal one, averaged over the
        groups on it, so that one objective has the same terms seen from each of its groups.
        """
        most = {name: self._most(name) for name in self.places}
        shares: dict[str, list[float]] = {}
        for name, places in self.places.items():
            for place in places:
                shares.setdefault(place.tensor, []).append(1 / most[name] if most[name] else 0.0)
        weight = {name: sum(own) / len(own) for name, own in shares.items()}
        return WeightSimilarity(
            self.sym,
            [{name: (a * weight[name], b) for name, (a, b) in pair.items() if name in weight} for pair in self.pairs],
        )

    def _most(self, group: str) -> float:
        """Return the mean over units of the sum of products that a unit has with one that is equal to it."""
        units = self.sym.groups[group].size * self.sym.groups[group].copies
        own = (_rows(pair[p.tensor][0], p.units, group) for p in self.places[group] for pair in self.pairs)
        return sum(float(rows.square().sum()) for rows in own) / units

    @classmethod
    def of_states(
        cls, sym: Symmetry, states: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
    ) -> "WeightSimilarity":
        """Return that of whole networks, one pair for each checkpoint, without their units' scales."""
        pairs = [(comparable_state(sym, a), comparable_state(sym, b)) for a, b in states]
        return cls(sym, [{name: (tensor, b[name]) for name, tensor in a.items()} for a, b in pairs])

    def scores(self, tree: Sequence[str], permutations: Permutations) -> dict[str, SimilarityScores]:
        """Return by group the summed products of the slices of every unit of A and every unit of B.

        Args:
            tree: names of groups that are assigned together.
            permutations: of the groups; places that are decided by others too are left out.
        """
        found = {}
        for name in tree:
            places = [place for place in self.places[name] if place.given <= permutations.keys()]
            if places:
                total = sum(self._at(place, name, permutations) for place in places)
                assert isinstance(total, Tensor)
                found[name] = SimilarityScores(self.sym.groups[name].parents, total)
        return found

    def entries(self, tree: Sequence[str], given: Mapping[str, object]) -> int:
        """Return how many numbers of a unit can be compared where these groups are known; the largest of the tree."""
        return max(sum(p.entries for p in self.places[name] if p.given <= given.keys()) for name in tree)

    def _at(self, place: Place, group: str, permutations: Permutations) -> Tensor:
        total: Tensor | None = None
        for pair in self.pairs:
            a, b = pair[place.tensor]
            a = gather(a, place.others, permutations)
            of_a, of_b = (_rows(x, place.units, group) for x in (a, b))
            products = (of_a.flatten(0, -2) @ of_b.flatten(0, -2).T).double().cpu()
            one = products.reshape(*of_a.shape[:-1], *of_b.shape[:-1])
            total = one if total is None else total + one
        assert total is not None
        return total

    def value(self, groups: Sequence[str], permutations: Permutations) -> float:
        """Return the sum of products of A, permuted, and B over the tensors on which any of the groups stands, once."""
        members = (member for name in groups for member in self.sym.groups[name].members)
        names = sorted({member.tensor for member in members} & self.pairs[0].keys())
        return math.fsum(
            float((gather(a, self.sym.layouts[name], permutations) * b).sum(dtype=torch.float64))
            for pair in self.pairs
            for name in names
            for a, b in (pair[name],)
        )


def _rows(tensor: Tensor, units: Layout, group: str) -> Float[Tensor, "*parents n entries"]:
    return torch.cat(list(rows(tensor, list(enumerate(units)), group, None)), dim=-1)


def _is_compared(layout: Layout, tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point() and any(True for t in layout for _ in atoms(t))
