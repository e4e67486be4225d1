"""What values look like in a terminal and in a notebook: few lines, short texts, small tables."""

from collections.abc import Iterable, Sequence
from html import escape

MOST_LINES = 10  # of a value in a terminal
MOST_ROWS = 20  # of a table in a notebook


def lines(head: str, rows: Sequence[str], most: int = MOST_LINES) -> str:
    """Return a head and the rows below it, the last of which are counted where there are too many.

    Args:
        head: the first line.
        rows: one line each.
        most: lines in all.

    >>> print(lines("Letters", ["a", "b", "c", "d"], most=4))
    Letters
      a
      b
      ... and 2 more
    """
    shown = list(rows) if len(rows) < most else [*rows[: most - 2], f"... and {len(rows) - most + 2} more"]
    return "\n  ".join([head, *shown])


def percent(share: float) -> str:
    """Return a share as a percentage that says 100 only when it is meant.

    >>> percent(0.5), percent(0.99996), percent(1.0)
    ('50 %', 'over 99.9 %', '100 %')
    """
    return "over 99.9 %" if 0.999 < share < 1 else f"{100 * share:.3g} %"


def shortened(text: str, width: int, *, end: bool = False) -> str:
    """Return the text in at most `width` characters, cut at its end or in its middle.

    >>> shortened("encoder.layers.0.attention.weight", 20)
    'encoder.l…ion.weight'
    """
    if len(text) <= width:
        return text
    if width < 2:
        return text[:width]
    if end:
        return text[: width - 1] + "…"
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], most: int = MOST_ROWS) -> str:
    """Return a small table as HTML, whose last rows are counted where there are too many.

    Args:
        caption: above it.
        columns: heads of the columns.
        rows: one value a column; numbers stand as they are, everything else as its text.
        most: rows that are shown.

    >>> html_table("Sizes", ["name", "size"], [("<a>", 3)])
    '<table><caption>Sizes</caption><tr><th>name</th><th>size</th></tr><tr><td>&lt;a&gt;</td><td>3</td></tr></table>'
    """
    every = [tuple(row) for row in rows]
    shown = [_row("td", row) for row in every[:most]]
    if len(every) > most:
        shown.append(f'<tr><td colspan="{len(columns)}">... and {len(every) - most} more</td></tr>')
    return f"<table><caption>{escape(caption)}</caption>{_row('th', columns)}{''.join(shown)}</table>"


def _row(cell: str, values: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(str(value))}</{cell}>" for value in values) + "</tr>"
