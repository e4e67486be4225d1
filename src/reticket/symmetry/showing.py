"""What symmetries and alignments look like: a few lines, a table in a notebook, a data frame, a chart."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from reticket.errors import InputError
from reticket.extras import axes_of, extra
from reticket.notebook import html_table, lines
from reticket.symmetry.network_map import mapped
from reticket.symmetry.network_svg import drawn
from reticket.symmetry.structure import Structure
from reticket.symmetry.terms import Term, atoms, describe

DRAWING = "Groups over the network"
GROUP_COLUMNS = ("group", "units", "depends on", "copies", "tensors")


def symmetry_lines(symmetry: Structure) -> str:
    """Return a symmetry in at most ten lines: how much moves, and the first groups."""
    groups = symmetry.groups
    many = f"{len(groups)} group{'s' if len(groups) != 1 else ''} of units"
    head = (
        f"Symmetry({len(symmetry.layouts)} tensors, {many}, 10^{symmetry.log10_order:.4g} permutations, "
        f"{100 * symmetry.movable:.3g} % of the weights move)"
    )
    rows = [
        f"{name}: {group.size} units" + (f" for each of {', '.join(group.parents)}" if group.parents else "")
        for name, group in groups.items()
    ]
    return lines(head, rows)


def symmetry_html(symmetry: Structure) -> str:
    """Return the groups of a symmetry as a small table, and below it the drawing of the network."""
    head = symmetry_lines(symmetry).partition("\n")[0]
    rows = [
        (name, group.size, ", ".join(group.parents), group.copies, len(group.tensors))
        for name, group in symmetry.groups.items()
    ]
    drawing = b64encode(drawn(mapped(symmetry), DRAWING).encode()).decode()  # as an image: no style of it gets out
    table = html_table(head, GROUP_COLUMNS, rows)
    return f'{table}<img alt="{DRAWING}" src="data:image/svg+xml;base64,{drawing}">'


def symmetry_frame(symmetry: Structure) -> Any:
    """Return every axis of every tensor as a row of a `pandas.DataFrame`."""
    pandas = extra("pandas", "Symmetry.to_frame")
    rows = [
        {
            "tensor": tensor,
            "axis": axis,
            "size": term.size,
            "term": describe(term),
            "groups": _groups(term),
            "reason": reason,
        }
        for tensor, layout in symmetry.layouts.items()
        for axis, (term, reason) in enumerate(zip(layout, symmetry.reasons[tensor], strict=True))
    ]
    return pandas.DataFrame(rows, columns=["tensor", "axis", "size", "term", "groups", "reason"])


@dataclass(frozen=True)
class GroupTable:
    """What is known of each group of units: `print` it for a table; in a notebook it is one by itself.

    Args:
        caption: above the table in a notebook.
        columns: heads.
        rows: one a group, a value a column; None is nothing known.

    >>> print(GroupTable("Sizes", ("group", "units", "correlation"), (("fc1", 8, 0.5), ("fc2", 16, None))))
    group  units  correlation
    fc1    8      0.500
    fc2    16
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __str__(self) -> str:
        rows = [self.columns, *(tuple(map(_text, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def _repr_html_(self) -> str:
        return html_table(self.caption, self.columns, [tuple(map(_text, row)) for row in self.rows])

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`, one row a group.

        Raises:
            InputError: when pandas is not installed.
        """
        pandas = extra("pandas", "GroupTable.to_frame")
        return pandas.DataFrame(list(self.rows), columns=list(self.columns))


def _columns(alignment: Any) -> tuple[str, ...]:
    return ("group", "units", "move", alignment.measure, "margin")


def alignment_report(alignment: Any) -> GroupTable:
    """Return for each group its units, how many of them move, and how well the matching says that they fit."""
    rows = []
    for name, size, moved, *_ in alignment_rows(alignment):
        quality = alignment.quality.get(name)
        known = (None, None) if quality is None else (quality.correlation, quality.margin)
        rows.append((name, size, moved, *known))
    return GroupTable(alignment_head(alignment), _columns(alignment), tuple(rows))


def alignment_rows(alignment: Any) -> list[tuple[str, int, int, str, str]]:
    """Return for each group its units, at every position of its parents, how many move, and how well they fit."""
    rows = []
    for name, permutation in alignment.permutations.items():
        index, quality = permutation.index, alignment.quality.get(name)
        here = index.new_tensor(range(index.shape[-1]))
        matched = ("", "") if quality is None else (f"{quality.correlation:.3f}", f"{quality.margin:.3f}")
        rows.append((name, index.numel(), int((index != here).sum()), *matched))
    return rows


def alignment_lines(alignment: Any) -> str:
    """Return an alignment in at most ten lines: how much moves, and how well the first groups were matched."""
    rows = alignment_rows(alignment)
    each = [
        f"{name}: {size} units, {moved} move{_matched(alignment.measure, r, m)}" for name, size, moved, r, m in rows
    ]
    return lines(alignment_head(alignment), each)


def alignment_head(alignment: Any) -> str:
    """Return in one line how much an alignment moves."""
    rows = alignment_rows(alignment)
    every = sum(permutation.index.numel() for permutation in alignment.permutations.values())
    groups = f"{len(rows)} group{'s' if len(rows) != 1 else ''}"
    return f"{type(alignment).__name__}({groups}, {sum(row[2] for row in rows)} of {every} units move)"


def _matched(measure: str, figure: str, margin: str) -> str:
    return f", {measure} {figure}, margin {margin}" if figure else ""


def alignment_html(alignment: Any) -> str:
    """Return the groups of an alignment as a small table."""
    return html_table(alignment_head(alignment), _columns(alignment), alignment_rows(alignment))


def plot_alignment(alignment: Any, axes: Any = None) -> Any:
    """Draw for each matched group how alike its units are, and what is left of that for the best other partner."""
    if not alignment.quality:
        raise InputError("this alignment was not found by matching, so that it has no quality to plot; see rt.match")
    axes = axes_of(axes, "Alignment.plot")
    names = list(alignment.quality)
    matched = [alignment.quality[name].correlation for name in names]
    others = [alignment.quality[name].correlation - alignment.quality[name].margin for name in names]
    axes.barh(names, matched, label="matched unit")
    axes.plot(others, names, "k|", markersize=12, label="best other unit")
    axes.invert_yaxis()
    axes.set_xlabel(f"mean {alignment.measure}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)  # above, where no bar is
    return axes


def _groups(term: Term) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(atom.key) for atom in atoms(term)))


def _text(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
