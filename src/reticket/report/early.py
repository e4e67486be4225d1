"""Early matching: what aligning costs in accuracy when the units are matched before B's training ends."""

import re
from collections.abc import Sequence
from functools import partial

from reticket.figures.chart import Series
from reticket.figures.finding import MOST_PANELS, Finding, left_out
from reticket.figures.looks import label, looks
from reticket.figures.spec import Axes, FigureSpec
from reticket.figures.table import file_name
from reticket.figures.text import percent, position, rewind_order, rewound, spread_note
from reticket.report.accuracy import panels_of
from reticket.report.accuracy_rows import accuracy_rows, at
from reticket.report.against import published_cell
from reticket.report.metric_words import MetricWords
from reticket.report.training_positions import match_order
from reticket.tasks.results import Results
from reticket.tasks.rows import Row

REFERENCES = ("lth", "naive")


def early_matching(results: Results) -> Finding | None:
    """Return accuracy against the position of B at which the units were matched, or None with fewer than two."""
    order, rows, words = match_order(results), accuracy_rows(results), MetricWords.of(results)
    matched = [row for row in rows if row.match_at is not None]
    if len(order) < 2 or not matched:
        return None
    places = [(level, rewind) for level in sorted({row.sparsity for row in matched})
              for rewind in rewind_order(row.rewind for row in matched)]  # fmt: skip
    shown = places[-MOST_PANELS:]
    charts = [
        (f"{percent(level)} sparsity, {rewound(rewind)}", _says(rows, order, (level, rewind), words),
         _lines(results, order, level, rewind))
        for level, rewind in shown
    ]  # fmt: skip
    panels, note = panels_of(charts, partial(_axis, order=order), words)
    caption = (
        f"Test {words.name} against the position of B's dense training at which its units were matched to A's; LTH and "
        f"naive need no matching and are drawn as levels. {spread_note('Bands', (row.n for row in matched))}{note}"
    )
    caption += left_out(len(shown), len(places), "settings", file_name(words.name))
    says = tuple(filter(None, (_says(rows, order, shown[-1], words),)))
    return Finding(FigureSpec("early_matching", panels), says, caption)


def _lines(results: Results, order: Sequence[str], level: float, rewind: str) -> list[Series]:
    rows = [row for row in accuracy_rows(results) if (row.sparsity, row.rewind) == (level, rewind)]
    result, digits = [], MetricWords.of(results).digits
    for method, look in looks(row.method for row in rows).items():
        mine = [row for row in rows if row.method == method]
        if mine[0].match_at is None:
            if method in REFERENCES:
                result.append(
                    Series(look, tuple(map(float, range(len(order)))), tuple(mine[:1] * len(order)), digits=digits)
                )
            continue
        found = [(float(place), row) for place, here in enumerate(order) for row in mine if row.match_at == here]
        cells = [(x, published_cell(results.experiment, row)[0]) for x, row in found]
        theirs = tuple((x, cell.mean) for x, cell in cells if cell is not None)
        result.append(Series(look, tuple(x for x, _ in found), tuple(row for _, row in found), theirs, digits=digits))
    return result


def _axis(axes: Axes, order: Sequence[str]) -> float:
    last = len(order) - 1
    axes.set_xticks(range(len(order)), [short_position(one) for one in order])
    axes.set_xlim(-0.05 * last, 1.02 * last)
    axes.set_xlabel("B matched at (epoch of its dense training)")
    return float(last)


def short_position(place: str) -> str:
    """Return a position for an axis.

    >>> [short_position(place).replace(chr(160), " ") for place in ("20ep", "300it", "end", "0it")]
    ['20', '300 steps', 'end', '0']
    """
    if place == "end":
        return place
    words = position(place)
    return "0" if words == "initialisation" else re.sub("\u00a0epochs?$", "", words)


def _says(rows: Sequence[Row], order: Sequence[str], place: tuple[float, str], words: MetricWords) -> str:
    """Say what matching at the earliest position costs against the latest."""
    level, rewind = place
    here = [row for row in rows if (row.sparsity, row.rewind, row.method) == (level, rewind, "permuted")]
    ends = [next((row for row in here if row.match_at == at_step), None) for at_step in (order[0], order[-1])]
    naive = at(rows, "naive", level, rewind)
    if ends[0] is None or ends[1] is None or ends[0].mean is None or ends[1].mean is None:
        return ""
    first, last = short_position(order[0]), short_position(order[-1])
    text = f"At {percent(level)} sparsity, {rewound(rewind)}, matching B at {first} instead of {last} changes "
    text += f"{label('permuted')} by {words.number(ends[0].mean - ends[1].mean, 1, sign=True)}{words.points}"
    if naive is not None and naive.mean is not None:
        text += f" (it is {words.number(ends[0].mean - naive.mean, 1, sign=True)}{words.points} from naive then)"
    return f"{text}."
