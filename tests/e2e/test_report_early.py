"""Early matching in the report: its own figure, while every other one speaks of the latest position."""

from pathlib import Path
from typing import Any

from reticket.report import build_report
from reticket.report.early import early_matching
from reticket.report.training_positions import at_main, match_order
from reticket.tasks.results import Results
from tests.e2e.test_report import Page, small
from tests.sample_results import PAPER_EXPERIMENT, stat, write_run


def matched_early() -> dict[str, Any]:
    results = small(methods=("lth", "permuted", "naive"), sparsities=(0.9,), rewinds=("20ep",), seeds=3)
    results["experiment"] = PAPER_EXPERIMENT
    (late,) = [row for row in results["rows"] if (row["method"], row["metric"]) == ("permuted", "accuracy")]
    late["match_at"] = "end"
    early = {"match_at": "5ep", **stat([80.0, 81.0, 82.0])}
    results["rows"] += [{**late, **early}, {**late, **early, "match_at": "100ep"}]
    return results


def test_only_the_latest_position_is_in_the_other_figures(tmp_path: Path) -> None:
    results = Results.of_json(matched_early())
    assert match_order(results) == ["5ep", "100ep", "end"]
    assert {row.match_at for row in at_main(results).rows} == {None, "end"}
    page = Page(build_report(write_run(tmp_path, matched_early())).read_text("utf-8"))
    assert "early_matching" in page.ids
    main = page.text[page.text.index("Main table", 200) : page.text.index("Beside the paper", 400)]
    assert "81.0" not in main
    assert "matched at" in (tmp_path / "tables" / "accuracy.md").read_text("utf-8")


def test_what_matching_early_costs_is_said() -> None:
    results = Results.of_json(matched_early())
    finding = early_matching(results)
    assert finding is not None
    late = next(row.mean or 0 for row in results.rows if row.match_at == "end" and row.metric == "accuracy")
    said = finding.says[0].replace("\u00a0", " ").replace("−", "-")
    assert f"matching B at 5 instead of end changes permuted by {81 - late:.2f} points" in said
    assert "published, arXiv 2505.05143" in finding.caption
    assert early_matching(at_main(results)) is None
