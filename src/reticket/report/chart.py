"""The two charts the report is made of: lines with bands, and dots with whiskers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from reticket.report.methods import INK, SOFT, Look
from reticket.report.plate import SIZE
from reticket.report.schema import Stat
from reticket.report.text import number, shortened

LABEL_GAP = SIZE * 1.12
MOST_LABELS = 15


@dataclass(frozen=True)
class Series:
    """A named line: places on the horizontal axis and what was measured there."""

    look: Look
    x: tuple[float, ...]
    stats: tuple[Stat, ...]

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
    pad = 0.06 * (high - low) or 0.5
    return low - pad, high + pad


def _range(series: Sequence[Series]) -> tuple[float, float]:
    ends = [
        stat.mean + sign * (stat.sd or 0.0)
        for one in series
        for stat in one.stats
        if stat.mean is not None
        for sign in (-1, 1)
    ]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def lines(axes: Axes, series: Sequence[Series], limits: tuple[float, float], start: float) -> None:
    """Draw each series with its band of one sd, and its name at its end while all names fit."""
    axes.set_ylim(*limits)
    for one in reversed(series):
        _line(axes, one, limits)
    drawn = [one for one in series if one.stats]
    if len(drawn) > MOST_LABELS:
        drawn = [one for one in drawn if one.look.role == "key"]
    _end_labels(axes, drawn, start)


def _line(axes: Axes, one: Series, limits: tuple[float, float]) -> None:
    look = one.look
    points = [(x, stat) for x, stat in zip(one.x, one.stats, strict=True) if stat.mean is not None]
    if not points:
        return
    order = {"key": 4.0, "variant": 3.0, "reference": 2.5, "control": 2.0}[look.role]
    x = [place for place, _ in points]
    mean = [stat.mean or 0.0 for _, stat in points]
    if any(stat.sd for _, stat in points):
        low = [value - (stat.sd or 0.0) for value, (_, stat) in zip(mean, points, strict=True)]
        high = [value + (stat.sd or 0.0) for value, (_, stat) in zip(mean, points, strict=True)]
        opacity = {"key": 0.16, "variant": 0.1, "reference": 0.06, "control": 0.06}[look.role]
        axes.fill_between(x, low, high, color=look.hex, alpha=opacity, linewidth=0, zorder=order - 2)
    size = {"key": 5.0, "variant": 4.2, "reference": 3.6, "control": 3.4}[look.role]
    flat = len(set(mean)) == 1 and look.name == "dense"
    axes.plot(
        x,
        mean,
        color=look.hex,
        linewidth=look.width,
        linestyle=(0, look.dash) if look.dash else "-",
        marker="" if flat else look.marker,
        markersize=size,
        markeredgewidth=0,
        zorder=order,
    )
    for place, value in zip(x, mean, strict=True):
        if value < limits[0]:
            _below(axes, look, place, value, limits[0])


def _below(axes: Axes, look: Look, x: float, value: float, floor: float) -> None:
    """Mark a point under the axis, so that what was left out is seen."""
    axes.plot([x], [floor], marker="v", markersize=4, color=look.hex, clip_on=False, zorder=6, markeredgewidth=0)
    axes.annotate(
        number(value),
        (x, floor),
        (-4, 4),
        textcoords="offset points",
        ha="right",
        size=SIZE - 1.5,
        color=SOFT,
        annotation_clip=False,
    )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near those wanted, at least `gap` apart and inside [low, high] while they fit.

    >>> spread([5.0, 5.0, 9.0], 1.0, 0.0, 10.0)
    [4.5, 5.5, 9.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    clusters: list[tuple[list[int], float]] = []
    for index in order:
        members, centre = [index], wanted[index]
        while clusters and centre - clusters[-1][1] < gap * (len(members) + len(clusters[-1][0])) / 2:
            members = clusters.pop()[0] + members
            centre = sum(wanted[member] for member in members) / len(members)
            half = gap * (len(members) - 1) / 2
            centre = min(max(centre, low + half), max(high - half, low + half))
        clusters.append((members, centre))
    places = [0.0] * len(wanted)
    for members, centre in clusters:
        for rank, member in enumerate(members):
            places[member] = centre + gap * (rank - (len(members) - 1) / 2)
    return places


def _end_labels(axes: Axes, series: Sequence[Series], start: float) -> None:
    """Write each name beside its line's end; `start` is where the lines end on the horizontal axis."""
    low, high = axes.get_ylim()
    figure = axes.get_figure(root=True)
    height = axes.get_position().height * (figure.get_figheight() * 72 if figure else 200)
    per_point = (high - low) / height
    wanted = [min(max(one.last, low), high) for one in series]
    places = spread(wanted, LABEL_GAP * per_point, low, high)
    for one, end, place in zip(series, wanted, places, strict=True):
        shift = (place - end) / per_point
        axes.annotate(
            shortened(one.look.label, 19),
            (start, end),
            (13, shift),
            textcoords="offset points",
            va="center",
            size=SIZE,
            color=one.look.hex,
            weight="bold" if one.look.role == "key" else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": one.look.hex,
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 5,
                "relpos": (0, 0.5),
                "alpha": 0.6,
            },
        )


def label_room(series: Sequence[Series]) -> float:
    """Return the points to leave at the right for the names."""
    drawn = series if len(series) <= MOST_LABELS else [one for one in series if one.look.role == "key"]
    longest = max((len(shortened(one.look.label, 19)) for one in drawn), default=0)
    return 20 + longest * SIZE * 0.52


@dataclass(frozen=True)
class Dot:
    """A measured point in a row of a dot chart; whiskers from `low` to `high` when both are known."""

    row: int
    value: float
    colour: str
    low: float | None = None
    high: float | None = None
    marker: str = "o"
    offset: float = 0.0
    filled: bool = True


def dots(axes: Axes, names: Sequence[str], points: Sequence[Dot], limits: tuple[float, float] | None = None) -> None:
    """Draw rows of points, the first row on top; what lies outside `limits` is marked at the edge."""
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.grid(axis="x", color=axes.yaxis.get_gridlines()[0].get_color(), linewidth=0.8)
    for label in axes.get_yticklabels():
        label.set_color(INK)
    if limits is not None:
        axes.set_xlim(*limits)
    left, right = limits or (-math.inf, math.inf)
    for dot in points:
        y = dot.row + dot.offset
        if dot.low is not None and dot.high is not None:
            ends = [min(max(end, left), right) for end in (dot.low, dot.high)]
            axes.plot(ends, [y, y], color=dot.colour, linewidth=1.3, solid_capstyle="butt", zorder=3)
        outside = not left <= dot.value <= right
        axes.plot(
            [min(max(dot.value, left), right)],
            [y],
            marker=("<" if dot.value < left else ">") if outside else dot.marker,
            color=dot.colour,
            markersize=5.2,
            markerfacecolor=dot.colour if dot.filled else "none",
            markeredgewidth=0 if dot.filled else 1.1,
            zorder=4,
            clip_on=False,
        )


def dot_of(row: int, stat: Stat, colour: str, marker: str = "o", offset: float = 0.0) -> Dot | None:
    """Return a dot at a mean with whiskers of one sd, or None where nothing was measured."""
    if stat.mean is None:
        return None
    ends = (None, None) if stat.sd is None else (stat.mean - stat.sd, stat.mean + stat.sd)
    return Dot(row, stat.mean, colour, ends[0], ends[1], marker, offset)


def name_room(names: Sequence[str]) -> float:
    """Return the points to leave at the left for row names."""
    return 12 + max((len(shortened(name)) for name in names), default=0) * SIZE * 0.53


def row_height(count: int, each: float = 15.0, least: float = 60.0) -> float:
    """Return the height in points of a chart with `count` rows."""
    return max(least, each * count)


def swatch(look: Look) -> Mapping[str, object]:
    """Return what the page needs to draw a method's line and mark beside its name."""
    return {"colour": look.colour, "dash": " ".join(f"{part:g}" for part in look.dash), "width": look.width}
