"""Columns that several tables have: where a row stands, how many values it is made of."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from reticket.figures.looks import label
from reticket.figures.table import Column, column
from reticket.figures.text import number, percent, position


def _several(name: str, rows: Sequence[Any]) -> bool:
    return len({getattr(row, name) for row in rows} - {None}) > 1


def _matched(at: str | None) -> str:
    return "" if at is None else "the end" if at == "end" else position(at)


METHOD = column("method", "method", label)
SPARSITY = column("sparsity", "sparsity", percent)
MATCHED = replace(column("match_at", "matched at", _matched), shown=partial(_several, "match_at"))
PLACE = (METHOD, SPARSITY, column("rewind", "rewind", position), MATCHED)
N = column("n", "n")


def decimals(name: str, head: str, digits: int, sign: bool = False) -> Column:
    """Return the column of a plain number, shown with as many digits after the point."""
    return column(name, head, partial(number, digits=digits, sign=sign))
