"""Accuracy against sparsity and against the rewind point, every method with its band."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes

from reticket.report.chart import Dot, Series, bounds, dot_of, dots, label_room, lines, name_room, row_height
from reticket.report.exhibit import MOST_PANELS, Exhibit, left_out, some
from reticket.report.methods import Look, label, looks
from reticket.report.plate import Panel, Plate, method_key
from reticket.report.schema import Results, Row, Stat
from reticket.report.text import counts, listed, number, percent, position, rewind_order, rewound

UNIT = "test accuracy (%)"
EVEN = "Bands are ± 1 sd over seeds"


def accuracy_rows(results: Results) -> list[Row]:
    """Return the rows that hold test accuracy."""
    return [row for row in results.rows if row.metric == "accuracy" and row.mean is not None]


def sparsities(rows: Sequence[Row]) -> list[float]:
    """Return the nominal sparsities above 0, ascending."""
    return sorted({row.sparsity for row in rows if row.sparsity > 0})


def at(rows: Sequence[Row], method: str, sparsity: float, rewind: str | None) -> Row | None:
    """Return a method's row; one without a rewind stands for every rewind point, one of sparsity 0 for every sparsity."""
    for row in rows:
        if row.method == method and row.sparsity in (sparsity, 0) and row.rewind in (rewind, None):
            return row
    return None


def by_sparsity(results: Results) -> Exhibit | None:
    """Return accuracy against sparsity, a panel for each rewind point."""
    rows = accuracy_rows(results)
    levels = sparsities(rows)
    if not levels:
        return None
    rewinds: list[str | None] = [*rewind_order(row.rewind for row in rows)] or [None]
    shown = rewinds[:MOST_PANELS]
    styles = looks(row.method for row in rows)
    if len(levels) == 1:
        return _by_method(rows, levels[0], shown, styles)
    groups = {rewind: _series(rows, styles, [(-math.log10(1 - s), s, rewind) for s in levels]) for rewind in shown}
    limits = bounds([one for series in groups.values() for one in series])
    panels = tuple(
        Panel(
            partial(_draw, series=series, limits=limits, finish=partial(_sparsity_axis, levels=levels)),
            rewound(rewind),
            UNIT,
            f"Test accuracy against sparsity, {rewound(rewind)}. {_ends(rows, levels, rewind)}",
            height=_height(series),
            right=label_room(series),
        )
        for rewind, series in groups.items()
    )
    caption = f"Test accuracy against nominal sparsity, on a scale by the share of weights kept. {EVEN}, {_n(rows)}."
    says = tuple(filter(None, (_ends(rows, levels, shown[-1]), _wins(rows))))
    legend = tuple(method_key(look) for look in styles.values()) if len(styles) > 15 else ()
    return Exhibit(
        Plate("accuracy_by_sparsity", panels, legend),
        says,
        caption + left_out(len(shown), len(rewinds), "rewind points", "accuracy"),
    )


def by_rewind(results: Results) -> Exhibit | None:
    """Return accuracy against the rewind point, a panel for each sparsity, or None with fewer than two points."""
    rows = accuracy_rows(results)
    rewinds = rewind_order(row.rewind for row in rows)
    levels = sparsities([row for row in rows if row.rewind is not None])
    if len(rewinds) < 2:
        return None
    shown = some(levels)
    styles = looks(row.method for row in rows)
    groups = {s: _series(rows, styles, [(float(i), s, rewind) for i, rewind in enumerate(rewinds)]) for s in shown}
    limits = bounds([one for series in groups.values() for one in series])
    panels = tuple(
        Panel(
            partial(_draw, series=series, limits=limits, finish=partial(_rewind_axis, rewinds=rewinds)),
            f"{percent(sparsity)} sparsity",
            UNIT,
            f"Test accuracy against the rewind point at {percent(sparsity)} sparsity. {_gain(rows, rewinds, sparsity)}",
            height=_height(series),
            right=label_room(series),
        )
        for sparsity, series in groups.items()
    )
    caption = f"Test accuracy against the rewind point; the points stand at equal distances. {EVEN}, {_n(rows)}."
    says = tuple(filter(None, (_gain(rows, rewinds, shown[-1]),)))
    legend = tuple(method_key(look) for look in styles.values()) if len(styles) > 15 else ()
    return Exhibit(
        Plate("accuracy_by_rewind", panels, legend),
        says,
        caption + left_out(len(shown), len(levels), "sparsities", "accuracy"),
    )


def _height(series: Sequence[Series]) -> float:
    return max(190.0, 10.5 * min(len(series), 15) + 40)


def _n(rows: Sequence[Row]) -> str:
    return counts(row.n for row in rows)


def _series(
    rows: Sequence[Row], styles: dict[str, Look], places: list[tuple[float, float, str | None]]
) -> list[Series]:
    result = []
    for method, look in styles.items():
        found = [(x, at(rows, method, sparsity, rewind)) for x, sparsity, rewind in places]
        kept = [(x, row) for x, row in found if row is not None]
        if kept:
            stats: tuple[Stat, ...] = tuple(row for _, row in kept)
            result.append(Series(look, tuple(x for x, _ in kept), stats))
    return result


def _draw(axes: Axes, series: Sequence[Series], limits: tuple[float, float], finish: Callable[[Axes], float]) -> None:
    lines(axes, series, limits, finish(axes))


def _sparsity_axis(axes: Axes, levels: Sequence[float]) -> float:
    places = [-math.log10(1 - level) for level in levels]
    span = places[-1] - places[0]
    ticks: list[tuple[float, float]] = []
    for place, level in reversed(list(zip(places, levels, strict=True))):
        if not ticks or ticks[-1][0] - place > 0.13 * span:
            ticks.append((place, level))
    axes.set_xticks([place for place, _ in ticks], [percent(level) for _, level in ticks])
    axes.set_xlim(places[0] - 0.05 * span, places[-1] + 0.02 * span)
    axes.set_xlabel("sparsity (share of weights pruned)")
    return places[-1]


def _rewind_axis(axes: Axes, rewinds: Sequence[str]) -> float:
    words = ["0" if position(rewind) == "initialisation" else position(rewind).split("\u00a0")[0] for rewind in rewinds]
    units = {position(rewind).rsplit("\u00a0")[-1].rstrip("s") for rewind in rewinds} - {"initialisation"}
    if len(units) > 1:
        words = [position(rewind).replace("initialisation", "0") for rewind in rewinds]
    last = len(rewinds) - 1
    axes.set_xticks(range(len(rewinds)), words)
    axes.set_xlim(-0.05 * last, last + 0.02 * last)
    axes.set_xlabel("rewind point" if len(units) != 1 else f"rewind point ({units.pop()}s; 0 is the initialisation)")
    return float(last)


def _by_method(rows: Sequence[Row], level: float, rewinds: Sequence[str | None], styles: dict[str, Look]) -> Exhibit:
    names = [look.label for look in styles.values()]
    panels = []
    for rewind in rewinds:
        found = {method: at(rows, method, level, rewind) for method in styles}
        points = [
            dot
            for index, (method, look) in enumerate(styles.items())
            if (row := found[method]) is not None and (dot := dot_of(index, row, look.hex, _mark(look)))
        ]
        title = rewound(rewind)
        alt = f"Test accuracy of each method at {percent(level)} sparsity, {title}."
        panels.append(
            Panel(
                partial(_draw_dots, names=names, points=points),
                title,
                "method",
                alt,
                row_height(len(names)),
                name_room(names),
            )
        )
    caption = f"Test accuracy at {percent(level)} sparsity. Whiskers are ± 1 sd over seeds, {_n(rows)}."
    return Exhibit(Plate("accuracy_by_sparsity", tuple(panels)), tuple(filter(None, (_wins(rows),))), caption)


def _mark(look: Look) -> str:
    return "o" if look.marker == "_" else look.marker


def _draw_dots(axes: Axes, names: Sequence[str], points: Sequence[Dot]) -> None:
    dots(axes, names, points)
    axes.set_xlabel(UNIT)


def _ends(rows: Sequence[Row], levels: Sequence[float], rewind: str | None) -> str:
    """Say how far the three networks of the method fall from the lowest sparsity to the highest."""
    falls = []
    for method in ("lth", "permuted", "naive"):
        first, last = at(rows, method, levels[0], rewind), at(rows, method, levels[-1], rewind)
        if first is not None and last is not None and first.mean is not None and last.mean is not None:
            falls.append(f"{label(method)} by {number(last.mean - first.mean, 1, sign=True)}")
    if not falls or len(levels) < 2:
        return ""
    return f"From {percent(levels[0])} to {percent(levels[-1])} sparsity, {rewound(rewind)}, accuracy changes for {listed(falls)} points."


def _wins(rows: Sequence[Row]) -> str:
    """Say how often aligning the mask beats moving it as it is."""
    pairs = [
        row.mean - other.mean
        for row in rows
        if row.method == "permuted"
        and (other := at(rows, "naive", row.sparsity, row.rewind)) is not None
        and row.mean is not None
        and other.mean is not None
    ]
    if not pairs:
        return ""
    ahead = sum(pair > 0 for pair in pairs)
    mean = number(sum(pairs) / len(pairs), 1, sign=True)
    return f"The permuted ticket is above naive in {ahead} of {len(pairs)} settings, by {mean} points on average."


def _gain(rows: Sequence[Row], rewinds: Sequence[str], sparsity: float) -> str:
    """Say what rewinding later gives."""
    gains = []
    for method in ("lth", "permuted", "naive"):
        first, last = at(rows, method, sparsity, rewinds[0]), at(rows, method, sparsity, rewinds[-1])
        if first is not None and last is not None and first.mean is not None and last.mean is not None:
            gains.append(f"{label(method)} by {number(last.mean - first.mean, 1, sign=True)}")
    if not gains:
        return ""
    ends = f"from {position(rewinds[0])} to {position(rewinds[-1])}"
    return (
        f"At {percent(sparsity)} sparsity, moving the rewind point {ends} changes accuracy for {listed(gains)} points."
    )
