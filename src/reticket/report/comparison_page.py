"""The page that compares runs: what they do not share, and every difference of their tables with its interval."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from markupsafe import Markup

from reticket.figures.chart import Dot, dots, name_room, row_height
from reticket.figures.drawing import draw
from reticket.figures.finding import Finding, some
from reticket.figures.looks import RULE, Look, label, looks
from reticket.figures.spec import Axes, FigureSpec, Panel
from reticket.figures.text import counts, listed, percent, plural, rewound
from reticket.report.compared_runs import (
    ComparedRun,
    RunPair,
    accuracy_table,
    difference_table,
    differing_settings,
)
from reticket.report.metric_words import MetricWords
from reticket.report.page import PageSection, render, write
from reticket.report.scale import scale_words
from reticket.tasks.comparison import Comparison


def write_comparison(runs: Sequence[ComparedRun], pairs: Sequence[RunPair], path: Path) -> None:
    """Write the page: one file that needs no other and asks no network.

    Args:
        runs: all of them, the reference first.
        pairs: the others beside the reference.
        path: of the page.

    Raises:
        InputError: when it cannot be written.
    """
    page = render(
        "compare.html.j2",
        alone=True,
        title=listed(run.name for run in runs),
        runs=runs,
        notices=list(comparison_notices(runs)),
        settings=differing_settings(runs),
        accuracies=accuracy_table(runs) if len(runs) > 2 else None,
        sections=[one for number, pair in enumerate(pairs, start=1) for one in _sections(number, pair)],
    )
    write(path, page)


def comparison_notices(runs: Sequence[ComparedRun]) -> Iterable[tuple[str, str]]:
    """Yield what a reader must know before the numbers, each as what to see first and the rest.

    Args:
        runs: all of them, the reference first.
    """
    reference = runs[0]
    for run in runs:
        if not run.results.complete:
            yield f"{run.name} is not complete.", "What is missing is left out below."
        if scaled := scale_words(run.results):
            yield f"{run.name}: {scaled}", "It shows that the experiment runs, not what it finds."
        if not run.results.same_data(reference.results):
            yield (
                f"{run.name} has other data than {reference.name}.",
                "No seeds are paired, and where the test data differ too, accuracies are not to be compared.",
            )


def _sections(number: int, pair: RunPair) -> Iterable[PageSection]:
    """Yield the section of what the runs are judged by, and one of each other metric with its table folded away."""
    about = f"Every cell of either run: {pair.run.name} less {pair.reference.name}."
    for metric in pair.metrics:
        table, title = difference_table(pair, metric), f"{pair.heading(metric).capitalize()}, {pair.name}"
        name = f"{metric}-{number}"
        if metric != pair.metric:
            yield PageSection(name, title, about, Finding(None, (), comparison_caption(pair)), table=table)
            continue
        finding = Finding(_figure(name, pair), comparison_says(pair), comparison_caption(pair) + _undrawn(pair))
        panels = () if finding.figure is None else tuple(map(Markup, draw(finding.figure).panels))
        yield PageSection(name, title, about, finding, panels, open=((title, table),))


def _figure(name: str, pair: RunPair) -> FigureSpec | None:
    """Return the differences in what the runs are judged by, a panel for each sparsity; None where there are none."""
    cells = [cell for cell in pair.of_metric(pair.metric) if cell.difference is not None]
    if all(cell.same for cell in cells):
        return None
    styles, limits = looks(cell.method for cell in cells), _limits(cells)
    shown = some(_levels(cells))
    panels = [_panel([cell for cell in cells if cell.sparsity == level], styles, limits, pair.words) for level in shown]
    return FigureSpec(name, tuple(panels))


def _levels(cells: Iterable[Comparison]) -> list[float]:
    """Return the sparsities that have a panel each: those above 0 where there are any."""
    levels = sorted({cell.sparsity for cell in cells})
    return [level for level in levels if level > 0] or levels


def _undrawn(pair: RunPair) -> str:
    levels = _levels(pair.of_metric(pair.metric))
    shown = len(some(levels))
    return "" if shown == len(levels) else f" {shown} of {len(levels)} sparsities are drawn; the table has all."


def _limits(cells: Iterable[Comparison]) -> tuple[float, float]:
    """Cover every difference with its interval, and 0, with some room."""
    ends = [end for cell in cells for end in (cell.difference, cell.low, cell.high, 0.0) if end is not None]
    room = 0.05 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def comparison_says(pair: RunPair) -> tuple[str, ...]:
    """Say in how many cells two runs differ beyond the noise, and where most.

    Args:
        pair: the runs.
    """
    known = [cell for cell in pair.of_metric(pair.metric) if cell.difference is not None]
    if not known:
        return ("The two runs have no cell in common.",)
    if all(cell.same for cell in known):
        return (f"{_cells(len(known))} that both runs have are equal, seed by seed.",)
    if all(cell.low is None for cell in known):
        up, down = (sum(sign * (cell.difference or 0.0) > 0 for cell in known) for sign in (1, -1))
        return (f"Of {_cells(len(known))} {up} are higher and {down} lower; one seed says nothing of the noise.",)
    apart = [cell for cell in known if cell.settled]
    higher = sum((cell.difference or 0.0) > 0 for cell in apart)
    told = f"In {len(apart)} of {_cells(len(known))} the {pair.metric} differs beyond the noise of the seeds"
    told += f": {higher} higher, {len(apart) - higher} lower." if apart else "."
    return (told, *([_largest(apart, pair.words)] if apart else []))


def _cells(count: int) -> str:
    return plural(count, "cell")


def _largest(cells: Iterable[Comparison], words: MetricWords) -> str:
    most = max(cells, key=lambda cell: abs(cell.difference or 0.0))
    where = "" if most.sparsity == 0 else f" at {percent(most.sparsity)} sparsity, {rewound(most.rewind)}"
    bounds = f"[{words.number(most.low, 1)}, {words.number(most.high, 1)}]"
    return (
        f"Most for {label(most.method)}{where}: {words.number(most.difference, 1, sign=True)}{words.points} {bounds}."
    )


def comparison_caption(pair: RunPair) -> str:
    """Return how the differences of two runs are to be read.

    Args:
        pair: the runs.
    """
    paired = [cell.n for cell in pair.cells if cell.n]
    level = next((cell.confidence for cell in pair.cells if cell.confidence), None)
    kind = f"paired by seed, {counts(paired)}" if paired else "of the means, since no seeds are paired"
    text = f"Differences {kind}"
    if level is None:
        return f"{text}; one seed has no interval."
    test = "Student's t" if paired else "Welch's t"
    chance = f"about {percent(1 - level)} of such intervals exclude 0 by chance"
    return f"{text}, with {percent(level)} intervals by {test}; of runs that do not differ, {chance}."


def _panel(
    cells: Sequence[Comparison], styles: dict[str, Look], limits: tuple[float, float], words: MetricWords
) -> Panel:
    several = len({cell.rewind for cell in cells} - {None}) > 1
    shown = sorted(cells, key=lambda cell: list(styles).index(cell.method))
    names = [_name(cell, several) for cell in shown]
    points = [
        Dot(row, cell.difference or 0.0, styles[cell.method].hex, cell.low, cell.high, styles[cell.method].mark)
        for row, cell in enumerate(shown)
    ]
    title = f"{percent(cells[0].sparsity)} sparsity"
    unit = f" ({words.points.strip()})" if words.points.strip() else ""
    draw_dots = partial(_draw, names=names, points=points, limits=limits, what=f"difference in {words.name}{unit}")
    return Panel(
        draw_dots, title, "", f"Differences in {words.name}, {title}.", row_height(len(names), 14.0), name_room(names)
    )


def _name(cell: Comparison, several: bool) -> str:
    return f"{label(cell.method)}, {cell.rewind}" if several and cell.rewind else label(cell.method)


def _draw(axes: Axes, names: Sequence[str], points: Sequence[Dot], limits: tuple[float, float], what: str) -> None:
    dots(axes, names, points, limits)
    axes.axvline(0, color=RULE, linewidth=1.1, zorder=1)
    axes.set_xlabel(what)
