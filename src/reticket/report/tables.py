"""Every table of the report, by its columns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from reticket.report.barriers import WORDS
from reticket.report.methods import label
from reticket.report.order import difference_words
from reticket.report.schema import ClassCount, Difference, Exemplars, Gap, Results, Row
from reticket.report.table import Column, Table, column, file_name, measured
from reticket.report.text import DASH, duration, number, percent, plus_minus, position


def _thousands(value: float | None) -> str:
    return number(value) if value is None or value < 1000 else f"{value:,.0f}"


def _several(name: str, rows: Sequence[Any]) -> bool:
    return len({getattr(row, name) for row in rows} - {None}) > 1


def _matched(at: str | None) -> str:
    return "" if at is None else "the end" if at == "end" else position(at)


METHOD = column("method", "method", label)
SPARSITY = column("sparsity", "sparsity", percent)
MATCHED = replace(column("match_at", "matched at", _matched), shown=partial(_several, "match_at"))
PLACE = (METHOD, SPARSITY, column("rewind", "rewind", position), MATCHED)
N = column("n", "n")


def _single(name: str, head: str, digits: int) -> Column:
    """Return the column of a `Stat` that is one number, of one ensemble."""
    return column(name, head, partial(number, digits=digits), get=f"{name}.mean")


def _bounds(gap: Gap) -> str:
    return f"[{number(gap.low, 0)}, {number(gap.high, 0)}]"


def _seeds(one: Difference) -> str:
    return "settled" if one.settled else "over 10,000" if one.seeds is None else f"about {one.seeds:,}"


def _values(row: Row) -> str:
    return " ".join("" if value is None else repr(value) for value in row.values)


COLUMNS: dict[str, tuple[Column, ...]] = {
    "gap_closed": (
        *PLACE,
        column("share", "share closed (%)", partial(number, digits=0)),
        Column("interval", _bounds, lambda gap: {"low": gap.low, "high": gap.high}),
        column("gap", "gap (points)", partial(number, digits=2)),
        column("gap_low"),
        column("gap_high"),
        column("left", "left (points)", partial(number, digits=2)),
        column("confidence"),
        column("interval"),
        column("bootstrap_low"),
        column("bootstrap_high"),
        N,
    ),
    "differences": (
        *PLACE[1:],
        Column("difference", difference_words, lambda one: {"higher": one.higher, "lower": one.lower}),
        column("mean", "points", partial(number, digits=2, sign=True)),
        Column(
            "interval",
            lambda one: f"[{number(one.low, 2)}, {number(one.high, 2)}]",
            lambda one: {"low": one.low, "high": one.high, "confidence": one.confidence},
        ),
        column("sd", "sd", partial(number, digits=2)),
        N,
        Column("seeds to settle the sign", _seeds, lambda one: {"settled": one.settled, "seeds": one.seeds}),
    ),
    "barriers": (
        column("pair", "pair", lambda pair: str(WORDS.get(pair, pair))),
        SPARSITY,
        MATCHED,
        column("repair", "REPAIR", lambda repaired: "yes" if repaired else "no"),
        measured("loss_barrier", "loss barrier (nats)", 3),
        measured("accuracy_barrier", "accuracy barrier (points)", 2),
        N,
    ),
    "matching": (
        column("group", "group"),
        column("size", "units"),
        column("copies", "copies"),
        MATCHED,
        measured("correlation", "matched correlation", 3),
        measured("margin", "margin", 3),
        column("n", "n", get="correlation.n"),
    ),
    "overlap": (
        SPARSITY,
        column("layer", "layer", lambda layer: layer or "whole network"),
        column("mask", "mask"),
        measured("overlap", "shared with B's mask (%)"),
        measured("chance", "chance (%)", spread=False),
        column("n", "n", get="overlap.n"),
    ),
    "diversity": (
        *PLACE,
        column("protocol", "protocol"),
        column("members", "members"),
        _single("mean_accuracy", "mean (%)", 2),
        _single("ensemble_accuracy", "ensemble (%)", 2),
        column("gain", "gain (points)", partial(number, digits=2, sign=True)),
        _single("disagreement", "disagreement", 3),
        _single("kl", "KL (nats)", 3),
        _single("js", "JS (nats)", 3),
    ),
    "per_class": (
        *PLACE,
        column("class", "class", get="name"),
        measured("dense", "dense (%)"),
        measured("sparse", "sparse (%)"),
        measured("change", "change (points)"),
        column("n", "n", get="change.n"),
    ),
    "exemplars": (
        *PLACE,
        column("found", "exemplars"),
        column("images", "of images"),
        column("stable", "stable"),
        column("undecided", "undecided"),
        column("noise", "by chance", lambda value: DASH if value is None else str(value)),
        measured("dense_on_exemplars", "dense on them (%)"),
        measured("sparse_on_exemplars", "sparse on them (%)"),
        measured("dense_on_rest", "dense on the rest (%)"),
        measured("sparse_on_rest", "sparse on the rest (%)"),
        column("dense_networks", "dense networks"),
        column("sparse_networks", "sparse networks"),
    ),
    "exemplars_by_class": (
        *PLACE,
        column("class", "class", get="count.name"),
        column("found", "exemplars", get="count.found"),
        column("images", "of images", get="count.images"),
    ),
    "cost": (
        column("kind", "kind of task"),
        column("tasks", "tasks"),
        column("model_epochs", "model-epochs", _thousands),
        column("seconds", "time", duration),
    ),
    "failures": (column("label", "task"), column("error", "error")),
}


@dataclass(frozen=True)
class _ClassOf:
    """The exemplars of one class in one cell."""

    cell: Exemplars
    count: ClassCount

    method = property(lambda self: self.cell.method)
    sparsity = property(lambda self: self.cell.sparsity)
    rewind = property(lambda self: self.cell.rewind)
    match_at = property(lambda self: self.cell.match_at)


def all_tables(results: Results) -> dict[str, Table]:
    """Return the tables of every section that has data, by name."""
    tables = {table.name: table for table in _metrics(results.rows)}
    found = {name: getattr(results, name) for name in COLUMNS if name != "exemplars_by_class"}
    found["exemplars_by_class"] = [_ClassOf(one, count) for one in results.exemplars for count in one.classes]
    return tables | {name: Table.of(name, rows, COLUMNS[name]) for name, rows in found.items() if rows}


def _metrics(rows: Iterable[Row]) -> list[Table]:
    """Return one table for each metric; accuracy is in percent, others have more digits."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.metric, []).append(row)
    return [Table.of(file_name(metric), mine, _metric_columns(metric)) for metric, mine in found.items()]


def _metric_columns(metric: str) -> tuple[Column, ...]:
    return (
        METHOD,
        SPARSITY,
        column("true_sparsity", "true sparsity", percent),
        *PLACE[2:],
        column("metric"),
        Column(
            "mean ± sd",
            lambda row: plus_minus(row, 2 if metric == "accuracy" else 3),
            lambda row: {"mean": row.mean, "sd": row.sd},
        ),
        N,
        Column("", str, lambda row: {"values": _values(row)}),
    )
