"""Accuracy against sparsity and against the rewind point, every method with its band."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from reticket.figures import published
from reticket.figures.chart import (
    MOST_LABELS,
    Dot,
    Series,
    bounds,
    dot_of,
    dots,
    label_room,
    lines,
    name_room,
    row_height,
    sparsity_axis,
    sparsity_places,
)
from reticket.figures.finding import MOST_PANELS, Finding, left_out, some
from reticket.figures.looks import Look, label, looks
from reticket.figures.spec import Axes, FigureSpec, LegendEntry, Panel, method_key
from reticket.figures.table import file_name
from reticket.figures.text import listed, number, percent, position, rewind_order, rewound, spread_note
from reticket.report.accuracy_rows import accuracy_rows, at, sparsities
from reticket.report.against import published_cell
from reticket.report.metric_words import MetricWords
from reticket.tasks.results import Results
from reticket.tasks.rows import Row

BELOW = " Triangles on the axis mark points below it."


def by_sparsity(results: Results) -> Finding | None:
    """Return accuracy against sparsity, a panel for each rewind point."""
    rows, words = accuracy_rows(results), MetricWords.of(results)
    levels = sparsities(rows)
    if not levels:
        return None
    rewinds: list[str | None] = [*rewind_order(row.rewind for row in rows)] or [None]
    shown = rewinds[:MOST_PANELS]
    styles = looks(row.method for row in rows)
    if len(levels) == 1:
        return _by_method(results, levels[0], shown, styles)
    places = list(zip(sparsity_places(levels), levels, strict=True))
    charts = [
        (
            rewound(rewind),
            _ends(rows, levels, rewind, words),
            series_of(results, styles, [(x, level, rewind) for x, level in places]),
        )
        for rewind in shown
    ]
    panels, note = panels_of(charts, partial(sparsity_axis, levels=levels), words)
    caption = f"Test {words.name} against nominal sparsity, on a scale by the share of weights kept. {_n(rows)}"
    caption += note + left_out(len(shown), len(rewinds), "rewind points", file_name(words.name))
    says = tuple(filter(None, (_ends(rows, levels, shown[-1], words), _wins(rows, words))))
    return Finding(FigureSpec("accuracy_by_sparsity", panels, _legend(styles)), says, caption)


def by_rewind(results: Results) -> Finding | None:
    """Return accuracy against the rewind point, a panel for each sparsity, or None with fewer than two points."""
    rows, words = accuracy_rows(results), MetricWords.of(results)
    rewinds = rewind_order(row.rewind for row in rows)
    levels = sparsities([row for row in rows if row.rewind is not None])
    if len(rewinds) < 2 or not levels:
        return None
    shown = some(levels)
    styles = looks(row.method for row in rows)
    charts = [
        (
            f"{percent(level)} sparsity",
            _gain(rows, rewinds, level, words),
            series_of(results, styles, [(float(place), level, rewind) for place, rewind in enumerate(rewinds)]),
        )
        for level in shown
    ]
    panels, note = panels_of(charts, partial(rewind_axis, rewinds=rewinds), words)
    caption = f"Test {words.name} against the rewind point; the points stand at equal distances. {_n(rows)}"
    caption += note + left_out(len(shown), len(levels), "sparsities", file_name(words.name))
    says = tuple(filter(None, (_gain(rows, rewinds, shown[-1], words),)))
    return Finding(FigureSpec("accuracy_by_rewind", panels, _legend(styles)), says, caption)


def panels_of(
    charts: Sequence[tuple[str, str, Sequence[Series]]], finish: Callable[[Axes], float], words: MetricWords
) -> tuple[tuple[Panel, ...], str]:
    """Return a panel for each (title, what it says, series), all on one vertical scale, and a note on what is cut."""
    everything = [one for _, _, series in charts for one in series]
    limits = bounds(everything)
    panels = tuple(
        Panel(
            partial(_draw, series=series, limits=limits, finish=finish),
            title,
            words.heading,
            f"{words.heading}, {title}. {says}",
            height=max(190.0, 10.5 * min(len(series), MOST_LABELS) + 40),
            right=label_room(series, limits),
        )
        for title, says, series in charts
    )
    below = any(stat.mean is not None and stat.mean < limits[0] for one in everything for stat in one.stats)
    theirs = [value for one in everything for _, value in one.published]
    note = BELOW if below else ""
    note += _published_note("Faint open marks", theirs, limits)
    return panels, note


def _published_note(marks: str, values: Iterable[float], limits: tuple[float, float]) -> str:
    """Say what the marks of published values are, or that none of them fits the axis."""
    fits = [limits[0] <= value <= limits[1] for value in values]
    if not fits:
        return ""
    if not any(fits):
        return f" The published accuracies, {published.source()}, lie outside the axis."
    return f" {marks}: published, {published.source()}{'' if all(fits) else ', where they fit the axis'}."


def _legend(styles: dict[str, Look]) -> tuple[LegendEntry, ...]:
    """Return a legend where the lines are too many to be named in the chart."""
    return tuple(method_key(look) for look in styles.values()) if len(styles) > MOST_LABELS else ()


def _n(rows: Sequence[Row], marks: str = "Bands") -> str:
    return spread_note(marks, (row.n for row in rows))


def series_of(results: Results, styles: dict[str, Look], places: list[tuple[float, float, str | None]]) -> list[Series]:
    """Return a line for each method through (place, sparsity, rewind), with the published values beside it."""
    rows, result, digits = accuracy_rows(results), [], MetricWords.of(results).digits
    for method, look in styles.items():
        found = [
            (x, at(rows, method, sparsity, rewind), f"{percent(sparsity)}, {rewound(rewind)}")
            for x, sparsity, rewind in places
        ]
        kept = [(x, row, where) for x, row, where in found if row is not None]
        cells = [(x, published_cell(results.experiment, row)[0]) for x, row, _ in kept]
        theirs = tuple((x, cell.mean) for x, cell in cells if cell is not None)
        if kept:
            x, stats, where = zip(*kept, strict=True)
            result.append(Series(look, x, stats, theirs, where, digits))
    return result


def _draw(axes: Axes, series: Sequence[Series], limits: tuple[float, float], finish: Callable[[Axes], float]) -> None:
    lines(axes, series, limits, finish(axes))


def rewind_axis(axes: Axes, rewinds: Sequence[str]) -> float:
    """Set up the horizontal axis for rewind points at equal distances; return where it ends."""
    words = ["0" if position(rewind) == "initialisation" else position(rewind) for rewind in rewinds]
    units = {word.rsplit("\u00a0")[-1].rstrip("s") for word in words} - {"0"}
    name = "rewind point (0 is the initialisation)" if "0" in words else "rewind point"
    if len(units) == 1:
        unit = f"{units.pop()}s"
        words = [word.partition("\u00a0")[0] for word in words]
        name = f"rewind point ({unit}; 0 is the initialisation)" if "0" in words else f"rewind point ({unit})"
    last = len(rewinds) - 1
    axes.set_xticks(range(len(rewinds)), words)
    axes.set_xlim(-0.05 * last, last + 0.02 * last)
    axes.set_xlabel(name)
    return float(last)


def _by_method(results: Results, level: float, rewinds: Sequence[str | None], styles: dict[str, Look]) -> Finding:
    """Return the figure for a single sparsity: methods in rows, since a line needs two points."""
    words = MetricWords.of(results)
    rows, names = accuracy_rows(results), [look.label for look in styles.values()]
    theirs = {
        (row.method, row.rewind): cell.mean
        for row in rows
        if (cell := published_cell(results.experiment, row)[0]) is not None
    }
    everything = [
        Series(
            look,
            (),
            tuple(row for row in rows if row.method == name),
            tuple((0.0, mean) for (method, _), mean in theirs.items() if method == name),
        )
        for name, look in styles.items()
    ]
    limits = bounds(everything, tuple(look.role for look in styles.values()))
    panels = []
    for rewind in rewinds:
        points = [
            dot
            for index, (method, look) in enumerate(styles.items())
            if (row := at(rows, method, level, rewind)) is not None
            and (dot := dot_of(index, row, look.hex, look.mark, method, words.digits)) is not None
        ]
        points += [
            Dot(
                index,
                mean,
                look.hex,
                marker=look.mark,
                filled=False,
                method=method,
                text=f"{look.label}, published: {number(mean)}",
            )
            for index, (method, look) in enumerate(styles.items())
            if (mean := theirs.get((method, rewind))) is not None and limits[0] <= mean <= limits[1]
        ]
        alt = f"Test {words.name} of each method at {percent(level)} sparsity, {rewound(rewind)}."
        draw = partial(_draw_dots, names=names, points=points, limits=limits, unit=words.heading)
        panels.append(Panel(draw, rewound(rewind), "method", alt, row_height(len(names)), name_room(names)))
    caption = f"Test {words.name} at {percent(level)} sparsity. {_n(rows, 'Whiskers')}"
    caption += _published_note("Open marks", theirs.values(), limits)
    says = tuple(filter(None, (_wins(rows, words),)))
    title = f"{words.name.capitalize()} at {percent(level)} sparsity"
    return Finding(FigureSpec("accuracy_by_sparsity", tuple(panels)), says, caption, title=title)


def _draw_dots(axes: Axes, names: Sequence[str], points: Sequence[Dot], limits: tuple[float, float], unit: str) -> None:
    dots(axes, names, points, limits)
    axes.set_xlabel(unit)


def _changes(
    rows: Sequence[Row], first: tuple[float, str | None], last: tuple[float, str | None], words: MetricWords
) -> str:
    """Say how the three networks of the method change from one setting to another, "by +1.0 points for LTH and ..."."""
    told = []
    for method in ("lth", "permuted", "naive"):
        before, after = at(rows, method, *first), at(rows, method, *last)
        if before is not None and after is not None and before.mean is not None and after.mean is not None:
            unit = "" if told else words.points
            told.append(f"{words.number(after.mean - before.mean, sign=True)}{unit} for {label(method)}")
    return f"changes {words.name} by {listed(told)}" if told else ""


def _ends(rows: Sequence[Row], levels: Sequence[float], rewind: str | None, words: MetricWords) -> str:
    """Say how far the networks fall from the lowest sparsity to the highest."""
    changes = _changes(rows, (levels[0], rewind), (levels[-1], rewind), words)
    ends = f"{rewound(rewind).capitalize()}, going from {percent(levels[0])} to {percent(levels[-1])} sparsity"
    return f"{ends} {changes}." if changes and len(levels) > 1 else ""


def _gain(rows: Sequence[Row], rewinds: Sequence[str], sparsity: float, words: MetricWords) -> str:
    """Say what rewinding later gives."""
    changes = _changes(rows, (sparsity, rewinds[0]), (sparsity, rewinds[-1]), words)
    ends = f"{rewound(rewinds[-1])} instead of {rewound(rewinds[0]).removeprefix('rewound to ')}"
    return f"At {percent(sparsity)} sparsity, being {ends} {changes}." if changes else ""


def _wins(rows: Sequence[Row], words: MetricWords) -> str:
    """Say how often aligning the mask beats moving it as it is."""
    pairs = [
        words.metric.better_by(row.mean, other.mean)
        for row in rows
        if row.method == "permuted"
        and (other := at(rows, "naive", row.sparsity, row.rewind)) is not None
        and row.mean is not None
        and other.mean is not None
    ]
    if not pairs:
        return ""
    ahead = sum(pair > 0 for pair in pairs)
    mean = words.number(sum(pairs) / len(pairs), sign=True)
    ranks = "above" if words.metric.higher_is_better else "better than"
    return (
        f"The permuted ticket is {ranks} naive in {ahead} of {len(pairs)} settings, by {mean}{words.points} on average."
    )
