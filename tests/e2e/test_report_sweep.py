"""The report that compares the experiments of a sweep."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from reticket.analysis import gap_closed
from reticket.errors import InputError
from reticket.report import build_report
from reticket.report.sweep_figures import published_share, shares
from reticket.tasks.results import Results
from tests.e2e.test_report import Page
from tests.sample_results import PAPER_EXPERIMENT, sample_results, write_run


def variant(width: int) -> dict[str, Any]:
    results = sample_results(("dense", "lth", "permuted", "naive"), (0.9, 0.95), ("0it", "10ep"), 3)
    experiment = PAPER_EXPERIMENT | {"model": {"name": "resnet20", "params": {"width": width}}}
    return results | {"experiment": experiment, "overlap": [], "per_class": [], "diversity": []}


def write_sweep(folder: Path, variants: dict[int, dict[str, Any] | None]) -> Path:
    for width, results in variants.items():
        if results is not None:
            write_run(folder / f"width-{width}", results)
    listed = [{"value": width, "folder": f"width-{width}"} for width in variants]
    values = {"title": "By <width>", "preset": "by-width", "key": "model.params.width", "variants": listed}
    (folder / "sweep.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sweep(tmp_path_factory.mktemp("sweep"), {1: variant(1), 4: variant(4), 8: None})
    assert build_report(folder) == folder / "report.html"
    return folder


def test_page_compares_what_there_is_and_names_what_is_missing(swept: Path) -> None:
    page = Page((swept / "report.html").read_text("utf-8"))
    names = (
        "gap_by_value",
        "accuracy_by_value",
        "accuracy_by_rewind",
        "barriers_by_value",
        "correlation_by_value",
        "paper",
    )
    assert [name for name in names if name not in page.ids] == []
    assert "Not all experiments have results yet: width-8." in page.text
    assert "By <width>" in page.text


def test_experiments_of_different_metrics_share_no_axis(tmp_path: Path) -> None:
    other = variant(4)
    other["experiment"] |= {"metric": {"name": "perplexity", "unit": "", "higher_is_better": False}}
    build_report(write_sweep(tmp_path, {1: variant(1), 4: other}))
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "judged by different metrics (1: accuracy and 4: perplexity)" in page.text
    assert "left (points)" not in page.text
    assert "correlation_by_value" in page.ids
    assert not {"gap_by_value", "accuracy_by_value", "accuracy_by_rewind", "barriers_by_value"} & set(page.ids)


def test_page_asks_for_nothing_outside_and_links_to_the_single_reports(swept: Path) -> None:
    text = (swept / "report.html").read_text("utf-8")
    links = [link for link in re.findall(r'href="([^"]*)"', text) if not link.startswith("#")]
    assert links == ["width-1/report.html", "width-4/report.html"]
    assert re.search(r"\bsrc=|@import|url\((?!#)|://", text) is None


def test_tables_hold_every_experiment_with_its_value_in_front(swept: Path) -> None:
    for name in ("accuracy", "gap_closed", "paper"):
        with (swept / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            records = list(csv.DictReader(file))
        assert next(iter(records[0])) == "width"
        assert {record["width"] for record in records} == {"1", "4"}
        lines = (swept / "tables" / f"{name}.md").read_text("utf-8").splitlines()
        assert len(lines) == len(records) + 2
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_share_is_that_of_the_means_over_late_rewind_points() -> None:
    results = Results.of_json(variant(1))
    rows = {(r.method, r.sparsity, r.rewind): r.values for r in results.rows if r.metric == "accuracy"}
    means = [
        [(a + b) / 2 for a, b in zip(rows[m, 0.9, "10ep"], rows[m, 0.95, "10ep"], strict=True)]  # pyright: ignore
        for m in ("lth", "naive", "permuted")
    ]
    found, expected = shares(results), gap_closed(*means)
    assert found is not None
    assert (found.share, found.low, found.left) == pytest.approx((expected.share, expected.low, expected.left))


def test_the_published_share_lies_by_the_papers_mean_of_shares() -> None:
    results = Results.of_json(variant(4))
    assert published_share(results.experiment) == pytest.approx(57, abs=0.5)
    assert published_share(Results().experiment) is None


def test_seeds_that_do_not_pair_give_no_share() -> None:
    results = variant(1)
    results["rows"] = [row for row in results["rows"] if row["method"] != "lth"]
    assert shares(Results.of_json(results)) is None


def test_damaged_and_empty_sweeps_are_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"variants": [{"value": 1}]}')
    with pytest.raises(InputError, match=r"sweep\.json: damaged at 'variants'"):
        build_report(tmp_path)
    write_sweep(tmp_path, {1: None})
    with pytest.raises(InputError, match="no experiment of the sweep has results"):
        build_report(tmp_path)
