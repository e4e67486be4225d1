"""The two charts the report is made of: lines with bands, and dots with whiskers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from reticket.figures.looks import GRID, INK, Look, label
from reticket.figures.marks import Mark, belongs, tell
from reticket.figures.spec import SIZE, Axes
from reticket.figures.text import number, percent, plus_minus, shortened
from reticket.records import Stat

LABEL_GAP = SIZE * 1.12
LABEL_LENGTH = 19
MOST_LABELS = 15
OPACITY = {"key": 0.16, "variant": 0.1, "reference": 0.06, "control": 0.06}
ORDER = {"key": 4.0, "variant": 3.0, "reference": 2.5, "control": 2.0}
MARKER_SIZE = {"key": 5.0, "variant": 4.2, "reference": 3.6, "control": 3.4}


@dataclass(frozen=True)
class Series:
    """A named line: places on the horizontal axis and what was measured there.

    `published` are (place, value) of the same method elsewhere, drawn as faint open marks; `places` say in words where
    each point stands; `digits` are the decimals of a value.
    """

    look: Look
    x: tuple[float, ...]
    stats: tuple[Stat, ...]
    published: tuple[tuple[float, float], ...] = ()
    places: tuple[str, ...] = ()
    digits: int = 1

    def marks(self, floor: float) -> list[Mark]:
        """Return what the points say; what lies under the axis stands on it."""
        where = self.places or ("",) * len(self.x)
        return [
            Mark(x, max(stat.mean, floor), _says(self.look.label, place, stat, self.digits), self.look.name)
            for x, place, stat in zip(self.x, where, self.stats, strict=True)
            if stat.mean is not None
        ]

    @property
    def last(self) -> float:
        """The line's end, which a label points to."""
        return self.stats[-1].mean or 0.0


def bounds(series: Sequence[Series], roles: Sequence[str] = ("key", "variant", "reference")) -> tuple[float, float]:
    """Return the vertical range: all lines, or those of `roles` where the rest would flatten them."""
    everything = _range(series)
    chosen = [one for one in series if one.look.role in roles]
    kept = _range(chosen) if chosen else everything
    low, high = everything if everything[1] - everything[0] <= 2.2 * (kept[1] - kept[0]) else kept
    theirs = [value for one in series for _, value in one.published]
    if theirs and max(high, *theirs) - min(low, *theirs) <= 2.2 * (high - low):
        low, high = min(low, *theirs), max(high, *theirs)
    pad = 0.06 * (high - low) or 0.5
    return low - pad, high + pad


def _says(name: str, place: str, stat: Stat, digits: int) -> str:
    """Return what a point says: whose, where, mean and spread, from how many seeds."""
    return f"{name}{f', {place}' if place else ''}: {plus_minus(stat, digits)} (n = {stat.n})"


def _range(series: Sequence[Series]) -> tuple[float, float]:
    ends = [
        stat.mean + sign * (stat.sd or 0.0)
        for one in series
        for stat in one.stats
        if stat.mean is not None
        for sign in (-1, 1)
    ]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def few_ticks(axis: Any, most: int) -> None:
    """Put at most so many intervals on an axis of matplotlib's, with ends at 1, 2 or 5 times a power of ten."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, steps=(1, 2, 5, 10)))


def lines(axes: Axes, series: Sequence[Series], limits: tuple[float, float], end: float) -> None:
    """Draw each series with its band of one sd, and the names where the lines end, at `end`, while all names fit."""
    axes.set_ylim(*limits)
    few_ticks(axes.yaxis, 8)
    for one in reversed(series):
        _line(axes, one, limits)
    _end_labels(axes, labelled(series), limits, end)


def labelled(series: Sequence[Series]) -> list[Series]:
    """Return the series that are named in the chart; too many to name leave the key ones, and a legend."""
    if len(series) <= MOST_LABELS:
        return list(series)
    return [one for one in series if one.look.role == "key"]


def _line(axes: Axes, one: Series, limits: tuple[float, float]) -> None:
    look = one.look
    points = [(x, stat.mean, stat.sd or 0.0) for x, stat in zip(one.x, one.stats, strict=True) if stat.mean is not None]
    if not points:
        return
    x, mean, sd = (list(values) for values in zip(*points, strict=True))
    order = ORDER[look.role]
    if any(sd):
        low, high = ([m + sign * s for m, s in zip(mean, sd, strict=True)] for sign in (-1, 1))
        band = axes.fill_between(x, low, high, color=look.hex, alpha=OPACITY[look.role], linewidth=0, zorder=order - 2)
        belongs(look.name, band)
    line = axes.plot(
        x,
        mean,
        color=look.hex,
        linewidth=look.width,
        linestyle=(0, look.dash) if look.dash else "-",
        marker="" if look.name == "dense" else look.marker,
        markersize=MARKER_SIZE[look.role],
        markeredgewidth=0,
        zorder=order,
    )
    theirs = [place for place in one.published if limits[0] <= place[1] <= limits[1]]
    open_marks = axes.plot(
        [x for x, _ in theirs],
        [value for _, value in theirs],
        color=look.hex,
        linestyle="",
        marker=look.mark,
        markersize=MARKER_SIZE[look.role] + 2.2,
        markerfacecolor="none",
        markeredgewidth=1.0,
        alpha=0.55,
        zorder=order - 1,
    )
    belongs(look.name, *line, *open_marks)
    tell(axes, one.marks(limits[0]))
    below = [place for place, value in zip(x, mean, strict=True) if value < limits[0]]
    if below:  # what lies under the axis is marked, so that it is seen to be left out
        floor = [limits[0]] * len(below)
        cut = axes.plot(below, floor, "v", markersize=4, color=look.hex, clip_on=False, zorder=6, markeredgewidth=0)
        belongs(look.name, *cut)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near those wanted, at least `gap` apart and inside [low, high] while they fit.

    >>> spread([5.0, 5.0, 9.0], 1.0, 0.0, 10.0)
    [4.5, 5.5, 9.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    clusters: list[tuple[list[int], float]] = []
    for index in order:
        members, centre = [index], min(max(wanted[index], low), high)
        while clusters and centre - clusters[-1][1] < gap * (len(members) + len(clusters[-1][0])) / 2:
            members = clusters.pop()[0] + members
            centre = sum(min(max(wanted[member], low), high) for member in members) / len(members)
            half = gap * (len(members) - 1) / 2
            centre = min(max(centre, low + half), max(high - half, low + half))
        clusters.append((members, centre))
    places = [0.0] * len(wanted)
    for members, centre in clusters:
        for rank, member in enumerate(members):
            places[member] = centre + gap * (rank - (len(members) - 1) / 2)
    return places


def _label(one: Series, limits: tuple[float, float]) -> str:
    """Return a line's name, with the value where the line ends under the axis."""
    name = shortened(one.look.label, LABEL_LENGTH)
    return name if one.last >= limits[0] else f"{name} ({number(one.last, one.digits)})"


def _end_labels(axes: Axes, series: Sequence[Series], limits: tuple[float, float], end: float) -> None:
    low, high = limits
    figure = axes.get_figure(root=True)
    height = axes.get_position().height * (figure.get_figheight() * 72 if figure else 200)
    per_point = (high - low) / height
    right = axes.get_xlim()[1]
    along = (right - axes.get_xlim()[0]) / (axes.get_position().width * (figure.get_figwidth() * 72 if figure else 200))
    places = spread([one.last for one in series], LABEL_GAP * per_point, low, high)
    for one, place in zip(series, places, strict=True):
        colour, start = one.look.hex, min(max(one.last, low), high)
        leader = [end + 5 * along, right + 9 * along]
        thread = axes.plot(leader, [start, place], color=colour, linewidth=0.5, alpha=0.6, clip_on=False)
        weight, at = "bold" if one.look.role == "key" else "normal", right + 11 * along
        name = axes.text(at, place, _label(one, limits), va="center", size=SIZE, color=colour, weight=weight)
        belongs(one.look.name, *thread, name)


def label_room(series: Sequence[Series], limits: tuple[float, float]) -> float:
    """Return the points to leave at the right for the names."""
    return 18 + max((len(_label(one, limits)) for one in labelled(series)), default=0) * SIZE * 0.5


def sparsity_places(levels: Sequence[float]) -> list[float]:
    """Return where sparsities stand on a scale by the share of weights kept."""
    return [-math.log10(1 - level) for level in levels]


def sparsity_axis(axes: Axes, levels: Sequence[float]) -> float:
    """Set up the horizontal axis for ascending sparsities, naming as many as fit; return where it ends."""
    places = sparsity_places(levels)
    span = places[-1] - places[0] or 1.0
    ticks: list[tuple[float, float]] = []
    for place, level in reversed(list(zip(places, levels, strict=True))):
        if not ticks or ticks[-1][0] - place > 0.16 * span:
            ticks.append((place, level))
    axes.set_xticks([place for place, _ in ticks], [percent(level) for _, level in ticks])
    axes.set_xlim(places[0] - 0.05 * span, places[-1] + 0.02 * span)
    axes.set_xlabel("sparsity (share of weights pruned)")
    return places[-1]


@dataclass(frozen=True)
class Dot:
    """A measured point in a row of a dot chart; whiskers from `low` to `high` when both are known.

    `method` is whose it is, empty where it is no method's; `text` what it says, by default its row and its value.
    """

    row: int | float
    value: float
    colour: str
    low: float | None = None
    high: float | None = None
    marker: str = "o"
    filled: bool = True
    method: str = ""
    text: str = ""
    digits: int = 1

    def says(self, names: Sequence[str]) -> str:
        """Return what the point says in a chart whose rows have these names."""
        row = names[min(max(round(self.row), 0), len(names) - 1)] if names else ""
        whose = label(self.method)
        who = ", ".join(dict.fromkeys(part for part in (whose, row) if part))
        shown = partial(number, digits=self.digits)
        ends = "" if self.low is None or self.high is None else f" [{shown(self.low)}, {shown(self.high)}]"
        return self.text or f"{who}: {shown(self.value)}{ends}"


def dots(axes: Axes, names: Sequence[str], points: Sequence[Dot], limits: tuple[float, float] | None = None) -> None:
    """Draw rows of points, the first row on top; what lies outside `limits` is marked at the edge."""
    axes.set_ylim(len(names) - 0.4, -0.6)
    rows = [row for row, name in enumerate(names) if name]
    axes.set_yticks(rows, [shortened(names[row]) for row in rows])
    axes.tick_params(axis="y", pad=8, labelcolor=INK)
    few_ticks(axes.xaxis, 7)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    left, right = limits or (-math.inf, math.inf)
    if limits is not None:
        axes.set_xlim(left, right)
    tell(
        axes,
        [Mark(min(max(dot.value, left), right), float(dot.row), dot.says(names), dot.method) for dot in points],
    )
    for (colour, marker, filled, method), group in _alike(points, left, right).items():
        whiskers = [
            (dot.row, min(max(dot.low, left), right), min(max(dot.high, left), right))
            for dot in group
            if dot.low is not None and dot.high is not None
        ]
        if whiskers:
            y, low, high = (list(values) for values in zip(*whiskers, strict=True))
            belongs(method, axes.hlines(y, low, high, colors=colour, linewidth=1.3, zorder=3))
        drawn = axes.plot(
            [min(max(dot.value, left), right) for dot in group],
            [dot.row for dot in group],
            linestyle="",
            marker=marker,
            color=colour,
            markersize=8 if marker == "|" else 5.2,
            markerfacecolor=colour if filled else "none",
            markeredgewidth=1.3 if marker == "|" else 0 if filled else 1.1,
            zorder=4,
            clip_on=False,
        )
        belongs(method, *drawn)


def labelled_dots(
    axes: Axes, names: Sequence[str], points: Sequence[Dot], unit: str, limits: tuple[float, float] | None
) -> None:
    """Draw rows of points over an axis of this unit; without limits the axis reaches to 0."""
    dots(axes, names, points, limits)
    if limits is None:
        low, high = axes.get_xlim()
        axes.set_xlim(min(0.0, low), max(0.0, high))
    axes.set_xlabel(unit)


def _alike(points: Sequence[Dot], left: float, right: float) -> dict[tuple[str, str, bool, str], list[Dot]]:
    """Return the points by how they are drawn: one artist for each look is quick, one for each point is not."""
    groups: dict[tuple[str, str, bool, str], list[Dot]] = {}
    for dot in points:
        marker = "<" if dot.value < left else ">" if dot.value > right else dot.marker
        groups.setdefault((dot.colour, marker, dot.filled, dot.method), []).append(dot)
    return groups


def dot_of(
    row: int | float, stat: Stat, colour: str, marker: str = "o", method: str = "", digits: int = 1
) -> Dot | None:
    """Return a dot at a mean with whiskers of one sd, or None where nothing was measured."""
    if stat.mean is None:
        return None
    ends = (None, None) if stat.sd is None else (stat.mean - stat.sd, stat.mean + stat.sd)
    return Dot(row, stat.mean, colour, ends[0], ends[1], marker, method=method, digits=digits)


def name_room(names: Sequence[str]) -> float:
    """Return the points to leave at the left for row names."""
    return 14 + max((len(shortened(name)) for name in names), default=0) * SIZE * 0.5


def row_height(count: int, each: float = 15.0, least: float = 60.0) -> float:
    """Return the height in points of a chart with `count` rows."""
    return max(least, each * count)
