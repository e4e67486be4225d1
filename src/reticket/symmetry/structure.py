"""What a symmetry is made of: the layouts of a model's tensors, and the groups of units that follow from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from reticket.errors import SymmetryError
from reticket.symmetry.sites import Site
from reticket.symmetry.terms import Atom, Fixed, Layout, atoms, co_occurring, fixed_positions, leaves, shape_of


@dataclass(frozen=True)
class Member:
    """One place where the units of a group stand.

    Args:
        tensor: name in the state_dict.
        axis: axis of that tensor.
        atom: number of the atom among those of the axis' term, from the left, from 0.
    """

    tensor: str
    axis: int
    atom: int


@dataclass(frozen=True)
class Group:
    """Units that are permuted together, wherever they occur.

    Args:
        name: first member in the order of the state_dict, with `:k` for its k-th atom where k > 0.
        size: number of units n.
        parents: names of groups and fixed parents, outermost first; empty for an independent group.
        copies: number of positions of the parents, each with a permutation of its own; 1 without parents.
        members: every place where the units stand.
    """

    name: str
    size: int
    parents: tuple[str, ...]
    copies: int
    members: tuple[Member, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors where the units stand, each once."""
        return tuple(dict.fromkeys(member.tensor for member in self.members))

    @property
    def log10_order(self) -> float:
        """log10 of the number of permutations: copies * log10(size!)."""
        return self.copies * math.lgamma(self.size + 1) / math.log(10)


@dataclass(frozen=True)
class Structure:
    """The fields of a `Symmetry`, which says what they are, and what follows from them; reads and writes no form of it.

    Raises:
        SymmetryError: when layouts and reasons do not fit each other or an atom has two sizes.
    """

    layouts: Mapping[str, Layout]
    reasons: Mapping[str, tuple[str, ...]] = field(repr=False)
    sites: tuple[Site, ...] = field(default=(), repr=False)
    inputs: tuple[Layout, ...] = field(default=(), repr=False)
    outputs: tuple[Layout, ...] = field(default=(), repr=False)
    pinned_by_verify: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layouts", MappingProxyType(dict(self.layouts)))
        object.__setattr__(self, "reasons", MappingProxyType(dict(self.reasons)))
        object.__setattr__(self, "seconds", MappingProxyType(dict(self.seconds)))
        sizes: dict[str, int] = {}
        for name, layout in self.layouts.items():
            if len(self.reasons.get(name, ())) != len(layout):
                raise SymmetryError(
                    f"tensor '{name}' has {len(layout)} axes and {len(self.reasons.get(name, ()))} reasons, "
                    f"expected one each"
                )
            for atom in (atom for term in layout for atom in atoms(term)):
                if sizes.setdefault(str(atom.key), atom.size) != atom.size:
                    raise SymmetryError(
                        f"group '{atom.key}' has {sizes[str(atom.key)]} units elsewhere and {atom.size} in '{name}'"
                    )
            for atom, keys in co_occurring(layout):
                if missing := [str(key) for key in atom.parents if key not in keys]:
                    raise SymmetryError(
                        f"group '{atom.key}' depends on '{missing[0]}', which does not stand beside it exactly once "
                        f"in '{name}'"
                    )

    @cached_property
    def groups(self) -> Mapping[str, Group]:
        """Every group by name, in the order in which they first occur in the state_dict."""
        members: dict[str, list[Member]] = {}
        found: dict[str, Atom] = {}
        for tensor, layout in self.layouts.items():
            for axis, term in enumerate(layout):
                for number, atom in enumerate(atoms(term)):
                    name = str(atom.key)
                    found.setdefault(name, atom)
                    members.setdefault(name, []).append(Member(tensor, axis, number))
        groups = {}
        for name, atom in found.items():
            parents = tuple(str(parent) for parent in atom.parents)
            sizes = (self.fixed_parents[key] if key in self.fixed_parents else found[key].size for key in parents)
            groups[name] = Group(name, atom.size, parents, math.prod(sizes), tuple(members[name]))
        return MappingProxyType(groups)

    @cached_property
    def fixed_parents(self) -> Mapping[str, int]:
        """Number of positions of every fixed parent: an unmoved axis with a permutation for each of its positions."""
        ends = (leaf for layout in self.layouts.values() for term in layout for leaf in leaves(term))
        return MappingProxyType({str(x.key): x.size for x in ends if isinstance(x, Fixed) and x.key is not None})

    def parent_sizes(self, group: Group) -> tuple[int, ...]:
        """Return the sizes of a group's parents, outermost first."""
        return tuple(
            self.fixed_parents[name] if name in self.fixed_parents else self.groups[name].size for name in group.parents
        )

    @property
    def log10_order(self) -> float:
        """The freedom found: log10 of the order of the group, sum over groups of copies * log10(size!)."""
        return math.fsum(group.log10_order for group in self.groups.values())

    @property
    def movable(self) -> float:
        """Share of the numbers in the state_dict that some permutation moves, in [0, 1]; scalars are not counted."""
        layouts = [layout for layout in self.layouts.values() if layout]
        total = sum(math.prod(shape_of(layout)) for layout in layouts)
        still = sum(math.prod(fixed_positions(term) for term in layout) for layout in layouts)
        return 1 - still / total if total else 0.0

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the state_dict."""
        return shape_of(self.layouts[tensor])
