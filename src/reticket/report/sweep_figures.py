"""Figures over the values of a sweep: what width, or any other field, does to gap, accuracy, barriers and matching."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from reticket.analysis import GapClosed, Stat, gap_closed
from reticket.figures import published
from reticket.figures.chart import Series, few_ticks
from reticket.figures.finding import Finding, left_out
from reticket.figures.looks import INK, PALETTE, RULE, SOFT, label, looks
from reticket.figures.marks import Mark, tell, tell_line
from reticket.figures.spec import SIZE, Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.text import PERCENT, listed, number, percent, rewind_order, rewound, spread_note
from reticket.records import Stat as Drawn
from reticket.report.accuracy import panels_of, rewind_axis, series_of
from reticket.report.accuracy_rows import accuracy_rows, at, sparsities
from reticket.report.against import published_cell
from reticket.report.metric_words import MetricWords
from reticket.report.training_positions import in_epochs
from reticket.tasks.checks.barriers.figure import COLOURS, REPAIR_DASH, WORDS
from reticket.tasks.checks.barriers.line import Barrier
from reticket.tasks.checks.matching import Match
from reticket.tasks.results import Results
from reticket.tasks.rows import Experiment, Row

MOST_PANELS = 12
EARLIEST = 10.0  # epochs; the paper's means begin there
KEY = ("lth", "naive", "permuted")


@dataclass(frozen=True)
class VariantResults:
    """One experiment of a sweep: the value of the swept field in words, its folder and its results."""

    value: str
    folder: str
    results: Results


def shares(results: Results, method: str = "permuted") -> GapClosed | None:
    """Return the share of the LTH - naive gap that a method closes over all settings together, paired by seed.

    The gaps and gains of a seed are averaged over the settings first. As in the paper these are all sparsities and the
    rewind points from epoch 10 on, or all where there is none that late.
    """
    trios = [trio for trio in _trios(results, method) if _late(trio[0], results.experiment)] or _trios(results, method)
    counts = {len(row.values) for trio in trios for row in trio}
    if len(counts) != 1 or any(value is None for trio in trios for row in trio for value in row.values):
        return None
    lth, naive, other = (
        np.array([row.values for row in rows], dtype=float).mean(0) for rows in zip(*trios, strict=True)
    )
    sign = results.experiment.metric.better_by(1.0, 0.0)
    return gap_closed(*((sign * values).tolist() for values in (lth, naive, other))) if lth.size else None


def _trios(results: Results, method: str) -> list[tuple[Row, Row, Row]]:
    rows, found = accuracy_rows(results), []
    for row in [row for row in rows if row.method == method and row.rewind is not None]:
        lth, naive = (at(rows, name, row.sparsity, row.rewind) for name in ("lth", "naive"))
        if lth is not None and naive is not None:
            found.append((lth, naive, row))
    return found


def _late(row: Row, known: Experiment) -> bool:
    epochs = in_epochs(row.rewind, known.steps_per_epoch)
    return epochs is not None and epochs >= EARLIEST


def published_share(known: Experiment) -> float | None:
    """Return the same share, of mean gain and mean gap, from the published cells (percent)."""
    cells = [
        cell
        for cell in published.find_accuracies(known.dataset, known.network, known.width, match="end")
        if cell.rewind_epoch >= EARLIEST
    ]
    means = {m: [cell.mean for cell in cells if cell.method == m] for m in KEY}
    if not all(means.values()):
        return None
    lth, naive, permuted = (fmean(means[method]) for method in KEY)
    return 100 * (permuted - naive) / (lth - naive)


def gap_by_value(variants: Sequence[VariantResults], short: str) -> Finding | None:
    """Return the share of the gap closed, and what is left of it, against the swept value."""
    found = [(place, shares(one.results)) for place, one in enumerate(variants)]
    known = [(place, gap) for place, gap in found if gap is not None and gap.share is not None]
    if not known:
        return None
    theirs = [(place, published_share(one.results.experiment)) for place, one in enumerate(variants)]
    names = [one.value for one in variants]
    colour, words = PALETTE["permuted"][0], MetricWords.of(variants[0].results)
    unit = words.steps
    closed = [(float(x), gap.share or 0.0, gap.low, gap.high) for x, gap in known if claimed(gap)]
    marks = [(float(x), value) for x, value in theirs if value is not None]
    left = [(float(x), gap.left, None, None) for x, gap in known]
    told = _gap_says(variants, [(variants[x], gap) for x, gap in known], short)
    rest = [
        (float(x), float(s.left))
        for x, one in enumerate(variants)
        for s in published.shares()
        if _same(s, one.results.experiment)
    ]
    draw_share = partial(
        _points, points=closed, published_at=marks, names=names, short=short, colour=colour, level=100.0
    )
    draw_left = partial(
        _points,
        points=left,
        published_at=rest,
        names=names,
        short=short,
        colour=colour,
        level=None,
        digits=words.digits,
    )
    alt = f"Share of the gap that permuting closes, by {short}. {told}"
    panels = (
        Panel(draw_share, "closed by permuted", "share of the gap (%)", alt, 190.0, right=34.0),
        Panel(
            draw_left,
            "left between LTH and permuted",
            unit,
            f"{unit.capitalize()} left open, by {short}. {told}",
            190.0,
        ),
    )
    late = all(any(_late(t[0], one.results.experiment) for t in _trios(one.results, "permuted")) for one in variants)
    over = f"over all sparsities and rewind points{' from epoch 10 on' if late else ''}"
    ns = sorted({gap.n for _, gap in known})
    caption = (
        f"Mean gain over mean gap, {over} of a run; whiskers are 95{PERCENT} paired intervals (Fieller's) over seeds, "
        f"n = {listed(map(str, ns))}, where the gap is clearly above 0; what lies outside is drawn at the edge."
    )
    if marks or rest:
        caption += (
            f" Faint open marks: the same from the published cells from epoch 10 on, {published.source()}; the paper's "
            "own figures are means of the settings' shares and lie up to 3 points lower."
        )
    return Finding(FigureSpec("gap_by_value", panels), (told,), caption)


def claimed(gap: GapClosed) -> bool:
    """Return whether a share is shown: its gap is clearly above 0, or one seed leaves that open."""
    return gap.share is not None and (gap.low is not None or gap.n == 1)


def _same(one: published.Share, known: Experiment) -> bool:
    return (one.dataset, one.model, one.width) == (known.dataset, known.network, known.width)


def _gap_says(variants: Sequence[VariantResults], known: Sequence[tuple[VariantResults, GapClosed]], short: str) -> str:
    words = MetricWords.of(known[0][0].results)
    parts = [
        f"{number(gap.share, 0)}{PERCENT}"
        + ("" if gap.low is None else f" [{number(gap.low, 0)}, {number(gap.high, 0)}]")
        + f" of {words.number(gap.gap, 1)}{words.points} at {short} {one.value}"
        for one, gap in known
        if claimed(gap)
    ]
    open_at = [f"{short} {one.value}" for one, gap in known if not claimed(gap)]
    text = f"The permuted ticket closes {listed(parts)}." if parts else ""
    if open_at:
        text += f" At {listed(open_at)} the gap is not clearly above 0, so no share of it is claimed."
    first, last = known[0][1], known[-1][1]
    bounds = (first.low, first.high, last.low, last.high)
    if len(known) > 1 and None in bounds:
        return f"{text} The seeds are too few to say whether the share grows."
    if len(known) > 1 and first.low is not None and first.high is not None and last.low is not None and last.high:
        apart = last.low > first.high or first.low > last.high
        text += " The intervals of the ends are apart." if apart else " The intervals of the ends overlap."
    return text


def _points(
    axes: Axes,
    points: Sequence[tuple[float, float, float | None, float | None]],
    published_at: Sequence[tuple[float, float]],
    names: Sequence[str],
    short: str,
    colour: str,
    level: float | None,
    digits: int = 1,
) -> None:
    ends = [
        0.0,
        *(value for _, value, _, _ in points),
        *(value for _, value in published_at),
        *([level] if level else []),
    ]
    room = 0.35 * (max(ends) - min(ends)) or 1.0
    low, high = max(min(ends) - room, -150.0), min(max(ends) + room, 250.0)
    if level is not None:
        for share, text in ((0.0, "naive"), (level, "LTH")):
            axes.axhline(share, color=RULE, linewidth=1.0, zorder=1)
            place = {"textcoords": "offset points", "annotation_clip": False, "size": SIZE}
            where = ("axes fraction", "data")
            axes.annotate(text, (1, share), (4, 0), xycoords=where, va="center", color=SOFT, **place)
    for x, _, lower, upper in points:
        if lower is not None and upper is not None:
            axes.vlines(x, max(lower, low), min(upper, high), color=colour, linewidth=1.4, zorder=3)
    xs, ys = [x for x, *_ in points], [min(max(y, low), high) for _, y, *_ in points]
    axes.plot(xs, ys, color=colour, linewidth=1.6, marker="D", markersize=5, markeredgewidth=0, zorder=4, clip_on=False)
    tell(axes, [_point(*point, names=names, short=short, inside=(low, high), digits=digits) for point in points])
    if published_at:
        x, y = zip(*published_at, strict=True)
        axes.plot(x, y, linestyle="", marker="D", markersize=8, markerfacecolor="none", color=colour, alpha=0.55)
    axes.set_ylim(low, high)
    few_ticks(axes.yaxis, 6)
    _value_axis(axes, names, short)


def _point(
    x: float,
    value: float,
    lower: float | None,
    upper: float | None,
    *,
    names: Sequence[str],
    short: str,
    inside: tuple[float, float],
    digits: int,
) -> Mark:
    ends = "" if lower is None or upper is None else f" [{number(lower, digits)}, {number(upper, digits)}]"
    return Mark(x, min(max(value, inside[0]), inside[1]), f"{short} {names[int(x)]}: {number(value, digits)}{ends}")


def _value_axis(axes: Axes, names: Sequence[str], short: str) -> float:
    last = max(1, len(names) - 1)
    axes.set_xticks(range(len(names)), list(names))
    axes.set_xlim(-0.15 * last if len(names) > 1 else -0.5, last * 1.05 if len(names) > 1 else 0.5)
    axes.set_xlabel(short)
    return float(len(names) - 1)


def accuracy_by_value(variants: Sequence[VariantResults], short: str) -> Finding | None:
    """Return accuracy against the swept value, a panel for each sparsity at the latest rewind point that all have."""
    common = set.intersection(*({row.rewind for row in accuracy_rows(v.results)} for v in variants)) - {None}
    rewinds = rewind_order(common)
    levels = sorted(set.intersection(*(set(sparsities(accuracy_rows(v.results))) for v in variants)))
    if not levels or not rewinds:
        return None
    names, rewind, words = [one.value for one in variants], rewinds[-1], MetricWords.of(variants[0].results)
    methods = looks(row.method for one in variants for row in accuracy_rows(one.results))
    charts = []
    for level in levels[:MOST_PANELS]:
        series = []
        for method, look in methods.items():
            found = [
                (float(x), one, at(accuracy_rows(one.results), method, level, rewind)) for x, one in enumerate(variants)
            ]
            kept = [(x, one, row) for x, one, row in found if row is not None]
            cells = [(x, published_cell(one.results.experiment, row)[0]) for x, one, row in kept]
            theirs = tuple((x, cell.mean) for x, cell in cells if cell is not None)
            if kept:
                where = tuple(f"{short} {one.value}" for _, one, _ in kept)
                series.append(
                    Series(
                        look, tuple(x for x, *_ in kept), tuple(row for *_, row in kept), theirs, where, words.digits
                    )
                )
        charts.append((f"{percent(level)} sparsity, {rewound(rewind)}", f"Lines by {short}.", series))
    panels, note = panels_of(charts, partial(_value_axis, names=names, short=short), words)
    everything = [row.n for one in variants for row in accuracy_rows(one.results)]
    caption = f"Test {words.name} against {short}. {spread_note('Bands', everything)}{note}"
    return Finding(FigureSpec("accuracy_by_value", panels), (), caption)


def accuracy_by_rewind(variants: Sequence[VariantResults], short: str) -> Finding | None:
    """Return accuracy against the rewind point of LTH, naive and permuted: a panel for each sparsity and value."""
    places = []
    for level in sorted({level for one in variants for level in sparsities(accuracy_rows(one.results))}):
        for one in variants:
            rows = [row for row in accuracy_rows(one.results) if row.method in KEY and row.sparsity == level]
            order = rewind_order(row.rewind for row in rows)
            if len(order) > 1:
                places.append((one, level, order))
    if not places:
        return None
    panels: list[Panel] = []
    notes, words = [], MetricWords.of(places[0][0].results)
    styles = looks(KEY)
    for one, level, order in places[:MOST_PANELS]:
        series = series_of(one.results, styles, [(float(x), level, rewind) for x, rewind in enumerate(order)])
        title = f"{percent(level)} sparsity, {short} {one.value}"
        made, note = panels_of([(title, "", series)], partial(rewind_axis, rewinds=order), words)
        panels += made
        notes.append(note)
    counts = [row.n for one in variants for row in accuracy_rows(one.results)]
    caption = (
        f"Test {words.name} against the rewind point, each panel on a scale of its own. {spread_note('Bands', counts)}"
    )
    caption += max(notes, key=len) + left_out(len(panels), len(places), "panels", "accuracy")
    return Finding(FigureSpec("accuracy_by_rewind", tuple(panels)), (), caption)


def barriers_by_value(variants: Sequence[VariantResults], short: str) -> Finding | None:
    """Return the loss and accuracy barriers between A and B, moved and unmoved, with and without REPAIR."""
    names = [one.value for one in variants]
    pairs = [pair for pair in COLOURS if any(b.pair == pair for one in variants for b in one.results.of(Barrier))]
    panels, told, loss_unit = [], [], variants[0].results.experiment.metric.loss_unit
    for metric, unit in (("accuracy_barrier", "points"), ("loss_barrier", loss_unit)):
        title = metric.replace("_", " ")
        lines = []
        for pair in pairs:
            for repair in (False, True):
                points = [(float(x), stat) for x, one in enumerate(variants)
                          if (stat := _barrier(one.results, pair, repair, metric)) is not None]  # fmt: skip
                if points:
                    lines.append((PALETTE[COLOURS[pair]][0], repair, points))
        if lines:
            alt = f"{title}{unit and f' in {unit}'} by {short}, with and without REPAIR."
            draw = partial(_draw_barriers, lines=lines, names=names, short=short)
            panels.append(Panel(draw, title, unit or "loss", alt, 190.0))
    if not panels:
        return None
    for repair in (False, True):
        stats = [(one, _barrier(one.results, "permuted A to B", repair, "accuracy_barrier")) for one in variants]
        parts = [f"{number(s.mean)} points at {short} {one.value}" for one, s in stats if s is not None]
        if parts:
            with_words = "with" if repair else "without"
            told.append(f"The barrier from {WORDS['permuted A to B']} is {listed(parts)}, {with_words} REPAIR.")
    legend = [LegendEntry(WORDS.get(pair, pair), PALETTE[COLOURS[pair]][0]) for pair in pairs]
    legend += [LegendEntry("as it is", SOFT), LegendEntry("with REPAIR", SOFT, dash=REPAIR_DASH)]
    counts = [b.n for one in variants for b in one.results.of(Barrier)]
    caption = f"Barrier along the straight line against {short}; pruned networks at their highest sparsity. "
    caption += spread_note("Whiskers", counts)
    return Finding(FigureSpec("barriers_by_value", tuple(panels), tuple(legend)), tuple(told), caption)


def _barrier(results: Results, pair: str, repair: bool, metric: str) -> Drawn | None:
    mine = [one for one in results.of(Barrier) if (one.pair, one.repair) == (pair, repair)]
    found = max(mine, key=lambda one: one.sparsity or 0.0, default=None)
    stat = getattr(found, metric) if found is not None else None
    return stat if stat is not None and stat.mean is not None else None


def _draw_barriers(
    axes: Axes,
    lines: Sequence[tuple[str, bool, Sequence[tuple[float, Drawn]]]],
    names: Sequence[str],
    short: str,
) -> None:
    for colour, repair, points in lines:
        x, y = [place for place, _ in points], [stat.mean or 0.0 for _, stat in points]
        style = (0, REPAIR_DASH) if repair else "-"
        axes.plot(x, y, color=colour, linewidth=1.6, linestyle=style, marker="o", markersize=4.5, markeredgewidth=0)
        tell_line(axes, x, y, "with REPAIR" if repair else "as it is", 2)
        for place, stat in points:
            if stat.sd is not None and stat.mean is not None:
                axes.vlines(place, stat.mean - stat.sd, stat.mean + stat.sd, color=colour, linewidth=1.1)
    axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
    few_ticks(axes.yaxis, 6)
    _value_axis(axes, names, short)


def correlation_by_value(variants: Sequence[VariantResults], short: str) -> Finding | None:
    """Return the matched correlation, its mean over groups, against the swept value."""
    points = []
    for x, one in enumerate(variants):
        groups = [group.correlation.values for group in one.results.of(Match) if group.correlation.values]
        whole = [[value for value in values if value is not None] for values in groups]
        if whole and len({len(values) for values in (*groups, *whole)}) == 1:
            stat = Stat.of(fmean(seed) for seed in zip(*whole, strict=True))
            points.append((float(x), Drawn(n=stat.n, mean=stat.mean, sd=stat.sd)))
    if not points:
        return None
    names = [one.value for one in variants]
    lines = [(PALETTE["permuted"][0], False, points)]
    parts = [f"{number(stat.mean, 2)} at {short} {names[int(x)]}" for x, stat in points]
    told = f"The matched correlation, its mean over groups, is {listed(parts)}."
    draw = partial(_draw_barriers, lines=lines, names=names, short=short)
    panel = Panel(draw, label("matched correlation"), "mean over groups", told, 170.0)
    caption = "Matched correlation of A's units with B's, mean over groups. "
    caption += spread_note("Whiskers", (stat.n for _, stat in points))
    return Finding(FigureSpec("correlation_by_value", (panel,)), (told,), caption)
