"""What a run prints at its end: every cell of the table with its value, whatever the width of the terminal."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from reticket.cli.accuracies import show_accuracies
from reticket.figures.looks import label
from reticket.tasks.results import Results
from tests.sample_results import sample_results

SPARSITIES, REWINDS = (0.9, 0.95, 0.98), ("0ep", "5ep")


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return sample_results(seeds=5, sparsities=SPARSITIES, rewinds=REWINDS)


def printed(values: dict[str, Any], width: int) -> list[str]:
    text = io.StringIO()
    show_accuracies(Results.of_json(values), Console(file=text, width=width))
    return text.getvalue().splitlines()


def cells_of(lines: list[str], name: str) -> list[str]:
    """Return the cells of a method, those of every part of the table one after another."""
    mine = [line.removeprefix(name) for line in lines if re.match(rf"{re.escape(name)}  ", line)]
    return [cell for line in mine for cell in re.split(r"\s{2,}", line.strip())]


@pytest.mark.parametrize("width", [200, 80, 40])
def test_every_cell_is_there_and_nothing_is_cut_off(values: dict[str, Any], width: int) -> None:
    lines = printed(values, width)
    assert max(map(len, lines)) <= width
    for method in ("lth", "permuted", "naive", "random"):
        expected = [
            f"{row['mean']:.1f} ± {row['sd']:.1f}"
            for sparsity in SPARSITIES
            for rewind in REWINDS
            for row in values["rows"]
            if (row["method"], row["sparsity"], row["rewind"], row["metric"]) == (method, sparsity, rewind, "accuracy")
        ]
        assert cells_of(lines, label(method)) == expected


def test_the_share_closed_ends_the_table_where_there_is_a_gap(values: dict[str, Any]) -> None:
    gaps = [
        gap
        for sparsity in SPARSITIES
        for rewind in REWINDS
        for gap in values["gap_closed"]
        if (gap["method"], gap["sparsity"], gap["rewind"]) == ("permuted", sparsity, rewind)
    ]
    assert len(gaps) == 6
    shares = [gap["share"] for gap in gaps]
    gaps[0]["gap_low"], before = -1.0, gaps[0]["gap_low"]  # as if the two were not clearly apart
    try:
        lines = printed(values, 200)
    finally:
        gaps[0]["gap_low"] = before
    found = cells_of(lines, "gap closed")
    assert found[0] == "–"
    assert [cell.partition("\N{NO-BREAK SPACE}%")[0] for cell in found[1:]] == [f"{share:.0f}" for share in shares[1:]]
    assert lines[-1].startswith("gap closed: how far permuting goes from naive to LTH")


def test_without_a_permuted_ticket_the_table_ends_with_the_accuracies(values: dict[str, Any]) -> None:
    rows = [row for row in values["rows"] if row["method"] in ("lth", "naive")]
    lines = printed({**values, "rows": rows, "gap_closed": []}, 80)
    assert lines[1] == "test accuracy (%), mean ± sd, n = 5"
    assert not any("gap closed" in line for line in lines)


def test_results_without_a_table_print_nothing() -> None:
    assert printed({"schema": 1}, 80) == []
