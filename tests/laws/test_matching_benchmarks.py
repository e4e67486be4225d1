"""What the benchmarks of matching rest on: the plain way agrees with ours, rows are kept, intervals are Student's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import reticket as rt
from benchmarks import matching_table
from benchmarks.contenders import CONTENDERS, PLAIN, REBASIN, why_not
from benchmarks.kept import Kept
from benchmarks.planted import Case, measure
from benchmarks.predictors import jackknifed, within_matchers, within_pairs
from reticket.analysis import mean_interval
from reticket.rng import generator_for


@pytest.mark.parametrize(("name", "shape"), [("mlp", (64,)), ("conv-small", (1, 12, 12))])
def test_the_plain_way_finds_what_one_pass_finds(name: str, shape: tuple[int, ...]) -> None:
    a, b = (rt.build_model(name, generator=generator_for("plain", side)).eval() for side in "ab")
    inputs = torch.randn(120, *shape, generator=generator_for("plain inputs"))
    batches = list(zip(inputs.split(40), torch.zeros(120).long().split(40), strict=True))
    sym = rt.discover(a, inputs[:2])
    ours, plain = (CONTENDERS[one](a, b, sym, batches) for one in ("activation", PLAIN))
    for group, permutation in ours.permutations.items():
        assert torch.equal(permutation.index, plain.permutations[group].index)
    assert why_not(PLAIN, rt.build_model("vit")) is not None


def test_half_of_a_planted_order_is_half_of_the_units() -> None:
    case = Case(lambda: rt.build_model("mlp", hidden=(8, 8)), lambda count: torch.randn(count, 64))
    whole = measure(case, CONTENDERS["weight"], 0.0, 3)
    assert (whole["found"], whole["draws"], whole["units"]) == (3, 3, 1)
    left = measure(case, lambda a, b, sym, batches: _half(CONTENDERS["weight"](a, b, sym, batches)), 0.0, 3)
    assert (left["found"], left["units"]) == (0, 0.5)


def _half(found: rt.Alignment) -> rt.Alignment:
    """Return an alignment whose second group is moved on by one, so that each of its units is wrong."""
    turned = {**found.permutations}
    turned["layers.1.weight"] = type(turned["layers.1.weight"])(turned["layers.1.weight"].index.roll(1))
    return rt.Alignment(found.symmetry, turned)


def test_rows_that_are_kept_are_not_measured_again(tmp_path: Path) -> None:
    asked = []

    def measured() -> dict[str, float]:
        asked.append(1)
        return {"seconds": 2.0}

    for _ in range(2):
        assert Kept(tmp_path / "rows.json").row("a", measured) == {"seconds": 2.0}
    assert len(asked) == 1
    assert json.loads((tmp_path / "rows.json").read_text("utf-8"))["cases"] == {"a": {"seconds": 2.0}}


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.array([[1.0, 4.0, 2.0, 9.0, 5.0]])
    found = jackknifed(lambda rows, _: float(rows.mean()), values, values)
    assert found["mean"] == pytest.approx(4.2)
    assert (found["low"], found["high"]) == pytest.approx(mean_interval(list(values[0])))


def test_ranks_are_compared_within_matchers_or_within_pairs() -> None:
    values = np.array([[1.0, 2, 3], [9, 8, 7]])  # of two matchers and three pairs
    accuracy = np.array([[10.0, 20, 30], [11, 21, 31]])
    assert within_matchers(values, accuracy) == pytest.approx(0.0)  # 1 and -1
    assert within_pairs(values, accuracy) == pytest.approx(1.0)
    assert within_pairs(values, np.full((2, 3), 5.0)) == 0.0


def test_the_table_says_what_was_not_measured_and_why(tmp_path: Path) -> None:
    figures = dict.fromkeys(matching_table.FIGURES, 1.5)
    other = {**figures, "seconds": 2.5}
    cases = {
        "digits, weight, pair 0": figures,
        "digits, weight, pair 1": other,
        f"digits, {REBASIN}": {"not measured": "gone"},
    }
    cases |= {f"digits, merge of 3, set {i}": {"common frame": 90.0 + i, "each onto the first": 80.0} for i in (0, 1)}
    (tmp_path / "pairs.json").write_text(json.dumps({"cases": cases}))
    planted = {"MLP 64-128-128-10, weight, noise 0.01": {"found": 9, "draws": 10}}
    (tmp_path / "planted.json").write_text(json.dumps({"cases": planted}))
    found = matching_table.table(tmp_path)
    assert found["digits"]["weight"]["seconds"]["values"] == [1.5, 2.5]
    noisy = {
        "MLP, weight, noise 0.3": {"units": 0.999},
        "MLP, weight, noise 0.01": {"units": 1.0},
        "MLP, x": {"not measured": "-"},
    }
    (tmp_path / "noise.json").write_text(json.dumps({"cases": noisy}))
    lines = matching_table.page(found, matching_table.merges(tmp_path), matching_table.noise(tmp_path)).splitlines()
    assert lines[-3:] == [
        "| network, matched by | 0.01 | 0.3 |",
        "| --- | --- | --- |",
        "| MLP, weight | 100.0 | 99.9 |",
    ]
    assert "| `weight` | 2 | 2.000 ± 0.707 | 2 | 1.500 ± 0.000 |" in "\n".join(lines)
    assert any(line.endswith("| 9 of 10 |  |") for line in lines)
    assert any(line.startswith(f"| `{REBASIN}` | 0 | not measured: gone |") for line in lines)
    assert "| digits, merge of 3 | 90.5 ± 0.7 | 80.0 ± 0.0 | 2 |" in lines
