"""A symmetry as a person reads it in a terminal, wide or narrow, and plainly where the output is piped."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from reticket.cli.inspection import Inspection, Pinned
from reticket.notebook import percent, shortened
from reticket.symmetry import Group
from reticket.symmetry.names import MOST_NUMBERS, shared_name

MOST_ROWS = 40  # above it groups that differ only in a block's number share a row
MOST_REASONS = 4  # of one kind
NARROWEST = 12
LONGEST_OWNERS = 60
GAP = "  "
INDENT = " " * 7


@dataclass(frozen=True)
class GroupRow:
    """Groups that share a row of the table: alike but for the numbers in their names.

    Args:
        groups: the groups; the first one is described.
        depth: 0 for an independent group, else the number of groups it stands under.
    """

    groups: tuple[Group, ...]
    depth: int


def describe(found: Inspection, console: Console) -> None:
    """Print the groups, what is pinned and why, and how long it took.

    Args:
        found: what was inspected.
        console: where to print; where it is no terminal, lines are as long as they need to be.
    """
    width = console.width if console.is_terminal else 10**6
    for line in wrapped(_summary(found), width, "", "  "):
        console.print(Text(line, style="bold"), soft_wrap=True)
    for line, style in (*_table(found, width), *_pinned_lines(found, width), *_closing(found, width)):
        console.print(Text(line, style=style), soft_wrap=True, highlight=False)


def _closing(found: Inspection, width: int) -> Iterator[tuple[str, str]]:
    yield "", ""
    for note in found.symmetry.notes:
        yield from ((line, "") for line in wrapped(f"note: {note}", width, "", "      "))
    if found.symmetry.pinned_by_verify:
        guilty = ", ".join(found.symmetry.pinned_by_verify)
        yield from (
            (line, "red") for line in wrapped(f"pinned by the proof, a bug in a rule: {guilty}", width, "", "  ")
        )
    steps = ", ".join(f"{name} {value:.1f} s" for name, value in found.seconds.items() if name != "all")
    yield f"found in {found.seconds['all']:.1f} s" + (f" ({steps})" if steps else ""), "dim"


def _summary(found: Inspection) -> str:
    sym = found.symmetry
    if not sym.groups:
        return f"{found.model}: no axis can be permuted, {found.numbers} numbers are pinned"
    return (
        f"{found.model}: {_count(len(sym.groups), 'group')}, 10^{sym.log10_order:.1f} permutations, "
        f"{percent(sym.movable)} of {found.numbers} numbers can move"
    )


def _count(n: int, noun: str, plural: str = "") -> str:
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def _table(found: Inspection, width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of the table of groups with their styles."""
    rows = collapsed(_nested(found)) if len(found.symmetry.groups) > MOST_ROWS else _nested(found)
    if not rows:
        return
    cells = [("group", "units", "copies", "over", "members", "sites", "stands in")]
    cells += [_cells(found, row) for row in rows]
    if all(row.groups[0].copies == 1 for row in rows):
        cells = [(*line[:2], *line[4:]) for line in cells]
    lines = fitted(cells, width)
    yield "", ""
    yield lines[0], "bold"
    for line in lines[1:]:
        yield line, ""
    if any(len(row.groups) > 1 for row in rows):
        key = "{a-b}: groups alike, one for each number; --json has them one by one"
        yield from ((line, "dim") for line in wrapped(key, width, "", "  "))


def _nested(found: Inspection) -> list[GroupRow]:
    """Return a row for each group, dependent groups under the first group that they depend on."""
    groups = found.symmetry.groups
    under: dict[str, list[Group]] = {}
    for group in groups.values():
        parent = next((name for name in group.parents if name in groups), "")
        under.setdefault(parent, []).append(group)
    rows: list[GroupRow] = []

    def nest(parent: str, depth: int) -> None:
        for group in under.get(parent, ()):
            rows.append(GroupRow((group,), depth))
            nest(group.name, depth + 1)

    nest("", 0)
    return rows


def collapsed(rows: Sequence[GroupRow]) -> list[GroupRow]:
    """Put groups of repeated blocks in one row: equal but for numbers in their names."""
    alike: dict[object, list[GroupRow]] = {}
    for row in rows:
        group = row.groups[0]
        members = tuple((re.sub(r"\d+", "#", m.tensor), m.axis, m.atom) for m in group.members)
        parents = tuple(re.sub(r"\d+", "#", name) for name in group.parents)
        alike.setdefault((row.depth, group.size, group.copies, parents, members), []).append(row)
    return [GroupRow(tuple(group for row in same for group in row.groups), same[0].depth) for same in alike.values()]


def _cells(found: Inspection, row: GroupRow) -> tuple[str, ...]:
    group = row.groups[0]
    name = shared_name([group.name for group in row.groups], MOST_NUMBERS)
    columns = zip(*(group.parents for group in row.groups), strict=True)
    parents = ", ".join(shared_name(names, MOST_NUMBERS) for names in columns)
    owners = ", ".join(dict.fromkeys(m.tensor.rpartition(".")[0] or m.tensor for m in group.members))
    sites = len(found.sites_of[group.name])
    label = "  " * (row.depth - 1) + ("└ " if row.depth else "") + name
    return (
        label,
        f"{group.size}",
        f"{group.copies}",
        parents,
        f"{len(group.members)}",
        f"{sites}",
        shortened(owners, LONGEST_OWNERS, end=True),
    )


def fitted(cells: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Return a table as lines of at most `width` characters: numbers to the right, long texts cut in their middle.

    The last text gives way first, then the one before it; a column that would be too narrow to read is left out.
    """
    columns = list(zip(*cells, strict=True))
    wide = [max(map(len, column)) for column in columns]
    number = [all(cell.isdigit() for cell in column[1:]) for column in columns]
    for i in reversed([i for i, is_number in enumerate(number) if not is_number]):
        excess = sum(w + len(GAP) for w in wide if w) - len(GAP) - width
        if excess > 0:
            kept = wide[i] - excess
            wide[i] = kept if kept >= NARROWEST or i == 0 else 0
    spare = width - sum(w + len(GAP) for w in wide if w) + len(GAP)
    wide[0] = min(wide[0] + max(spare, 0), max(map(len, columns[0])))
    lines = []
    for line in cells:
        padded = [
            cell.rjust(w) if is_number else shortened(cell, max(w, 1), end=i == len(wide) - 1).ljust(w)
            for i, (cell, w, is_number) in enumerate(zip(line, wide, number, strict=True))
            if w
        ]
        lines.append(GAP.join(padded).rstrip())
    return lines


def _pinned_lines(found: Inspection, width: int) -> Iterator[tuple[str, str]]:
    """Yield what is pinned, by kind of reason, each kind with what would free it."""
    pinned = found.pinned()
    if not pinned:
        return
    held = {(tensor, axis) for cause in pinned for tensor, axis, _, _ in cause.places}
    yield "", ""
    share = f"pinned, wholly or in part: {len(held)} of {_count(found.axes, 'axis', 'axes')} (--explain TENSOR: where)"
    yield from ((line, "bold") for line in wrapped(share, width, "", "  "))
    kinds: dict[str, list[Pinned]] = {}
    for cause in pinned:
        kinds.setdefault(cause.reason.kind.name, []).append(cause)
    for alike in kinds.values():
        for cause in alike[:MOST_REASONS]:
            yield from ((line, "") for line in wrapped(_reason(cause), width, f"{len(cause.places):>5}  ", INDENT))
        rest = sum(len(cause.places) for cause in alike[MOST_REASONS:])
        if rest:
            yield f"{rest:>5}  for {_count(len(alike) - MOST_REASONS, 'more reason')} of this kind", ""
        remedy = f"to free: {alike[0].reason.remedy}"
        yield from ((line, "dim") for line in wrapped(remedy, width, INDENT, INDENT + "  "))


def _reason(cause: Pinned) -> str:
    (tensor, axis, _, line), reason = cause.places[0], cause.reason
    operator = f", {reason.operator}" if reason.operator and reason.operator not in reason.text else ""
    first = f"{tensor}[{axis}]" + (f" at {line}" if line else "")
    return f"{reason.text}{operator} ({'' if len(cause.places) == 1 else 'as '}{first})"


def wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    """Return the text broken at spaces to at most `width` characters where its words allow it.

    >>> wrapped("one two three", 9, "- ", "  ")
    ['- one two', '  three']
    """
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
