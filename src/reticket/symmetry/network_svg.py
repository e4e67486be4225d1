"""A network map as one self-contained SVG that follows the reader's light or dark ground."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeAlias

from reticket.notebook import percent, shortened
from reticket.symmetry.explain import members_text
from reticket.symmetry.names import MOST_NUMBERS, shared_name
from reticket.symmetry.network_colours import colour_classes, role, style
from reticket.symmetry.network_map import DrawnRow, Lane, NetworkMap
from reticket.symmetry.terms import Atom, Fixed, Product, Sum, Term, atoms, describe, leaves

Chip: TypeAlias = Atom | Fixed | str
ROW, PITCH, TOP, LEFT = 21.0, 17.0, 62.0, 16.0
TEXT, SMALL = 12.0, 10.5
LABEL = 40  # characters
LEGEND_LIMIT = 48
KEYS = (((0,), "axis 0 of the weight"), ((1,), "a later axis"), ((0, 1), "both"), ((-1,), "a bias, scale or statistic"))
MOST_MEMBERS = 12  # in a tooltip
PARTS = 4  # of a sum, before it is cut


def drawn(network: NetworkMap, title: str) -> str:
    """Return the drawing.

    Args:
        network: rows and lanes.
        title: name of the model, shown above.
    """
    return _Drawing(network, title).text()


class _Drawing:
    def __init__(self, network: NetworkMap, title: str) -> None:
        self.map, self.symmetry, self.title = network, network.symmetry, title
        self.labels = [shortened(row.label, LABEL) for row in network.rows]
        names = [len(label) for label, row in zip(self.labels, network.rows, strict=True) if row.tensors]
        self.lanes_at = LEFT + max([*names, 12]) * TEXT * 0.56 + 22
        self.chips_at = self.lanes_at + network.columns * PITCH + 18
        self.colour = colour_classes(network)
        self.column = {lane.group: lane.column for lane in network.lanes}
        self.legend = self._alike()
        self.right = self.chips_at

    def text(self) -> str:
        """Return the SVG."""
        rows = [self._row(i, row) for i, row in enumerate(self.map.rows)]
        bottom = TOP + len(self.map.rows) * ROW
        lanes = [self._family(lane) for lane in self.map.lanes if lane.width > 1]
        lanes += [self._lane(lane) for lane in sorted(self.map.lanes, key=lambda lane: lane.first - lane.last)]
        width = max(self.right + LEFT, 660.0)
        legend, height = self._legend(bottom + 18, width)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
                f'height="{height:.0f}" role="img" font-family="system-ui, Helvetica, Arial, sans-serif" '
                f'font-size="{TEXT}">',
                f"<title>{escape(self.title)}: groups of axes that are permuted together</title>",
                f"<style>{style()}</style>",
                f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>',
                *self._heading(),
                *self._zebra(width),
                *lanes,
                *rows,
                *legend,
                "</svg>",
                "",
            ]
        )

    def _heading(self) -> Iterable[str]:
        sym = self.symmetry
        share = f"{percent(sym.movable)} of the weights can move"
        text = f"{len(sym.groups)} groups, 10^{sym.log10_order:.1f} permutations, {share}"
        yield f'<text class="ink" x="{LEFT}" y="24" font-size="16" font-weight="600">{escape(self.title)}</text>'
        yield f'<text class="soft" x="{LEFT}" y="41">{text}</text>'
        yield f'<text class="soft" x="{self.chips_at:.1f}" y="{TOP - 5}" font-size="{SMALL}">axes of the weight</text>'

    def _zebra(self, width: float) -> Iterable[str]:
        """Shade every second block, so that the eye keeps the row."""
        shade, before = False, None
        for i, row in enumerate(self.map.rows):
            number = next((k for k, part in enumerate(row.path) if part.isdigit()), 0)
            block = row.path[: number + 1]
            shade = shade if block == before else not shade
            before = block
            if shade:
                yield f'<rect class="zebra" x="0" y="{TOP + i * ROW}" width="{width:.0f}" height="{ROW}"/>'

    def _x(self, column: int) -> float:
        return self.lanes_at + (column + 0.5) * PITCH

    @staticmethod
    def _y(row: int) -> float:
        return TOP + (row + 0.5) * ROW

    def _family(self, lane: Lane) -> str:
        """A capsule around a group and the groups that depend on it."""
        x, y = self._x(lane.column) - PITCH / 2 + 1, self._y(lane.first) - 9
        height = (lane.last - lane.first) * ROW + 18
        return (
            f'<rect class="{self.colour[lane.group]} capsule" x="{x:.1f}" y="{y:.1f}" width="{lane.width * PITCH - 2}" '
            f'height="{height}" rx="7"><title>{escape(self._about(lane.group))}</title></rect>'
        )

    def _lane(self, lane: Lane) -> str:
        x, extra = self._x(lane.column), 4 if lane.first == lane.last else 0
        wide = 4.5 if lane.last - lane.first > len(self.map.rows) / 4 else 2.5
        top, bottom = self._y(lane.first) - extra, self._y(lane.last) + extra
        return (
            f'<path class="{self.colour[lane.group]} lane" d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke-width="{wide}">'
            f"<title>{escape(self._about(lane.group))}</title></path>"
        )

    def _about(self, name: str) -> str:
        group = self.symmetry.groups[name]
        over = (
            f", one order for each of {group.copies} positions of {' and '.join(group.parents)}"
            if group.parents
            else ""
        )
        members = members_text(self.symmetry, group.members)
        named = ", ".join(members[:MOST_MEMBERS])
        more = f" and {len(members) - MOST_MEMBERS} more" if len(members) > MOST_MEMBERS else ""
        return f"{name}: {group.size} units{over}\n{named}{more}"

    def _row(self, i: int, row: DrawnRow) -> str:
        y = self._y(i)
        if not row.tensors:
            more = f"{row.hidden} rows" if row.hidden > 1 else "1 row"
            self.right = max(self.right, self.chips_at + (len(row.label) + len(more) + 4) * SMALL * 0.53)
            return (
                f'<text class="soft" x="{LEFT}" y="{y + 4:.1f}">⋮</text>'
                f'<text class="soft" x="{self.chips_at:.1f}" y="{y + 4:.1f}" font-size="{SMALL}" font-style="italic">'
                f"{escape(row.label)} ({more})</text>"
            )
        before = self.map.rows[i - 1] if i else None
        return f"<g>{self._label(i, row, before)}{self._marks(i, row)}{self._chips(i, row)}</g>"

    def _label(self, i: int, row: DrawnRow, before: DrawnRow | None) -> str:
        full = "\n".join(self._tensor(tensor) for tensor in row.tensors)
        shared = 0
        for part, other in zip(row.path[:-1], before.path if before and before.tensors else (), strict=False):
            if part != other:
                break
            shared += len(part) + 1
        text = self.labels[i]
        cut = shared if text == row.label else 0
        head = f'<tspan class="soft">{escape(text[:cut])}</tspan>' if cut else ""
        return (
            f'<text class="ink" x="{LEFT}" y="{self._y(i) + 4:.1f}">{head}{escape(text[cut:])}'
            f"<title>{escape(full)}</title></text>"
        )

    def _tensor(self, tensor: str) -> str:
        return f"{tensor}: " + " | ".join(describe(term) for term in self.symmetry.layouts[tensor])

    def _marks(self, i: int, row: DrawnRow) -> str:
        """A disc where axis 0 of the weight stands on a lane, a ring for a later axis, a small disc for vectors."""
        axes_of: dict[str, set[int]] = {}
        for tensor in row.tensors:
            layout = self.symmetry.layouts[tensor]
            for axis, term in enumerate(layout):
                for atom in atoms(term):
                    axes_of.setdefault(str(atom.key), set()).add(axis if len(layout) > 1 else -1)
        marks = []
        for group, axes in axes_of.items():
            if group in self.column:
                x, y = self._x(self.column[group]), self._y(i)
                marks.append(_mark(x, y, axes, self.colour[group], escape(f"{row.label}\n{self._about(group)}")))
        return "".join(marks)

    def _chips(self, i: int, row: DrawnRow) -> str:
        """The axes of the row's first tensor, each a box of its factors and parts in the colours of their groups."""
        tensor = row.tensors[0]
        x, parts = self.chips_at, []
        layout = self.symmetry.layouts[tensor]
        still: list[int] = []
        for axis, term in enumerate((*layout, None)):
            if term is not None and not any(True for _ in atoms(term)):
                still.append(axis)
                continue
            if still:
                reasons = "\n".join(f"axis {a}: {self.symmetry.reasons[tensor][a]}" for a in still)
                text = "×".join(str(layout[a].size) for a in still)
                parts.append(_plain(x, self._y(i), text, reasons))
                x += _width(text) + 12
                still = []
            if term is not None:
                chip, x = self._chip(x, self._y(i), term, f"axis {axis}: {describe(term)}")
                parts.append(chip)
        self.right = max(self.right, x)
        return "".join(parts)

    def _chip(self, x: float, y: float, term: Term, about: str) -> tuple[str, float]:
        boxes = [f"<g><title>{escape(about)}</title>"]
        for sign, leaf in segments(term):
            if sign:
                boxes.append(f'<text class="soft" x="{x + 2:.1f}" y="{y + 4:.1f}" font-size="{SMALL}">{sign}</text>')
                x += _width(sign) + 6
            text = leaf if isinstance(leaf, str) else str(leaf.size)
            colour = self.colour.get(str(leaf.key), "still") if isinstance(leaf, Atom) else "still"
            wide = _width(text) + 8
            boxes.append(
                f'<rect class="{colour} chip" x="{x:.1f}" y="{y - 7:.1f}" width="{wide:.1f}" height="14" rx="3"/>'
                f'<text class="ink" x="{x + wide / 2:.1f}" y="{y + 4:.1f}" font-size="{SMALL}" text-anchor="middle">'
                f"{text}</text>"
            )
            x += wide
        return "".join([*boxes, "</g>"]), x + 9

    def _legend(self, y: float, width: float) -> tuple[list[str], float]:
        lines = [f'<line class="rule" x1="{LEFT}" x2="{width - LEFT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>']
        y += 20
        x = float(LEFT)
        for axes, text in KEYS:
            lines.append(_mark(x + 6, y - 4, set(axes), "g0", text))
            lines.append(f'<text class="soft" x="{x + 16:.1f}" y="{y:.1f}" font-size="{SMALL}">{text}</text>')
            x += _width(text) + 34
        lines.append(f'<text class="soft" x="{x:.1f}" y="{y:.1f}" font-size="{SMALL}">grey: pinned</text>')
        for sentence in self._sentences():
            y += 17
            lines.append(f'<text class="soft" x="{LEFT}" y="{y:.1f}" font-size="{SMALL}">{escape(sentence)}</text>')
        y += 22
        entries, y = self._entries(y, width)
        return lines + entries, y + 14

    def _sentences(self) -> Iterable[str]:
        if any(lane.width > 1 for lane in self.map.lanes):
            yield "A tinted column holds a group and the groups that depend on it: one order for each of its units."
        if self.map.left_out:
            yield f"{len(self.map.left_out)} groups have no lane, for want of room; their axes are coloured."
        if len(self.legend) > LEGEND_LIMIT:
            yield f"The list leaves out {len(self.legend) - LEGEND_LIMIT} rows; reticket inspect --json has all groups."

    def _alike(self) -> list[list[str]]:
        """Return the groups drawn, and those in folded blocks that are like them, by role, colour and size."""
        roles = {group.name: (role(group.name), group.size, group.copies) for group in self.symmetry.groups.values()}
        colours: dict[tuple[str, int, int], dict[str, None]] = {}
        for name, colour in self.colour.items():
            colours.setdefault(roles[name], {})[colour] = None
        shared: dict[tuple[str, tuple[str, int, int]], list[str]] = {}
        for name, like in roles.items():
            only = list(colours.get(like, ()))
            colour = self.colour.get(name, only[0] if len(only) == 1 else "")
            if colour:
                shared.setdefault((colour, like), []).append(name)
        return list(shared.values())

    def _entries(self, y: float, width: float) -> tuple[list[str], float]:
        """Name the colours; groups alike in every block share one."""
        rows = self.legend[:LEGEND_LIMIT]
        texts = [self._entry(names) for names in rows]
        wide = max((_width(" ".join(pair)) for pair in texts), default=100) + 40
        columns = max(1, int((width - 2 * LEFT) // wide))
        each = -(-len(rows) // columns)
        lines = []
        for k, (names, (label, size)) in enumerate(zip(rows, texts, strict=True)):
            x, line = LEFT + (k // each) * wide, y + (k % each) * 17
            about = escape("\n\n".join(self._about(name) for name in names[:4]))
            lines.append(
                f'<g><title>{about}</title><rect class="{self.colour[names[0]]} swatch" x="{x:.1f}" '
                f'y="{line - 8:.1f}" width="12" height="8" rx="2"/><text class="ink" x="{x + 18:.1f}" y="{line:.1f}" '
                f'font-size="{SMALL}">{escape(label)} <tspan class="soft">{escape(size)}</tspan></text></g>'
            )
        return lines, y + max(each - 1, 0) * 17

    def _entry(self, names: Sequence[str]) -> tuple[str, str]:
        group = self.symmetry.groups[names[0]]
        size = f"{group.size} units" + (f" for each of {group.copies}" if group.copies > 1 else "")
        return shortened(shared_name(names, MOST_NUMBERS), LABEL), size + (
            f" · {len(names)} groups" if len(names) > 1 else ""
        )


def segments(term: Term) -> list[tuple[str, Chip]]:
    """Return the leaves of a term to be drawn side by side, each with the sign before it; long sums are cut."""
    if isinstance(term, Sum):
        parts = [segments(part) for part in term.parts]
        kept = parts if len(parts) <= PARTS else parts[: PARTS - 1]
        found = _joined(kept, "+")
        return found if kept is parts else [*found, ("+", f"{len(parts) - len(kept)} more")]
    if isinstance(term, Product):
        return _joined([segments(factor) for factor in term.factors], "×")
    leaf = next(leaves(term))
    return [("", leaf if isinstance(leaf, Atom | Fixed) else Fixed(leaf.size))]


def _joined(pieces: Sequence[list[tuple[str, Chip]]], sign: str) -> list[tuple[str, Chip]]:
    """Put pieces one after the other, with the sign between them."""
    return [
        (sign if k and not j else joint, leaf)
        for k, piece in enumerate(pieces)
        for j, (joint, leaf) in enumerate(piece)
    ]


def _mark(x: float, y: float, axes: set[int], colour: str, about: str) -> str:
    title = f"<title>{about}</title>"
    if axes == {-1}:
        return f'<circle class="{colour} disc" cx="{x:.1f}" cy="{y:.1f}" r="2.6">{title}</circle>'
    if 0 not in axes:
        return f'<circle class="{colour} ring" cx="{x:.1f}" cy="{y:.1f}" r="4.2">{title}</circle>'
    disc = f'<circle class="{colour} disc" cx="{x:.1f}" cy="{y:.1f}" r="5">{title}</circle>'
    return disc + (f'<circle class="hole" cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>' if max(axes) > 0 else "")


def _plain(x: float, y: float, text: str, about: str) -> str:
    title = f"<title>{escape(about)}</title>"
    return f'<text class="soft" x="{x:.1f}" y="{y + 4:.1f}" font-size="{SMALL}">{text}{title}</text>'


def _width(text: str) -> float:
    return len(text) * SMALL * 0.57
