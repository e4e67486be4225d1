"""Runs beside each other: pairs by seed, what the runs do not share, what the terminal and the page say."""

import io
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reticket.analysis import paired_difference, welch_interval
from reticket.cli.comparing import compare_runs
from reticket.errors import ConfigError
from reticket.report.compared_runs import RunPair, accuracy_table, differing_settings, read_runs
from reticket.report.comparison_page import comparison_caption, comparison_notices, comparison_says
from reticket.tasks.comparison import Comparison, compare_rows
from reticket.tasks.metric import Metric
from reticket.tasks.results import Results
from reticket.tasks.rows import Row
from tests.sample_results import CONFIG, sample_results, write_run

SPARSITIES = (0.9, 0.98)


def row(values: tuple[float, ...], seeds: tuple[int, ...]) -> Row:
    sd = statistics.stdev(values) if len(values) > 1 else None
    mean = statistics.fmean(values)
    return Row(method="lth", sparsity=0.9, n=len(values), mean=mean, sd=sd, values=values, seeds=seeds)


def only(here: Row, there: Row, *, paired: bool = True) -> Comparison:
    (found,) = compare_rows([here], [there], paired=paired)
    return found


def test_seeds_that_both_runs_have_are_paired_whatever_their_order() -> None:
    here, there = row((97.0, 95.0, 96.5), (0, 1, 2)), row((94.5, 96.0, 90.0), (1, 0, 7))
    found, expected = only(here, there), paired_difference([97.0, 95.0], [96.0, 94.5])
    assert (found.difference, found.low, found.high, found.n) == (0.75, expected.low, expected.high, 2)


def test_without_common_seeds_or_common_data_the_means_are_compared() -> None:
    here, there = row((97.0, 95.0), (0, 1)), row((94.5, 96.0), (2, 3))
    low, high = welch_interval(here.values, there.values)  # type: ignore[arg-type]
    for found in (only(here, there), only(here, row((94.5, 96.0), (0, 1)), paired=False)):
        assert (found.difference, found.low, found.high, found.n) == (0.75, low, high, 0)
        assert not found.settled


@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 0)])
def test_one_seed_has_a_difference_and_no_interval(seed: int, n: int) -> None:
    found = only(row((97.0,), (0,)), row((96.0,), (seed,)))
    assert (found.difference, found.low, found.n, found.settled) == (1.0, None, n, False)


def changed(values: dict[str, Any], by: float) -> dict[str, Any]:
    """Return results whose sparse accuracies are higher by as much, and by a little more with each seed."""
    copy = json.loads(json.dumps(values))
    for one in copy["rows"]:
        if one["metric"] == "accuracy" and one["sparsity"]:
            one["values"] = [value + by + 0.01 * seed for seed, value in enumerate(one["values"])]
            one["mean"] = statistics.fmean(one["values"])
    return copy


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root, values = tmp_path_factory.mktemp("runs"), sample_results(seeds=5, sparsities=SPARSITIES)
    write_run(root / "old" / "digits", values)
    write_run(root / "new" / "digits", changed(values, 0.5), CONFIG.replace("epochs = 60", "epochs = 30"))
    write_run(root / "third", {**changed(values, -0.2), "complete": False})
    return [root / "old" / "digits", root / "new" / "digits", root / "third"]


def pairs_of(folders: list[Path]) -> list[RunPair]:
    reference, *others = read_runs(folders)
    return [RunPair.of(run, reference) for run in others]


def test_runs_written_without_seeds_have_those_of_their_configuration(folders: list[Path]) -> None:
    assert {one.seeds for one in Results.load(folders[0]).rows} == {(0, 1, 2, 3, 4)}


@pytest.mark.parametrize(
    "config", [CONFIG, "", "grid = 5", "[grid]\nseeds = 4", "[grid]\nseeds = ['a', 'b', 'c', 'd']"]
)
def test_rows_whose_seeds_are_not_known_stay_without(tmp_path: Path, config: str) -> None:
    values = sample_results(seeds=4, sparsities=(0.9,))  # the configuration has five
    assert {one.seeds for one in Results.load(write_run(tmp_path, values, config)).rows} == {()}


def test_names_tell_runs_apart_and_settings_are_those_that_differ(folders: list[Path]) -> None:
    runs = read_runs(folders)
    assert [run.name for run in runs] == ["old/digits", "new/digits", "third"]
    table = differing_settings(runs)
    assert table is not None
    assert table.body == (("dense.epochs", "60", "30", "60"),)
    assert differing_settings([runs[0], runs[2]]) is None


def test_what_is_said_of_two_runs(folders: list[Path]) -> None:
    higher, lower = pairs_of(folders)
    count = sum(cell.sparsity > 0 for cell in higher.of_metric("accuracy"))
    says = (
        f"In {count} of {count + 1} cells the accuracy differs beyond the noise of the seeds: {count} higher, 0 lower."
    )
    assert comparison_says(higher)[0] == says
    assert comparison_says(higher)[1].endswith(": +0.52 points [0.50, 0.54].")
    assert comparison_says(lower)[0].endswith(f": 0 higher, {count} lower.")
    assert comparison_caption(higher).startswith(
        "Differences paired by seed, n = 5, with 95\u00a0% intervals by Student's t"
    )


def test_one_seed_claims_nothing_beyond_the_noise(tmp_path: Path) -> None:
    values = sample_results(seeds=1, sparsities=(0.9,))
    other = changed(values, 0.5)
    other["experiment"] = {"data": {"name": "fashion-mnist"}}
    runs = [write_run(tmp_path / name, one) for name, one in (("a", values), ("b", other))]
    (pair,) = pairs_of(runs)
    count = len(pair.of_metric("accuracy")) - 1
    assert comparison_says(pair) == (
        f"Of {count + 1} cells {count} are higher and 0 lower; one seed says nothing of the noise.",
    )
    caption = "Differences of the means, since no seeds are paired; one seed has no interval."
    assert comparison_caption(pair) == caption
    said = [first for first, _ in comparison_notices(read_runs(runs))]
    assert said == ["b has other data than a."]


def test_a_run_beside_its_copy_is_equal(folders: list[Path], tmp_path: Path) -> None:
    copy = write_run(tmp_path / "copy", sample_results(seeds=5, sparsities=SPARSITIES))
    (pair,) = pairs_of([folders[0], copy])
    (says,) = comparison_says(pair)
    assert re.fullmatch(r"\d+ cells that both runs have are equal, seed by seed\.", says)


def test_the_page_needs_no_other_file_and_no_network(folders: list[Path], tmp_path: Path) -> None:
    path, text = tmp_path / "compare.html", io.StringIO()
    compare_runs(folders, path, Console(file=text))
    page = path.read_text("utf-8")
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert "third is not complete." in page
    for pair in pairs_of(folders):
        assert all(line in page for line in comparison_says(pair))
        assert page.count(f"Test accuracy (%), {pair.name}") > 1
    assert page.count("data-csv=") == 2 + 2 * 2  # settings, all runs, and accuracy and loss of two pairs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.html"]
    assert f"written: {path}" in text.getvalue()
    assert "third is not complete. What is missing is left out below." in text.getvalue()


def test_all_runs_have_a_column_and_every_cell_a_row(folders: list[Path], tmp_path: Path) -> None:
    values = sample_results(seeds=5, sparsities=(0.9, 0.95))
    runs = read_runs([*folders, write_run(tmp_path / "fourth", values)])
    table = accuracy_table(runs)
    assert table.head[-4:] == tuple(run.name for run in runs)
    places = {(row.method, row.sparsity, row.rewind) for run in runs for row in run.results.rows}
    assert len(table.body) == len(places)
    (lth,) = [row for row in table.body if row[:3] == ("LTH", "95\u00a0%", "5\u00a0epochs")]
    (cell,) = [row for row in values["rows"] if (row["method"], row["sparsity"], row["rewind"], row["metric"])
               == ("lth", 0.95, "5ep", "accuracy")]  # fmt: skip
    assert lth[3:] == ("–", "–", "–", f"{cell['mean']:.2f} ± {cell['sd']:.2f}")


@pytest.mark.parametrize(("width", "heads"), [(200, ["new/digits", "old/digits", "paired seeds"]), (75, [])])
def test_a_narrow_terminal_has_fewer_columns_and_no_number_cut(
    folders: list[Path], width: int, heads: list[str]
) -> None:
    text = io.StringIO()
    compare_runs(folders[:2], None, Console(file=text, width=width, force_terminal=True, no_color=True))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue()).splitlines()
    (head,) = [line for line in lines if line.startswith("method ")]
    assert [word for word in ("new/digits", "old/digits", "paired seeds") if word in head] == heads
    assert len(head) <= width
    (line,) = [line for line in lines if line.startswith("LTH ") and "98\u00a0%" in line and "5\u00a0epochs" in line]
    assert re.search(r"\+0\.52 \[0\.50, 0\.54\]", line)


def test_a_sweep_stands_for_its_experiments(folders: list[Path], tmp_path: Path) -> None:
    values = sample_results(seeds=2, sparsities=(0.9,), rewinds=("0ep",))
    for width in (1, 2):
        write_run(tmp_path / f"width-{width}", values, CONFIG.replace("lr = 0.1", f"lr = 0.{width}", 1))
    variants = [{"value": width, "folder": f"width-{width}"} for width in (1, 2)]
    (tmp_path / "sweep.json").write_text(json.dumps({"title": "t", "key": "model.width", "variants": variants}))
    assert [run.name for run in read_runs([tmp_path])] == ["width-1", "width-2"]


def test_runs_to_compare_are_two_and_different(folders: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"old/digits is one run; give two or more to compare$"):
        read_runs(folders[:1])
    with pytest.raises(ConfigError, match=r"old/digits is named twice; give each run once$"):
        read_runs([folders[0], folders[1], folders[0].parent / "." / "digits"])


def test_runs_of_several_objectives_are_not_compared(folders: list[Path], tmp_path: Path) -> None:
    values = sample_results(seeds=2, sparsities=(0.9,), rewinds=("0ep",))
    values["experiment"] = {"metric": Metric.of("regression").model_dump()}
    write_run(tmp_path / "numbers", values, CONFIG)
    with pytest.raises(
        ConfigError, match=r"numbers is judged by root-mean-squared-error and .*digits by accuracy; compare runs"
    ):
        read_runs([folders[0], tmp_path / "numbers"])
