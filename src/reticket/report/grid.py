"""The main table: methods down, sparsities and rewind points across, the best method that needs no oracle marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reticket.figures.looks import Look, is_oracle, looks
from reticket.figures.text import number, percent, position, rewind_order
from reticket.report.accuracy_rows import accuracy_rows, at, sparsities
from reticket.report.gap import interval, open_gap
from reticket.report.metric_words import MetricWords
from reticket.tasks.results import Results
from reticket.tasks.rows import Row

SPARED = 4  # matrices that are named


@dataclass(frozen=True)
class GridCell:
    """One number with its spread; `span` columns share it when the method has no rewind point."""

    mean: str
    sd: str
    n: int
    span: int = 1
    best: bool = False

    @property
    def text(self) -> str:
        """Mean and spread, "93.2 ± 0.4"."""
        return f"{self.mean}{self.sd and f' ± {self.sd}'}"


@dataclass(frozen=True)
class GridColumn:
    """A sparsity with its true value, and the rewind points under it."""

    nominal: str
    true: str
    rewinds: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The main table as the page and Markdown show it."""

    columns: tuple[GridColumn, ...]
    rows: tuple[tuple[Look, tuple[GridCell, ...]], ...]
    same_n: int | None
    spared: str = ""
    words: MetricWords = field(default_factory=MetricWords)

    def parts(self, most: int = 2) -> tuple["Grid", ...]:
        """Return tables with at most so many columns each, every one of a single sparsity, for a narrow page.

        Args:
            most: columns.
        """
        found, start = list["Grid"](), 0
        for column in self.columns:
            for first in range(0, len(column.rewinds), most):
                rewinds = column.rewinds[first : first + most]
                ends = (start + first, start + first + len(rewinds))
                rows = tuple((look, _between(cells, *ends)) for look, cells in self.rows)
                found.append(Grid((replace(column, rewinds=rewinds),), rows, self.same_n, words=self.words))
            start += len(column.rewinds)
        return tuple(found)

    def to_markdown(self, *, bold: bool = True) -> str:
        """Return the table for Markdown.

        Args:
            bold: whether the best methods are.
        """
        heads = [f"{column.nominal}, {rewind}" for column in self.columns for rewind in column.rewinds]
        lines = [f"| method | {' | '.join(heads)} |", f"|{' --- |' * (len(heads) + 1)}"]
        for look, cells in self.rows:
            texts = [text for cell in cells for text in [_markdown(cell, bold)] * cell.span]
            lines.append(f"| {look.label.replace('|', '/')} | {' | '.join(texts)} |")
        return "\n".join([*lines, ""])


def _between(cells: Sequence[GridCell], start: int, end: int) -> tuple[GridCell, ...]:
    """Return the cells that stand in the columns from `start` to before `end`, cut to these."""
    found, at = [], 0
    for cell in cells:
        shared = min(end, at + cell.span) - max(start, at)
        if shared > 0:
            found.append(replace(cell, span=shared))
        at += cell.span
    return tuple(found)


def grid(results: Results, digits: int | None = None) -> Grid | None:
    """Return the table of test accuracies (percent), or of another metric; None when there is none.

    Args:
        results: of a run, at one position of matching.
        digits: decimals of its numbers; None for those of the metric.
    """
    rows, words = accuracy_rows(results), MetricWords.of(results)
    words = words if digits is None else replace(words, digits=digits)
    if not rows:
        return None
    levels, rewinds = _axes(rows)
    columns = tuple(
        GridColumn(percent(level), _true(rows, level), tuple(position(rewind) for rewind in rewinds))
        for level in levels
    )
    styles = looks(row.method for row in rows)
    best = {(level, rewind): _best(rows, level, rewind, words) for level in levels for rewind in rewinds}
    body = tuple(
        (look, _line([row for row in rows if row.method == method], levels, rewinds, best, words))
        for method, look in styles.items()
    )
    counted = {row.n for row in rows}
    return Grid(
        columns, body, counted.pop() if len(counted) == 1 else None, _spared(results.experiment.unpruned), words
    )


def closed_by_column(results: Results, method: str = "permuted") -> tuple[str, ...]:
    """Return by column of the table the share of the LTH - naive gap that a method closes, "81 % [25, 111]".

    Args:
        results: of a run.
        method: which.

    Returns:
        A dash where the gap is not clearly above 0; nothing at all where the method has no share anywhere.
    """
    found = {(gap.sparsity, gap.rewind): gap for gap in results.gap_closed if gap.method == method}
    if not found:
        return ()
    levels, rewinds = _axes(accuracy_rows(results))
    gaps = [found.get((level, rewind)) for level in levels for rewind in rewinds]
    return tuple(interval(gap) if gap and gap.share is not None and open_gap(gap) else "–" for gap in gaps)


def _axes(rows: Sequence[Row]) -> tuple[list[float], list[str | None]]:
    """Return the sparsities and the rewind points whose pairs are the columns."""
    return sparsities(rows) or [0.0], [*rewind_order(row.rewind for row in rows)] or [None]


def _markdown(cell: GridCell, bold: bool) -> str:
    return f"**{cell.text}**" if cell.best and bold else cell.text


def _true(rows: Sequence[Row], level: float) -> str:
    """Return the true sparsity (of all weights) over the methods at this nominal one."""
    seen = sorted(
        {round(row.true_sparsity, 4) for row in rows if row.sparsity == level and row.true_sparsity is not None}
    )
    if not seen:
        return ""
    return percent(seen[0]) if seen[-1] - seen[0] < 0.0006 else f"{number(100 * seen[0], 2)} to {percent(seen[-1])}"


def _spared(unpruned: Mapping[str, float]) -> str:
    """Return the largest of the matrices that pruning spares, with their shares of the weights in all."""
    largest = sorted(unpruned, key=lambda name: -unpruned[name])
    named = [f"{name} ({percent(unpruned[name])})" for name in largest[:SPARED]]
    more = f" and {len(largest) - SPARED} more" if len(largest) > SPARED else ""
    return ", ".join(named) + more


def _best(rows: Sequence[Row], level: float, rewind: str | None, words: MetricWords) -> str | None:
    mine = [row for row in rows if (row.sparsity, row.rewind) == (level, rewind) and not is_oracle(row.method)]
    return words.best(mine).method if len(mine) > 1 else None


def _line(
    mine: Sequence[Row],
    levels: Sequence[float],
    rewinds: Sequence[str | None],
    best: Mapping[tuple[float, str | None], str | None],
    words: MetricWords,
) -> tuple[GridCell, ...]:
    """Return the cells of one method."""
    method = mine[0].method
    if all(row.sparsity == 0 for row in mine):
        return (_cell(mine[0], words, len(levels) * len(rewinds)),)
    cells = []
    for level in levels:
        here = [row for row in mine if row.sparsity == level]
        if here and all(row.rewind is None for row in here):
            cells.append(_cell(here[0], words, len(rewinds)))
            continue
        cells += [_cell(at(here, method, level, rewind), words, 1, best[level, rewind] == method) for rewind in rewinds]
    return tuple(cells)


def _cell(row: Row | None, words: MetricWords, span: int, best: bool = False) -> GridCell:
    if row is None:
        return GridCell("–", "", 0, span)
    mean, _, sd = words.plus_minus(row).partition(" ± ")
    return GridCell(mean, sd, row.n, span, best)
