"""What discovery returns: the groups of axes that may be permuted together, as a value that can be saved and read."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from reticket.errors import SymmetryError
from reticket.symmetry.format import layout_from_json, layout_to_json
from reticket.symmetry.sites import Site
from reticket.symmetry.terms import Atom, Layout, Product, Sum, Term, atoms, describe, shape_of

FORMAT = 1


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
        over: names of the parent groups; empty for an independent group.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "layouts", MappingProxyType(dict(self.layouts)))
        object.__setattr__(self, "reasons", MappingProxyType(dict(self.reasons)))
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
            copies = math.prod(found[parent].size for parent in over)
            groups[name] = Group(name, atom.size, over, copies, tuple(members[name]))
        return MappingProxyType(groups)

    @property
    def log10_order(self) -> float:
        """The freedom found: log10 of the order of the group, sum over groups of copies * log10(size!)."""
        return math.fsum(group.log10_order for group in self.groups.values())

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the state_dict."""
        return shape_of(self.layouts[tensor])

    def explain(self, name: str) -> str:
        """Say for each axis of a tensor which groups it belongs to, or why it is pinned, and what would free it.

        Args:
            name: name of a tensor in the state_dict, or of a group (then of its first member).

        Raises:
            SymmetryError: when there is no such tensor.
        """
        tensor = name if name in self.layouts else name.rpartition(":")[0]
        if tensor not in self.layouts:
            known = ", ".join(list(self.layouts)[:5])
            raise SymmetryError(f"no tensor '{name}' in this symmetry; it has {known}, ...")
        lines = [f"{tensor} {self.shape(tensor)}"]
        if not self.layouts[tensor]:
            lines.append("  a scalar: nothing to permute")
        for axis, (term, reason) in enumerate(zip(self.layouts[tensor], self.reasons[tensor], strict=True)):
            lines.append(f"  axis {axis}: {_moves(term)}" + (f"; {reason}" if reason else ""))
            for group in dict.fromkeys(str(atom.key) for atom in atoms(term)):
                others = [
                    f"{m.tensor}[{m.axis}]" for m in self.groups[group].members if (m.tensor, m.axis) != (tensor, axis)
                ]
                lines.append(f"    with {', '.join(others) if others else 'nothing else'}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the symmetry as JSON: versioned, one tensor a line, so that two files can be compared line by line."""
        head = {
            "format": "reticket-symmetry",
            "version": FORMAT,
            "log10_order": round(self.log10_order, 6),
            "pinned_by_verify": list(self.pinned_by_verify),
            "notes": list(self.notes),
        }
        body = {
            "inputs": {str(i): layout_to_json(layout) for i, layout in enumerate(self.inputs)},
            "outputs": {str(i): layout_to_json(layout) for i, layout in enumerate(self.outputs)},
            "groups": {g.name: {"size": g.size, "over": list(g.over)} for g in self.groups.values()},
            "layouts": {name: layout_to_json(layout) for name, layout in self.layouts.items()},
            "reasons": {name: list(reasons) for name, reasons in self.reasons.items()},
            "sites": {site.name: site.to_json() for site in self.sites},
        }
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        for key, table in body.items():
            rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in table.items())
            lines.append(f"  {json.dumps(key)}: {{\n{rows}\n  }}" if rows else f"  {json.dumps(key)}: {{}}")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> "Symmetry":
        """Read what `to_json` wrote.

        Raises:
            SymmetryError: when the text is not a symmetry of a version that this package reads.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SymmetryError(f"the symmetry is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != "reticket-symmetry":
            raise SymmetryError("the file is not a symmetry: expected a JSON object with format 'reticket-symmetry'")
        if data.get("version") != FORMAT:
            raise SymmetryError(
                f"symmetry format {data.get('version')!r} is not readable here, expected version {FORMAT}"
            )
        try:
            groups = {name: (int(g["size"]), tuple(map(str, g["over"]))) for name, g in data["groups"].items()}
            return cls(
                layouts={name: layout_from_json(layout, groups) for name, layout in data["layouts"].items()},
                reasons={name: tuple(map(str, reasons)) for name, reasons in data["reasons"].items()},
                sites=tuple(Site.from_json(name, site, groups) for name, site in data["sites"].items()),
                inputs=tuple(layout_from_json(layout, groups) for layout in data["inputs"].values()),
                outputs=tuple(layout_from_json(layout, groups) for layout in data["outputs"].values()),
                pinned_by_verify=tuple(data["pinned_by_verify"]),
                notes=tuple(data["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SymmetryError(f"the symmetry file is damaged: {type(error).__name__} {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the symmetry as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Symmetry":
        """Read a symmetry written by `save`.

        Raises:
            SymmetryError: when the file is missing or is no symmetry.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SymmetryError(f"cannot read the symmetry '{path}': {error}") from error
        return cls.from_json(text)


def _moves(term: Term) -> str:
    if not any(True for _ in atoms(term)):
        return f"fixed ({term.size})"
    return f"moves by {describe(term)}" if isinstance(term, Product | Sum) else f"moves by group {describe(term)}"
