"""Where the groups of a symmetry stand in a network: rows of tensors in order, and a lane for each group along them.

Lanes that depend on a group (channels within a head) are kept beside its lane. Repeated blocks are folded when there
are many rows, and what is left out is said in a row of its own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from reticket.symmetry.structure import Structure
from reticket.symmetry.terms import atoms

MOST_ROWS = 48  # above it repeated blocks are folded
ROW_LIMIT = 110  # above it the middle of the network is left out
COLUMN_LIMIT = 18
KEPT_AT_THE_END = 20


@dataclass(frozen=True)
class DrawnRow:
    """One line of the drawing: a tensor of two or more axes with its vectors, or the vectors of one module.

    Args:
        label: module or tensor path; for a fold the sentence that says what is left out.
        path: the parts of the module's or tensor's path; for a fold that of the first block left out.
        tensors: names of its tensors, the one with most axes first; empty for a fold.
        hidden: number of rows that a fold stands for.
        groups: groups that the folded rows touch.
    """

    label: str
    path: tuple[str, ...]
    tensors: tuple[str, ...] = ()
    hidden: int = 0
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lane:
    """One group's line along the rows.

    Args:
        group: name of the group.
        column: place from the left.
        first: first row where the group stands.
        last: last row.
        family: the outermost group that it depends on, or itself.
        width: for the outermost group of a family, the number of columns that the family takes.
    """

    group: str
    column: int
    first: int
    last: int
    family: str
    width: int = 1


@dataclass(frozen=True)
class NetworkMap:
    """What is drawn.

    Args:
        symmetry: the symmetry.
        rows: lines from the first tensor to the last.
        lanes: lanes of the groups that have one.
        columns: number of columns that the lanes take.
        left_out: groups without a lane, for want of room.
    """

    symmetry: Structure
    rows: tuple[DrawnRow, ...]
    lanes: tuple[Lane, ...]
    columns: int
    left_out: tuple[str, ...] = field(default=())


def mapped(symmetry: Structure) -> NetworkMap:
    """Lay out a symmetry: rows folded to a readable number, lanes packed from the left, the longest first."""
    rows = _rows(symmetry)
    if len(rows) > MOST_ROWS:
        rows = _shortened(symmetry, _folded(symmetry, rows))
    return _with_lanes(symmetry, rows)


def groups_of(symmetry: Structure, tensors: Sequence[str]) -> Iterator[str]:
    """Yield the groups of some tensors, axis by axis, with repetitions."""
    for tensor in tensors:
        for term in symmetry.layouts[tensor]:
            yield from (str(atom.key) for atom in atoms(term))


def _rows(symmetry: Structure) -> list[DrawnRow]:
    """Return one row for each tensor of two or more axes; vectors join the row of their module or make one."""
    owners: dict[str, list[str]] = {}
    for name, layout in symmetry.layouts.items():
        if layout:
            owners.setdefault(name.rpartition(".")[0], []).append(name)
    rows = []
    for owner, names in owners.items():
        large = [name for name in names if len(symmetry.layouts[name]) > 1] or names[:1]
        with_large: dict[str, list[str]] = {name: [name] for name in large}
        for name in names:
            if name not in with_large:
                twin = name.replace("bias", "weight")
                with_large[twin if twin in with_large else large[0]].append(name)
        for main, biases in with_large.items():
            label = owner if len(large) == 1 and owner else main
            rows.append(DrawnRow(label, tuple(label.split(".")), tuple(biases)))
    return rows


def _folded(symmetry: Structure, rows: list[DrawnRow]) -> list[DrawnRow]:
    """Fold runs of three or more equal blocks, the innermost first: the first and the last stay."""
    for depth in range(max(len(row.path) for row in rows), -1, -1):
        rows = _folded_at(symmetry, rows, depth)
    return rows


def _folded_at(symmetry: Structure, rows: list[DrawnRow], depth: int) -> list[DrawnRow]:
    """Fold equal neighbours among the blocks whose number stands at `depth` in their paths."""
    spans = _spans(symmetry, rows)
    result: list[DrawnRow] = []
    run: list[list[DrawnRow]] = []

    def block(row: DrawnRow) -> tuple[str, ...]:
        return row.path[: depth + 1] if len(row.path) > depth and row.path[depth].isdigit() else ()

    for path, group in groupby(rows, block):
        rows_here = list(group)
        shape = _shape(symmetry, rows_here, spans) if path else None
        if run and not (path and path[:-1] == block(run[0][0])[:-1] and shape == _shape(symmetry, run[0], spans)):
            result += _fold(symmetry, run, depth)
            run = []
        if path:
            run.append(rows_here)
        else:
            result += rows_here
    return result + _fold(symmetry, run, depth)


def _spans(symmetry: Structure, rows: Sequence[DrawnRow]) -> Mapping[str, tuple[int, int]]:
    """Return the first and the last row of every group."""
    found: dict[str, tuple[int, int]] = {}
    for i, row in enumerate(rows):
        for group in (*groups_of(symmetry, row.tensors), *row.groups):
            found[group] = (found[group][0] if group in found else i, i)
    return found


def _shape(symmetry: Structure, rows: Sequence[DrawnRow], spans: Mapping[str, tuple[int, int]]) -> object:
    """Return what two blocks must share to be called equal: tensors, sizes, and which groups stand where."""
    inside = _spans(symmetry, rows)
    size = {group: spans[group][1] - spans[group][0] for group in inside}
    names: dict[str, str] = {}
    for group, (first, last) in inside.items():
        names[group] = f"#{len(names)}" if size[group] == last - first else group
    return [
        (
            [re.sub(r"\d+", "#", text) for text in row.tensors or (row.label,)],
            [symmetry.shape(tensor) for tensor in row.tensors],
            [names[group] for group in groups_of(symmetry, row.tensors)],
        )
        for row in rows
    ]


def _fold(symmetry: Structure, run: Sequence[list[DrawnRow]], depth: int) -> list[DrawnRow]:
    if len(run) < 3:
        return [row for block in run for row in block]
    names = [".".join(block[0].path[: depth + 1]) for block in run]
    which = names[1] if len(run) == 3 else f"{names[1]} to {names[-2]}"
    middle = [row for block in run[1:-1] for row in block]
    return [*run[0], _left_out(symmetry, middle, f"{which}: like {names[0]}", run[1][0].path[: depth + 1]), *run[-1]]


def _left_out(symmetry: Structure, rows: Sequence[DrawnRow], label: str, path: tuple[str, ...]) -> DrawnRow:
    touched = frozenset(group for row in rows for group in (*groups_of(symmetry, row.tensors), *row.groups))
    return DrawnRow(label, path, (), sum(max(row.hidden, 1) for row in rows), touched)


def _shortened(symmetry: Structure, rows: list[DrawnRow]) -> list[DrawnRow]:
    """Leave out the middle of what is still too long."""
    if len(rows) <= ROW_LIMIT:
        return rows
    head, tail = rows[: ROW_LIMIT - KEPT_AT_THE_END], rows[-KEPT_AT_THE_END:]
    middle = rows[len(head) : -KEPT_AT_THE_END]
    names = [row.label for row in middle if row.tensors]
    return [*head, _left_out(symmetry, middle, f"{names[0]} to {names[-1]}: see --json", ()), *tail]


def _with_lanes(symmetry: Structure, rows: Sequence[DrawnRow]) -> NetworkMap:
    drawn = [group for row in rows for group in groups_of(symmetry, row.tensors)]
    spans = {group: span for group, span in _spans(symmetry, rows).items() if group in set(drawn)}
    families: dict[str, list[str]] = {}
    for group in spans:
        families.setdefault(_root(symmetry, group, spans), []).append(group)
    spans_in: dict[int, list[tuple[int, int]]] = {}
    lanes: list[Lane] = []
    left_out: list[str] = []

    def length(root: str) -> tuple[int, int]:
        first, last = _union([spans[group] for group in families[root]])
        return first - last, first

    for root in sorted(families, key=length):
        span = _union([spans[group] for group in families[root]])
        inner = _packed(root, families[root], spans)
        width = max(inner.values()) + 1
        start = 0
        while any(_meets(span, other) for c in range(start, start + width) for other in spans_in.get(c, ())):
            start += 1
        if start + width > COLUMN_LIMIT:
            left_out += families[root]
            continue
        for column in range(start, start + width):
            spans_in.setdefault(column, []).append(span)
        for group, column in inner.items():
            first, last = span if group == root else spans[group]
            lanes.append(Lane(group, start + column, first, last, root, width if group == root else 1))
    return NetworkMap(symmetry, tuple(rows), tuple(lanes), max(spans_in, default=-1) + 1, tuple(left_out))


def _root(symmetry: Structure, group: str, known: Mapping[str, object]) -> str:
    while parent := next((name for name in symmetry.groups[group].parents if name in known), ""):
        group = parent
    return group


def _union(spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return min(first for first, _ in spans), max(last for _, last in spans)


def _meets(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _packed(root: str, groups: Sequence[str], spans: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Give the root column 0 and the groups that depend on it the first free columns after it."""
    columns: dict[str, int] = {root: 0}
    for group in groups:
        column = 1
        while group != root and any(
            c == column and other != root and _meets(spans[group], spans[other]) for other, c in columns.items()
        ):
            column += 1
        columns.setdefault(group, column)
    return columns
