"""What discovery returns: the groups of axes that may be permuted together, as a value that can be saved and read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from torch import Tensor, nn

from reticket.errors import SymmetryError
from reticket.files import WRITABLE, read_text, write_file
from reticket.symmetry.axes import Axes, axes_of, layouts_from_axes, sites_of
from reticket.symmetry.explain import explained
from reticket.symmetry.sites import Site
from reticket.symmetry.storage import fields_of, written
from reticket.symmetry.terms import Atom, Fixed, Layout, atoms, beside, fixed_positions, leaves, shape_of
from reticket.untrusted import one_line


@dataclass(frozen=True)
class Member:
    """One place where the units of a group stand.

    Args:
        tensor: name in the state_dict.
        axis: axis of that tensor.
        place: number of the atom among the leaves of the axis' term, from the left, from 0.
    """

    tensor: str
    axis: int
    place: int


@dataclass(frozen=True)
class Group:
    """Units that are permuted together, wherever they occur.

    Args:
        name: first member in the order of the state_dict, with `:k` for its k-th atom where k > 0.
        size: number of units n.
        over: names of the parents, groups or places, outermost first; empty for an independent group.
        copies: number of positions of the parents, each with a permutation of its own; 1 without parents.
        members: every place where the units stand.
    """

    name: str
    size: int
    over: tuple[str, ...]
    copies: int
    members: tuple[Member, ...]

    @property
    def log10_order(self) -> float:
        """log10 of the number of permutations: copies * log10(size!)."""
        return self.copies * math.lgamma(self.size + 1) / math.log(10)


@dataclass(frozen=True)
class Symmetry:
    """Which axes of which tensors of a model may be permuted together.

    Args:
        layouts: for every tensor of the state_dict the term of each axis; atoms carry the names of their groups.
        reasons: for every tensor and axis why a part of it may not move; empty where all of it may.
        sites: activations in which units of a group can be seen.
        inputs: layouts of the model's tensor inputs, all fixed unless freed.
        outputs: layouts of the model's tensor outputs, all fixed unless freed.
        pinned_by_verify: groups that a rule claimed and the proof refused; a non-empty list is a bug in a rule.
        notes: what the result is limited to, for instance operators without a rule.
        seconds: how long "tracing", "solving" and "proving" took; neither compared nor saved.

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
            for atom, parents in beside(layout):
                if missing := [str(key) for key in atom.over if key not in parents]:
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
                for place, atom in enumerate(atoms(term)):
                    name = str(atom.key)
                    found.setdefault(name, atom)
                    members.setdefault(name, []).append(Member(tensor, axis, place))
        groups = {}
        for name, atom in found.items():
            over = tuple(str(parent) for parent in atom.over)
            copies = math.prod(self.places[parent] if parent in self.places else found[parent].size for parent in over)
            groups[name] = Group(name, atom.size, over, copies, tuple(members[name]))
        return MappingProxyType(groups)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Number of positions of every place: a fixed axis with a permutation of its own for each position."""
        ends = (leaf for layout in self.layouts.values() for term in layout for leaf in leaves(term))
        return MappingProxyType({str(x.key): x.size for x in ends if isinstance(x, Fixed) and x.key is not None})

    def parent_sizes(self, group: Group) -> tuple[int, ...]:
        """Return the sizes of a group's parents, outermost first."""
        return tuple(self.places[name] if name in self.places else self.groups[name].size for name in group.over)

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

    def explain(self, name: str) -> str:
        """Say for each axis of a tensor its groups with all their members, or why it is pinned and what would free it.

        Args:
            name: name of a tensor in the state_dict, or of a group.

        Raises:
            SymmetryError: when there is no such tensor or group.
        """
        return explained(self, name)

    def to_json(self) -> str:
        """Return the symmetry as JSON: versioned, one tensor a line, so that two files can be compared line by line."""
        return written(self)

    @classmethod
    def from_json(cls, text: str, source: str = "the symmetry") -> "Symmetry":
        """Read what `to_json` wrote.

        Args:
            text: the JSON.
            source: what an error calls it.

        Raises:
            SymmetryError: when the text is not a symmetry that this package reads; names the place in it.
        """
        fields = fields_of(text, source)
        try:
            return cls(**fields)
        except SymmetryError as error:
            raise SymmetryError(f"{source}: {one_line(str(error))}") from error

    def save(self, path: str | Path) -> None:
        """Write the symmetry as JSON; the file is the old one or the new one at every moment.

        Raises:
            SymmetryError: when the file cannot be written; what was there stays as it was.
        """
        write_file(path, self.to_json(), error=SymmetryError, advice=WRITABLE, what="the symmetry ")

    @classmethod
    def load(cls, path: str | Path) -> "Symmetry":
        """Read a symmetry written by `save`.

        Raises:
            SymmetryError: when the file is missing or is no symmetry.
        """
        advice = "name a file that Symmetry.save wrote"
        text = read_text(path, error=SymmetryError, advice=advice, what="the symmetry ")
        return cls.from_json(text, str(path))

    @classmethod
    def from_axes(cls, axes: Axes, weights: nn.Module | Mapping[str, Tensor]) -> "Symmetry":
        """Read a specification in the form of git-re-basin: for each tensor a group's name or None for each axis.

        Nothing is proven: pass the result to `verify`. It has no sites: before matching by activations give it those of
        a discovered symmetry, `Symmetry.from_axes(axes, model).with_sites(discover(model, inputs))`.

        Args:
            axes: the specification; tensors that it does not list are fixed.
            weights: the model or its state_dict, for the shapes.

        Raises:
            SymmetryError: for an unknown tensor, a wrong number of axes, or a group with two sizes.

        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> sym = Symmetry.from_axes({"0.weight": ("P", None), "0.bias": ("P",), "2.weight": (None, "P")}, model)
        >>> sym.groups["P"].size, sym.to_axes()["2.weight"], sym.reasons["2.bias"]
        (8, (None, 'P'), ('not listed in the specification',))
        """
        layouts, reasons = layouts_from_axes(axes, weights)
        return cls(layouts, reasons)

    def to_axes(self) -> dict[str, tuple[str | None, ...]]:
        """Return the specification that `from_axes` reads.

        Raises:
            SymmetryError: when an axis moves by more than one group, which that form cannot hold.
        """
        return axes_of(self)

    def with_sites(self, found: "Symmetry") -> "Symmetry":
        """Return this symmetry with the sites, inputs and outputs of one that was discovered on the same model.

        Args:
            found: what `discover` returned; this symmetry's groups must be among its groups, or several of them as one.

        Raises:
            SymmetryError: when this symmetry claims what was not found.
        """
        sites, inputs, outputs = sites_of(found, self)
        return replace(self, sites=sites, inputs=inputs, outputs=outputs)
