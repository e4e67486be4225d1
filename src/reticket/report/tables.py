"""Every table of the report, by its columns; those of checks stand with them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from reticket.figures.columns import METHOD, PLACE, SPARSITY, N
from reticket.figures.table import Column, Table, column, file_name
from reticket.figures.text import duration, number, percent, plus_minus
from reticket.report.metric_words import MetricWords
from reticket.report.order import difference_words
from reticket.tasks.check import checks
from reticket.tasks.results import Results
from reticket.tasks.rows import Difference, Gap, Row


def _thousands(value: float | None) -> str:
    return number(value) if value is None or value < 1000 else f"{value:,.0f}"


def _bounds(gap: Gap) -> str:
    return f"[{number(gap.low, 0)}, {number(gap.high, 0)}]"


def _seeds(one: Difference) -> str:
    return "settled" if one.settled else "over 10,000" if one.seeds is None else f"about {one.seeds:,}"


def _values(row: Row) -> str:
    return " ".join("" if value is None else repr(value) for value in row.values)


def _columns(words: MetricWords) -> dict[str, tuple[Column, ...]]:
    """Return by section the columns of its table."""
    size = partial(words.number, more=1)
    return {
        "gap_closed": (
            *PLACE,
            column("share", "share closed (%)", partial(number, digits=0)),
            Column("interval", _bounds, lambda gap: {"low": gap.low, "high": gap.high}),
            column("gap", "gap (points)", size),
            column("gap_low"),
            column("gap_high"),
            column("left", "left (points)", size),
            column("confidence"),
            column("interval"),
            column("bootstrap_low"),
            column("bootstrap_high"),
            N,
        ),
        "differences": (
            *PLACE[1:],
            Column("difference", difference_words, lambda one: {"higher": one.higher, "lower": one.lower}),
            column("mean", "points", partial(size, sign=True)),
            Column(
                "interval",
                lambda one: f"[{size(one.low)}, {size(one.high)}]",
                lambda one: {"low": one.low, "high": one.high, "confidence": one.confidence},
            ),
            column("sd", "sd", size),
            N,
            Column("seeds to settle the sign", _seeds, lambda one: {"settled": one.settled, "seeds": one.seeds}),
        ),
        "cost": (
            column("kind", "kind of task"),
            column("tasks", "tasks"),
            column("model_epochs", "model-epochs", _thousands),
            column("seconds", "time", duration),
        ),
        "failures": (column("label", "task"), column("error", "error")),
    }


def all_tables(results: Results) -> dict[str, Table]:
    """Return the tables of every section that has data, by name."""
    words = MetricWords.of(results)
    tables = metric_tables(results.rows, words)
    sections = ((name, getattr(results, name), columns) for name, columns in _columns(words).items())
    tables |= {name: Table.of(name, rows, columns) for name, rows, columns in sections if rows}
    tables |= {name: table for check in checks() for name, table in check.tables(results).items()}
    return {name: words.in_heads(table) for name, table in tables.items()}


def metric_tables(
    rows: Iterable[Row], words: MetricWords, digits: Callable[[Sequence[Row], int], int] | None = None
) -> dict[str, Table]:
    """Return one table for each metric, by name; accuracy is in percent, others have more digits.

    Args:
        rows: of the table of a run.
        words: of its metric.
        digits: from the rows of a metric and its usual decimals to those it gets; the usual ones when None.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.metric, []).append(row)
    tables = []
    for metric, mine in found.items():
        usual = 2 if metric == "accuracy" else max(3, words.digits + 1)
        columns = _metric_columns(usual if digits is None else digits(mine, usual))
        tables.append(Table.of(file_name(metric), mine, columns))
    return {table.name: table for table in tables}


def _metric_columns(digits: int) -> tuple[Column, ...]:
    return (
        METHOD,
        SPARSITY,
        column("true_sparsity", "true sparsity", percent),
        *PLACE[2:],
        column("metric"),
        Column(
            "mean ± sd",
            lambda row: plus_minus(row, digits),
            lambda row: {"mean": row.mean, "sd": row.sd},
        ),
        N,
        Column("", str, lambda row: {"values": _values(row)}),
        column("own_epochs"),
        column("shared_epochs"),
    )
