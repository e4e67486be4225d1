"""Accuracy against cost: which networks and ensembles nothing beats at their price, as more of them share a ticket."""

import math
from collections.abc import Sequence
from functools import partial

from reticket.figures.chart import few_ticks
from reticket.figures.finding import Finding
from reticket.figures.labels import label_offsets
from reticket.figures.looks import RULE, Look, looks
from reticket.figures.marks import Mark, belongs, tell
from reticket.figures.spec import SIZE, Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.table import Table
from reticket.figures.text import counts, listed, percent, rewound
from reticket.report.accuracy_rows import accuracy_rows
from reticket.report.costed import (
    Point,
    Rival,
    at_place,
    epochs,
    front_table,
    main_place,
    on_front,
    plain_accuracy,
    points_of,
    rival,
    sharing_of,
)
from reticket.report.metric_words import MetricWords
from reticket.tasks.results import Results

Limits = tuple[tuple[float, float], tuple[float, float]]
MOST_NAMES = 7  # in a panel


def front(results: Results) -> Finding | None:
    """Return accuracy against model-epochs, a panel for each number of networks that share a ticket.

    Args:
        results: of a run, at all positions of matching.

    Returns:
        None where no cost is known: the run is older than costs, or has no sparse network.
    """
    points, words = points_of(results), MetricWords.of(results)
    if not points:
        return None
    place = main_place(points)
    shown = at_place(points, place)
    styles = looks(point.method for point in shown)
    confidence = next((one.confidence for one in results.differences), 0.95)
    panels, said = [], []
    for sharing in sharing_of(shown):
        best = on_front(shown, sharing, words.metric)
        says = _says(best, rival(shown, sharing, words.metric, confidence), sharing, words)
        draw = partial(_draw, points=shown, sharing=sharing, styles=styles, words=words)
        alt = f"{words.heading} against model-epochs, {_title(sharing)}. {says}"
        panels.append(Panel(draw, _title(sharing), words.heading, alt, 230.0))
        said.append(says)
    legend = tuple(LegendEntry(look.label, look.hex, look.mark, width=0.0) for look in styles.values())
    where = f"At {percent(place[0])} sparsity, {rewound(place[1])}"
    told = (f"{where}, {said[0][0].lower()}{said[0][1:]}", *said[1:])
    figure = FigureSpec("front", tuple(panels), legend)
    return Finding(figure, told, f"{where}: {_caption(results, shown, words)}")


def front_opened(results: Results) -> tuple[tuple[str, Table], ...]:
    """Return the table of the setting that the figure shows, with its caption."""
    points = points_of(results)
    if not points:
        return ()
    place, words = main_place(points), MetricWords.of(results)
    table = front_table(at_place(points, place), words)
    where = f"{percent(place[0])} sparsity, {rewound(place[1])}"
    return ((f"Model-epochs of a network, or of an ensemble, where m of them share one ticket; {where}", table),)


def _title(sharing: int) -> str:
    return "one network a ticket" if sharing == 1 else f"{sharing} share a ticket"


def _says(best: Sequence[Point], ahead: Rival | None, sharing: int, words: MetricWords) -> str:
    """Say what is on the front, and what beats the permuted ticket at no more cost."""
    where = "With one network a ticket" if sharing == 1 else f"Where {sharing} share a ticket"
    text = f"{where}, {listed(point.name for point in best)} {'is' if len(best) == 1 else 'are'} on the front"
    if ahead is None:
        return f"{text}."
    price = f"{epochs(ahead.point.cost(sharing))} against {epochs(ahead.permuted.cost(sharing))} model-epochs"
    text += f"; {ahead.point.name} costs no more than {ahead.permuted.name} ({price}) and is"
    found = ahead.difference
    if found is None:
        return f"{text} {words.number(ahead.better_by, 1)}{words.points} better, without an interval."
    bounds = f"[{words.number(found.low, 1)}, {words.number(found.high, 1)}]"
    noise = "" if found.settled else ", which is not beyond the noise"
    return f"{text} {words.number(found.mean, 1)}{words.points} better {bounds} (paired, n = {found.n}){noise}."


def _caption(results: Results, points: Sequence[Point], words: MetricWords) -> str:
    ensembles = sorted({point.members for point in points if point.members > 1})
    told = [
        f"test {words.name} against model-epochs (passes over the training data; one forward alone counts a third). "
        "The line is the front: nothing to its left is as good. Where m networks share a ticket each costs its own "
        "part and 1/m of what is made of A alone, its dense training and its pruning; a new network of LTH or IMP "
        "needs all of that again. Discovering the symmetry takes seconds and counts 0. The front is of means; whiskers "
        f"are ± 1 sd ({counts(point.n for point in points if point.members == 1)}). What is set against permuted is "
        "the best of all that cost no more, which its interval takes no account of."
    ]
    if ensembles:
        sizes = listed(map(str, ensembles))
        told.append(f"Open marks, ×{sizes}: ensembles of {sizes}, whose cost is that of all members together.")
    dense = next((row for row in accuracy_rows(results) if row.method == "dense"), None)
    if dense is not None:
        cost = f" for {epochs(dense.own_epochs)} model-epochs" if dense.own_epochs is not None else ""
        told.append(f"Not drawn: the dense network, {words.plus_minus(dense)}{words.unit}{cost}.")
    told.append("Arrows point to what lies outside the axes.")
    return " ".join(told)


# ---------------------------------------------------------------- the panels


def _draw(axes: Axes, points: Sequence[Point], sharing: int, styles: dict[str, Look], words: MetricWords) -> None:
    best = on_front(points, sharing, words.metric)
    limits = _limits(points, styles, words)
    _axes(axes, limits, words)
    _line(axes, best, sharing, limits)
    places = [(min(point.cost(sharing), limits[0][1]), _clipped(point.value, limits[1])) for point in points]
    named = _named(points, best, styles)
    names = [point.short if point in named else "" for point in points]
    for point, place in zip(points, places, strict=True):
        _mark(axes, point, place, styles[point.method], limits[1])
        text = f"{point.name}: {plain_accuracy(point, words)}, {epochs(point.cost(sharing))} model-epochs"
        tell(axes, [Mark(*place, text, point.method)])
    scaled = [(math.log10(x), y) for x, y in places]
    for point, place, name, offset in zip(
        points, places, names, label_offsets(axes, _on_linear(axes, scaled), names), strict=True
    ):
        if name:
            at = {"textcoords": "offset points", "ha": offset.ha, "va": "center", "annotation_clip": False}
            at |= {"zorder": 1.5, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}}  # the line stops
            colour, weight = styles[point.method].hex, "bold" if point in best else "normal"
            words_at = (offset.dx, offset.dy)
            belongs(point.method, axes.annotate(name, place, words_at, color=colour, size=SIZE, weight=weight, **at))


def _on_linear(axes: Axes, scaled: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return places on a logarithmic axis as they would stand on a linear one of the same limits."""
    left, right = axes.get_xlim()
    low, span = math.log10(left), math.log10(right) - math.log10(left)
    return [(left + (x - low) / span * (right - left), y) for x, y in scaled]


def _limits(points: Sequence[Point], styles: dict[str, Look], words: MetricWords) -> Limits:
    """Return the ranges of cost, of all panels, and of accuracy, without what would flatten the rest.

    What counts is the three methods and the front without controls, which may be on it for being cheap; of others what
    lies within half the range of these beside them.
    """
    costs = [point.cost(sharing) for point in points for sharing in sharing_of(points)]
    fronts = [point for sharing in sharing_of(points) for point in on_front(points, sharing, words.metric)]
    chosen = [p for p in points if (role := styles[p.method].role) == "key" or (role != "control" and p in fronts)]
    (low, high), kept = _range(points), _range(chosen or points)
    if high - low > 2.2 * (kept[1] - kept[0]):
        beside = 0.5 * (kept[1] - kept[0])
        low, high = max(low, kept[0] - beside), min(high, kept[1] + beside)
    pad = 0.08 * (high - low) or 0.5
    return (max(min(costs), 1e-3) / 1.25, max(*costs, 1e-3) * 1.25), (low - pad, high + pad)


def _range(points: Sequence[Point]) -> tuple[float, float]:
    ends = [point.value + sign * (point.stat.sd or 0.0) for point in points for sign in (-1, 1)]
    return min(ends), max(ends)


def _clipped(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def _axes(axes: Axes, limits: Limits, words: MetricWords) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    steps = (1.0, 2.0, 5.0) if limits[0][1] / limits[0][0] < 500 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(base=10.0, subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    few_ticks(axes.yaxis, 6)
    axes.set_xlabel("model-epochs each")


def _line(axes: Axes, best: Sequence[Point], sharing: int, limits: Limits) -> None:
    """Draw the front as a staircase: what is to be had for a price."""
    x = [*(point.cost(sharing) for point in best), limits[0][1]]
    y = [*(point.value for point in best), best[-1].value]
    axes.step(x, y, where="post", color=RULE, linewidth=1.6, zorder=1)


def _mark(axes: Axes, point: Point, place: tuple[float, float], look: Look, limits: tuple[float, float]) -> None:
    outside = not limits[0] <= point.value <= limits[1]
    single = point.members == 1
    drawn = axes.plot(
        *place,
        linestyle="",
        marker=("v" if point.value < limits[0] else "^") if outside else look.mark,
        color=look.hex,
        markersize=4 if outside else 6 if look.role == "key" else 5,
        markerfacecolor=look.hex if single else "none",
        markeredgewidth=0 if single else 1.2,
        zorder=4 if look.role == "key" else 3,
        clip_on=False,
    )
    belongs(point.method, *drawn)
    if point.stat.sd and not outside:
        low, high = (_clipped(point.value + sign * point.stat.sd, limits) for sign in (-1, 1))
        belongs(point.method, axes.vlines([place[0]], low, high, colors=look.hex, linewidth=0.9, alpha=0.6, zorder=2))


def _named(points: Sequence[Point], best: Sequence[Point], styles: dict[str, Look]) -> list[Point]:
    """Return the points whose names stand in the chart: the front, then the networks of the three methods."""
    key = [point for point in points if styles[point.method].role == "key" and point.members == 1 and point not in best]
    return [*best, *key][: max(MOST_NAMES, len(best))]
