"""What discovery returns: the groups of axes that may be permuted together, as a value that can be saved and read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reticket.errors import SymmetryError
from reticket.files import WRITABLE, read_text, write_file
from reticket.symmetry.axes import Axes, axes_of, layouts_from_axes, sites_of
from reticket.symmetry.explain import explained
from reticket.symmetry.showing import symmetry_frame, symmetry_html, symmetry_lines
from reticket.symmetry.storage import fields_of, written
from reticket.symmetry.structure import Structure
from reticket.types import Rebuilt
from reticket.untrusted import one_line


@dataclass(frozen=True, repr=False)
class Symmetry(Rebuilt, Structure):
    """Which axes of which tensors of a model may be permuted together.

    Args:
        layouts: for every tensor of the state_dict the term of each axis; atoms carry the names of their groups.
        reasons: for every tensor and axis why a part of it may not move; empty where all of it may.
        sites: activations in which units of a group can be seen.
        inputs: layouts of the model's tensor inputs, all fixed unless freed.
        outputs: layouts of the model's tensor outputs, all fixed unless freed.
        pinned_by_verify: groups that a rule claimed and the proof refused; a non-empty list is a bug in a rule. What is
            refused at other sizes than the example's alone is pinned with that reason and not listed.
        notes: what the result is limited to, for instance operators without a rule.
        seconds: how long "tracing", "solving" and "proving" took; neither compared nor saved.

    Raises:
        SymmetryError: when layouts and reasons do not fit each other or an atom has two sizes.
    """

    def explain(self, name: str) -> str:
        """Say for each axis of a tensor its groups with all their members, or why it is pinned and what would free it.

        Args:
            name: name of a tensor in the state_dict, or of a group.

        Raises:
            SymmetryError: when there is no such tensor or group.
        """
        return explained(self, name)

    def __repr__(self) -> str:
        return symmetry_lines(self)

    def _repr_html_(self) -> str:
        return symmetry_html(self)

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each axis of each tensor: its term, its groups, why it is pinned.

        Raises:
            InputError: when pandas is not installed.
        """
        return symmetry_frame(self)

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
