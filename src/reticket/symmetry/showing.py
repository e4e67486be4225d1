"""What symmetries and alignments look like: a few lines, a table in a notebook, a data frame, a chart."""

from base64 import b64encode
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
        (name, group.size, ", ".join(group.parents), group.copies, len({member.tensor for member in group.members}))
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


def alignment_rows(alignment: Any) -> list[tuple[str, int, int, str, str]]:
    """Return for each group its units, how many of them move, and how well they were matched."""
    rows = []
    for name, permutation in alignment.permutations.items():
        index, quality = permutation.index, alignment.quality.get(name)
        here = index.new_tensor(range(index.shape[-1]))
        matched = ("", "") if quality is None else (f"{quality.correlation:.3f}", f"{quality.margin:.3f}")
        rows.append((name, permutation.size, int((index != here).sum()), *matched))
    return rows


def alignment_lines(alignment: Any) -> str:
    """Return an alignment in at most ten lines: how much moves, and how well the first groups were matched."""
    rows = alignment_rows(alignment)
    moved = sum(row[2] for row in rows)
    every = sum(permutation.index.numel() for permutation in alignment.permutations.values())
    head = f"{type(alignment).__name__}({len(rows)} groups, {moved} of {every} units move)"
    return lines(head, [f"{name}: {size} units, {moved} move{_matched(r, m)}" for name, size, moved, r, m in rows])


def _matched(correlation: str, margin: str) -> str:
    return f", correlation {correlation}, margin {margin}" if correlation else ""


def alignment_html(alignment: Any) -> str:
    """Return the groups of an alignment as a small table."""
    head = alignment_lines(alignment).partition("\n")[0]
    return html_table(head, ("group", "units", "move", "correlation", "margin"), alignment_rows(alignment))


def plot_alignment(alignment: Any, axes: Any = None) -> Any:
    """Draw for each matched group the correlation of its units, and what is left of it for the best other partner."""
    if not alignment.quality:
        raise InputError("this alignment was not found by matching, so that it has no quality to plot; see rt.match")
    axes = axes_of(axes, "Alignment.plot")
    names = list(alignment.quality)
    matched = [alignment.quality[name].correlation for name in names]
    others = [alignment.quality[name].correlation - alignment.quality[name].margin for name in names]
    axes.barh(names, matched, label="matched unit")
    axes.plot(others, names, "k|", markersize=12, label="best other unit")
    axes.invert_yaxis()
    axes.set_xlabel("mean correlation")
    axes.legend()
    return axes


def _groups(term: Term) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(atom.key) for atom in atoms(term)))
