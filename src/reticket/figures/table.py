"""A table of the report: described once by its columns, written as CSV (all digits), Markdown and rows of a page."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reticket.figures.text import number, plus_minus
from reticket.records import Stat

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One column: `head` and `text` for readers, `record` for CSV.

    Args:
        head: its name on the page; empty where only the CSV has it.
        text: what a row shows.
        record: the CSV's names and values.
        shown: whether a page of these rows has it.
    """

    head: str
    text: Callable[[Any], str]
    record: Callable[[Any], Mapping[str, Value]]
    shown: Callable[[Sequence[Any]], bool] = bool


@dataclass(frozen=True)
class Table:
    """`records` go to CSV as they are; `head` and `body` are the same, rounded and in words."""

    name: str
    records: tuple[Mapping[str, Value], ...]
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, name: str, rows: Sequence[Any], columns: Sequence[Column]) -> "Table":
        """Return the table of `rows` by `columns`."""
        shown = [column for column in columns if column.head and column.shown(rows)]
        records = tuple({key: value for c in columns for key, value in c.record(row).items()} for row in rows)
        return cls(
            name, records, tuple(c.head for c in shown), tuple(tuple(c.text(row) for c in shown) for row in rows)
        )

    def with_units(self, units: Mapping[str, str]) -> "Table":
        """Return the table with other units in its heads, where they stand in brackets or alone; the CSV stays.

        >>> Table("t", (), ("gap (points)", "points"), ()).with_units({"points": ""}).head
        ('gap', 'difference')
        """
        head = list(self.head)
        for seen, unit in units.items():
            head = [text.replace(f" ({seen})", f" ({unit})" if unit else "") for text in head]
            head = [unit or "difference" if text == seen else text for text in head]
        return replace(self, head=tuple(head))

    def to_csv(self) -> str:
        """Return the records; numbers keep every digit, what is missing is empty, and no text is a sheet's formula."""
        text = io.StringIO()
        columns = list(self.records[0]) if self.records else []
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _plain(value) for key, value in row.items()} for row in self.records)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Return a table that Markdown renders; signs of its grammar are escaped."""
        lines = [self.head, ["---"] * len(self.head), *self.body]
        return "".join(f"| {' | '.join(_markdown(cell) for cell in line)} |\n" for line in lines)


def _plain(value: Value) -> Value:
    """Return a value as a sheet shows it and does not compute it: an apostrophe stands before what begins a formula.

    >>> [_plain(value) for value in (None, -1.5, "cat", "=1+1", "-cat", "-1.5")]
    ['', -1.5, 'cat', "'=1+1", "'-cat", '-1.5']
    """
    if value is None:
        return ""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _markdown(cell: str) -> str:
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", cell).replace("\n", " ")


def column(name: str, head: str = "", text: Callable[[Any], str] = str, get: str | None = None) -> Column:
    """Return the column of one field.

    Args:
        name: in the CSV.
        head: on the page; empty leaves it to the CSV.
        text: how its value is shown.
        get: the attribute, with dots; `name` when None.
    """

    def value(row: Any) -> Any:
        for part in (get or name).split("."):
            row = getattr(row, part)
        return row

    return Column(head, lambda row: text(value(row)), lambda row: {name: value(row)})


def measured(name: str, head: str, digits: int = 1, spread: bool = True) -> Column:
    """Return the column of a field that is a `Stat`: mean and sd in the CSV, "mean ± sd" on the page."""

    def text(row: Any) -> str:
        stat: Stat = getattr(row, name)
        return plus_minus(stat, digits) if spread else number(stat.mean, digits)

    def record(row: Any) -> dict[str, Value]:
        stat: Stat = getattr(row, name)
        return {f"{name}_mean": stat.mean, f"{name}_sd": stat.sd}

    return Column(head, text, record)


def file_name(name: str) -> str:
    """Return a name that is safe as a file's.

    >>> file_name("top-5 / accuracy")
    'top-5-accuracy'
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "metric"
