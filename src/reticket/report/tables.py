"""Every table of the report as CSV (all digits) and Markdown (rounded), and as rows for the page."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reticket.report.barriers import WORDS
from reticket.report.methods import label
from reticket.report.schema import Results, Row, Stat
from reticket.report.text import duration, number, percent, plus_minus, position

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """`records` go to CSV as they are; `head` and `body` are the same, rounded and in words."""

    name: str
    records: tuple[Mapping[str, Value], ...]
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]

    def to_csv(self) -> str:
        """Return the records; numbers keep every digit, what is missing is empty."""
        text = io.StringIO()
        columns = list(self.records[0]) if self.records else []
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in self.records)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Return a table that Markdown renders; signs of its grammar are escaped."""
        lines = [self.head, ["---"] * len(self.head), *self.body]
        return "".join(f"| {' | '.join(_markdown(cell) for cell in line)} |\n" for line in lines)


def all_tables(results: Results) -> dict[str, Table]:
    """Return the tables of every section that has data, by name."""
    makers: tuple[tuple[str, Callable[[Results], Table], Sequence[object]], ...] = (
        ("gap_closed", _gap_closed, results.gap_closed),
        ("barriers", _barriers, results.barriers),
        ("matching", _matching, results.matching),
        ("overlap", _overlap, results.overlap),
        ("diversity", _diversity, results.diversity),
        ("per_class", _per_class, results.per_class),
        ("cost", _cost, results.cost),
        ("failures", _failures, results.failures),
    )
    tables = {table.name: table for table in _metrics(results.rows)}
    return tables | {name: make(results) for name, make, data in makers if data}


def _markdown(cell: str) -> str:
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", cell).replace("\n", " ")


def _cells(prefix: str, stat: Stat) -> dict[str, Value]:
    return {f"{prefix}_mean": stat.mean, f"{prefix}_sd": stat.sd}


def _place(one: object) -> dict[str, Value]:
    return {name: getattr(one, name) for name in ("method", "sparsity", "rewind")}


def _where(method: str, sparsity: float, rewind: str | None) -> tuple[str, str, str]:
    return label(method), percent(sparsity), position(rewind)


def file_name(name: str) -> str:
    """Return a name that is safe as a file's.

    >>> file_name("top-5 / accuracy")
    'top-5-accuracy'
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "metric"


def _metrics(rows: Iterable[Row]) -> list[Table]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.metric, []).append(row)
    head = ("method", "sparsity", "true sparsity", "rewind", "mean ± sd", "n")
    tables = []
    for metric, mine in found.items():
        records = tuple(
            _place(row)
            | {"true_sparsity": row.true_sparsity, "metric": row.metric, "n": row.n, "mean": row.mean, "sd": row.sd}
            | {"values": " ".join("" if value is None else repr(value) for value in row.values)}
            for row in mine
        )
        digits = 2 if metric == "accuracy" else 3
        body = tuple(
            (
                label(row.method),
                percent(row.sparsity),
                percent(row.true_sparsity),
                position(row.rewind),
                plus_minus(row, digits),
                str(row.n),
            )
            for row in mine
        )
        tables.append(Table(file_name(metric), records, head, body))
    return tables


def _gap_closed(results: Results) -> Table:
    records = tuple(one.model_dump() for one in results.gap_closed)
    head = ("method", "sparsity", "rewind", "share closed (%)", "interval", "gap (points)", "left (points)", "n")
    body = tuple(
        (
            *_where(one.method, one.sparsity, one.rewind),
            number(one.share, 0),
            f"[{number(one.low, 0)}, {number(one.high, 0)}]",
            number(one.gap, 2),
            number(one.left, 2),
            str(one.n),
        )
        for one in results.gap_closed
    )
    return Table("gap_closed", records, head, body)


def _barriers(results: Results) -> Table:
    records = tuple(
        {"pair": one.pair, "repair": one.repair, "sparsity": one.sparsity, "n": one.n}
        | _cells("loss_barrier", one.loss_barrier)
        | _cells("accuracy_barrier", one.accuracy_barrier)
        for one in results.barriers
    )
    head = ("pair", "sparsity", "REPAIR", "loss barrier (nats)", "accuracy barrier (points)", "n")
    body = tuple(
        (
            WORDS.get(one.pair, one.pair),
            percent(one.sparsity),
            "yes" if one.repair else "no",
            plus_minus(one.loss_barrier, 3),
            plus_minus(one.accuracy_barrier, 2),
            str(one.n),
        )
        for one in results.barriers
    )
    return Table("barriers", records, head, body)


def _matching(results: Results) -> Table:
    records = tuple(
        {"group": one.group, "size": one.size, "copies": one.copies, "n": one.correlation.n}
        | _cells("correlation", one.correlation)
        | _cells("margin", one.margin)
        for one in results.matching
    )
    head = ("group", "units", "copies", "matched correlation", "margin", "n")
    body = tuple(
        (
            one.group,
            str(one.size),
            str(one.copies),
            plus_minus(one.correlation, 3),
            plus_minus(one.margin, 3),
            str(one.correlation.n),
        )
        for one in results.matching
    )
    return Table("matching", records, head, body)


def _overlap(results: Results) -> Table:
    records = tuple(
        {"sparsity": one.sparsity, "layer": one.layer, "mask": one.mask, "n": one.overlap.n}
        | _cells("overlap", one.overlap)
        | _cells("chance", one.chance)
        for one in results.overlap
    )
    head = ("sparsity", "layer", "mask", "shared with B's mask (%)", "chance (%)", "n")
    body = tuple(
        (
            percent(one.sparsity),
            one.layer or "whole network",
            one.mask,
            plus_minus(one.overlap),
            number(one.chance.mean),
            str(one.overlap.n),
        )
        for one in results.overlap
    )
    return Table("overlap", records, head, body)


def _diversity(results: Results) -> Table:
    names = ("mean_accuracy", "ensemble_accuracy", "disagreement", "kl", "js")
    records = tuple(
        _place(one)
        | {"protocol": one.protocol, "members": one.members}
        | {name: getattr(one, name).mean for name in names}
        for one in results.diversity
    )
    head = (
        "method", "sparsity", "rewind", "protocol", "members", "mean (%)", "ensemble (%)", "gain (points)",
        "disagreement", "KL (nats)", "JS (nats)",
    )  # fmt: skip
    body = tuple(
        (
            *_where(one.method, one.sparsity, one.rewind),
            one.protocol,
            str(one.members),
            number(one.mean_accuracy.mean, 2),
            number(one.ensemble_accuracy.mean, 2),
            number(one.gain, 2, sign=True),
            number(one.disagreement.mean, 3),
            number(one.kl.mean, 3),
            number(one.js.mean, 3),
        )
        for one in results.diversity
    )
    return Table("diversity", records, head, body)


def _per_class(results: Results) -> Table:
    records = tuple(
        _place(one)
        | {"class": one.name, "n": one.change.n}
        | _cells("dense", one.dense)
        | _cells("sparse", one.sparse)
        | _cells("change", one.change)
        for one in results.per_class
    )
    head = ("method", "sparsity", "rewind", "class", "dense (%)", "sparse (%)", "change (points)", "n")
    body = tuple(
        (
            *_where(one.method, one.sparsity, one.rewind),
            one.name,
            plus_minus(one.dense),
            plus_minus(one.sparse),
            plus_minus(one.change),
            str(one.change.n),
        )
        for one in results.per_class
    )
    return Table("per_class", records, head, body)


def _cost(results: Results) -> Table:
    records = tuple(one.model_dump() for one in results.cost)
    head = ("kind of task", "tasks", "model-epochs", "time")
    body = tuple(
        (one.kind, str(one.tasks), _thousands(one.model_epochs), duration(one.seconds)) for one in results.cost
    )
    return Table("cost", records, head, body)


def _thousands(value: float | None) -> str:
    return number(value) if value is None or value < 1000 else f"{value:,.0f}"


def _failures(results: Results) -> Table:
    records = tuple(one.model_dump() for one in results.failures)
    return Table("failures", records, ("task", "error"), tuple((one.label, one.error) for one in results.failures))
