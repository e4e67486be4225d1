"""The report that compares the experiments of a sweep, `OUT/report.html` from `OUT/sweep.json`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticket.figures.table import Table
from reticket.figures.text import listed, number, without_folders
from reticket.report.metric_words import MetricWords
from reticket.report.page import PageSection, draw_section, render, write
from reticket.report.paper import comparison_tables
from reticket.report.run_folder import read_run
from reticket.report.scale import scale_words
from reticket.report.sweep_figures import (
    VariantResults,
    accuracy_by_rewind,
    accuracy_by_value,
    barriers_by_value,
    claimed,
    correlation_by_value,
    gap_by_value,
    shares,
)
from reticket.report.tables import all_tables
from reticket.report.training_positions import at_main
from reticket.tasks.checks.matching import Match
from reticket.tasks.results import Results
from reticket.tasks.run_files import read_sweep_file

STACKED = ("accuracy", "gap_closed", "differences", "barriers", "matching", "diversity", "paper")


@dataclass(frozen=True)
class Sweep:
    """What `sweep.json` says: one field of a configuration with several values, each an experiment of its own."""

    title: str
    preset: str
    key: str
    variants: tuple[VariantResults, ...]
    missing: tuple[str, ...]

    @property
    def short(self) -> str:
        """The last part of the field's name, "width"."""
        return self.key.rpartition(".")[2].replace("_", " ")

    @property
    def one_metric(self) -> bool:
        """Whether all experiments are judged by the same metric and loss, so that one axis can show them."""
        first, *others = (one.results.experiment.metric for one in self.variants)
        return all(other == first for other in others)


def read_sweep(folder: Path) -> Sweep:
    """Read `sweep.json` and the results of every experiment that has any.

    Raises:
        InputError: when it is damaged, or no experiment of it has results.
    """
    file = read_sweep_file(folder)
    found = tuple(
        VariantResults(_plain(value), name, at_main(read_run(folder / name).results))
        for name, value in file.values.items()
    )
    return Sweep(file.title, file.preset, file.key, found, file.missing)


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


Maker = Callable[[Sequence[VariantResults], str], Any]
_SECTIONS: tuple[tuple[str, str, Maker, str], ...] = (
    ("gap_by_value", "Share of the gap closed", gap_by_value, "gap_closed"),
    ("accuracy_by_value", "Accuracy", accuracy_by_value, "accuracy"),
    ("accuracy_by_rewind", "Accuracy against the rewind point", accuracy_by_rewind, ""),
    ("barriers_by_value", "Barriers along the straight line", barriers_by_value, "barriers"),
    ("correlation_by_value", "How well the units were matched", correlation_by_value, "matching"),
)
_OF_ANY_METRIC = ("correlation_by_value",)
_ABOUT = {
    "gap_by_value": "LTH keeps the ticket where it was found, naive moves it as it is; how far a method comes between.",
    "accuracy_by_value": "What each way of starting a sparse network reaches.",
    "accuracy_by_rewind": "How much of the dense training a sparse network must inherit.",
    "barriers_by_value": "If the permutation is right, the two networks lie in one basin.",
    "correlation_by_value": "How alike matched units are, by activations, or by weights without data.",
}


def build_sweep_report(folder: Path) -> Path:
    """Write the report that compares the experiments of a sweep, with its figures and tables.

    Args:
        folder: the directory of `sweep.json`.

    Returns:
        The path of `report.html`; it points to the reports of the single experiments and needs nothing else.

    Raises:
        InputError: when the sweep cannot be read or the directory cannot be written.
    """
    sweep = read_sweep(folder)
    tables = _stacked(sweep)
    for one in tables.values():
        write(folder / "tables" / f"{one.name}.csv", one.to_csv())
        write(folder / "tables" / f"{one.name}.md", one.to_markdown())
    sections, words = [], MetricWords.of(sweep.variants[0].results)
    for name, title, make, data in _SECTIONS:
        finding = make(sweep.variants, sweep.short) if sweep.one_metric or name in _OF_ANY_METRIC else None
        table = tables.get(words.of_accuracy(data)) if finding else None
        section = PageSection(name, words.of_accuracy(title), _ABOUT[name], finding, (), table)
        sections.append(draw_section(section, folder))
    if "paper" in tables:
        sections.append(PageSection("paper", "Beside the paper", "Where a cell is published.", table=tables["paper"]))
    scaled = list(dict.fromkeys(filter(None, (scale_words(one.results) for one in sweep.variants))))
    page = render(
        "sweep.html.j2",
        sweep=sweep,
        scaled=" ".join(scaled),
        overview=_overview(sweep),
        metrics=listed([f"{one.value}: {one.results.experiment.metric.name}" for one in sweep.variants]),
        points=words.points.strip() if sweep.one_metric else "",
        sections=[section for section in sections if section is not None],
        failed=[(one, one.results.failures) for one in sweep.variants if one.results.failures],
        without_folders=without_folders,
    )
    path = folder / "report.html"
    write(path, page)
    return path


def _overview(sweep: Sweep) -> list[tuple[VariantResults, tuple[str, ...]]]:
    """Return for each experiment: its folder, the share it closes, what is left, and its matched correlation."""
    rows = []
    for one in sweep.variants:
        share = shares(one.results)
        known = [m.correlation.mean for m in one.results.of(Match) if m.correlation.mean is not None]
        closed = left = "–"
        if share is not None and claimed(share):
            bounds = f" [{number(share.low, 0)}, {number(share.high, 0)}]" if share.low is not None else ""
            closed = f"{number(share.share, 0)} %{bounds}"
        if share is not None:
            left = MetricWords.of(one.results).number(share.left, 1)
        rows.append((one, (closed, left, number(sum(known) / len(known), 2) if known else "–", _state(one.results))))
    return rows


def _state(results: Results) -> str:
    return "whole" if results.complete else "not complete"


def _stacked(sweep: Sweep) -> dict[str, Table]:
    """Return each table of the single experiments as one, the swept value in front."""
    found: dict[str, list[tuple[str, Table]]] = {}
    for one in sweep.variants:
        for name, table in (all_tables(one.results) | comparison_tables(one.results)).items():
            if name in map(MetricWords.of(one.results).of_accuracy, STACKED):
                found.setdefault(name, []).append((one.value, table))
    return {name: _stack(name, sweep.short, parts) for name, parts in found.items()}


def _stack(name: str, short: str, parts: Sequence[tuple[str, Table]]) -> Table:
    heads = max((table.head for _, table in parts), key=len)
    body = tuple(
        (value, *(cell for _, cell in zip(heads, row, strict=True)))
        for value, table in parts
        for row in (_widened(table, heads))
    )
    records = tuple({short: value, **record} for value, table in parts for record in table.records)
    return Table(name, records, (short, *heads), body)


def _widened(table: Table, heads: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the rows with an empty cell under every head that this table lacks."""
    if table.head == tuple(heads):
        return list(table.body)
    places: list[int | None] = []
    left = list(enumerate(table.head))
    for head in heads:
        match = next((pair for pair in left if pair[1] == head), None)
        places.append(match[0] if match else None)
        left = [pair for pair in left if pair is not match]
    return [tuple("" if at is None else row[at] for at in places) for row in table.body]
