"""Accuracy against cost: the front by brute force, what the section says, and no section where no cost is known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticket.analysis import pareto_front
from reticket.errors import InputError
from reticket.figures.looks import looks
from reticket.report import build_report
from reticket.report.costed import at_place, front_tables, main_place, on_front, points_of, rival
from reticket.report.front import _limits, front, front_opened
from reticket.report.metric_words import MetricWords
from reticket.tasks.metric import Metric
from reticket.tasks.results import Results
from tests.sample_results import stat, write_run

KEYS = ["a" * 64]
COSTS = {"dense": (60, 0), "imp": (210, 0), "lth": (280, 0), "permuted": (62, 210), "naive": (60, 210), "erk": (60, 0)}
VALUES = {
    "dense": [98.0, 98.2, 98.4], "imp": [97.0, 97.2, 97.1], "lth": [97.5, 97.4, 97.3], "permuted": [96.0, 96.4, 96.2],
    "naive": [93.0, 93.5, 93.1], "erk": [90.0, 91.0, 90.4],
}  # fmt: skip


def run_of(costs: Mapping[str, tuple[float, float]] = COSTS, **more: Any) -> Results:
    return Results.of_json({"schema": 1, "rows": rows_of(costs), **more})


def rows_of(
    costs: Mapping[str, tuple[float, float]], values: Mapping[str, list[float]] = VALUES
) -> list[dict[str, Any]]:
    rows = []
    for method, (own, shared) in costs.items():
        sparse = method != "dense"
        rows.append(
            {
                "method": method, "sparsity": 0.9 * sparse, "true_sparsity": 0.9 * sparse,
                "rewind": None if method in ("dense", "imp") else "5ep", "metric": "accuracy",
                "match_at": "end" if method == "permuted" else None, "own_epochs": own, "shared_epochs": shared,
                **stat(values[method]), "seeds": [0, 1, 2], "keys": KEYS * 3,
            }
        )  # fmt: skip
    return rows


def ensemble(method: str, protocol: str, accuracy: float, own: float, shared: float) -> dict[str, Any]:
    return {
        "method": method, "sparsity": 0.9, "rewind": None if method == "imp" else "5ep", "protocol": protocol,
        "match_at": "end" if method == "permuted" else None, "members": 5, "mean_accuracy": accuracy - 1,
        "ensemble_accuracy": accuracy, "disagreement": 0.1, "kl": 0.1, "js": 0.02, "own_epochs": own,
        "shared_epochs": shared,
    }  # fmt: skip


# ---------------------------------------------------------------- the front itself


def brute_force(costs: Sequence[float], values: Sequence[float]) -> set[int]:
    def beats(i: int, j: int) -> bool:
        no_worse = costs[i] <= costs[j] and values[i] >= values[j]
        return no_worse and (costs[i] < costs[j] or values[i] > values[j])

    return {j for j in range(len(costs)) if not any(beats(i, j) for i in range(len(costs)))}


POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8)


@given(POINTS)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    costs, values = [float(cost) for cost, _ in points], [float(value) for _, value in points]
    found = pareto_front(costs, values)
    assert set(found) == brute_force(costs, values)
    assert len(set(found)) == len(found)
    assert [costs[place] for place in found] == sorted(costs[place] for place in found)


def test_a_front_of_the_most_accurate_alone_would_be_noticed() -> None:
    costs, values = [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]
    assert brute_force(costs, values) == {0, 1} != {values.index(max(values))}


def test_a_front_needs_a_value_for_every_cost() -> None:
    with pytest.raises(InputError, match=r"a front needs a cost and a value of each point, got 2 and 1"):
        pareto_front([1.0, 2.0], [1.0])


# ---------------------------------------------------------------- what the section says


def test_it_says_what_is_on_the_front_and_what_beats_the_permuted_ticket() -> None:
    found = front(run_of())
    assert found is not None
    assert found.figure is not None
    assert [panel.title for panel in found.figure.panels] == [
        "one network a ticket", "10 share a ticket", "100 share a ticket",
    ]  # fmt: skip
    one, ten, hundred = (said.replace("\u00a0", " ") for said in found.says)
    assert one == (  # permuted costs 272, IMP 210: 97.1 - 96.2 by seed 1.0, 0.8, 0.9
        "At 90 % sparsity, rewound to 5 epochs, with one network a ticket, ERK, IMP and LTH are on the front; IMP "
        "costs no more than permuted (210 against 272 model-epochs) and is 0.90 points better [0.65, 1.15] (paired, "
        "n = 3)."
    )
    assert ten == "Where 10 share a ticket, ERK, naive, permuted, IMP and LTH are on the front."  # permuted costs 83
    assert hundred == ten.replace("10", "100")
    assert "Not drawn: the dense network, 98.2 ± 0.2\u00a0% for 60.0 model-epochs." in found.caption
    assert all(said in panel.alt for said, panel in zip(found.says[1:], found.figure.panels[1:], strict=True))


def test_a_lead_within_the_noise_is_called_that() -> None:
    values = {**VALUES, "imp": [95.0, 97.9, 96.2]}
    found = front(Results.of_json({"schema": 1, "rows": rows_of(COSTS, values)}))
    assert found is not None
    assert "(paired, n = 3), which is not beyond the noise." in found.says[0]


def test_what_is_matched_or_dearer_is_no_control() -> None:
    points = points_of(run_of())
    here = at_place(points, main_place(points))
    assert {point.method for point in here} == {"imp", "lth", "permuted", "naive", "erk"}, "dense is not sparse"
    first = rival(here, 1, Metric(), 0.95)
    assert first is not None
    assert first.point.method == "imp"
    assert rival(here, 10, Metric(), 0.95) is None, "IMP is dearer then"
    assert rival([p for p in here if p.method != "permuted"], 1, Metric(), 0.95) is None


def test_lower_is_better_where_numbers_are_predicted() -> None:
    metric = {"name": "mse", "unit": "", "higher_is_better": False}
    rows = [{**row, "metric": "mse", "mean": -(row["mean"] or 0)} for row in rows_of(COSTS)]
    results = Results.of_json({"schema": 1, "rows": rows, "experiment": {"metric": metric}})
    points = points_of(results)
    assert [p.method for p in on_front(points, 10, results.experiment.metric)] == [
        "erk", "naive", "permuted", "imp", "lth",
    ]  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
def test_a_control_far_off_flattens_nothing_whichever_way_is_better(sign: int) -> None:
    metric = {"name": "score", "unit": "", "higher_is_better": sign > 0}

    def range_with(worst: float) -> tuple[float, float]:
        values = {**{name: [sign * value for value in of] for name, of in VALUES.items()}, "erk": [sign * worst] * 3}
        rows = [{**row, "metric": "score"} for row in rows_of(COSTS, values)]
        results = Results.of_json({"schema": 1, "rows": rows, "experiment": {"metric": metric}})
        points = points_of(results)
        return _limits(points, looks(point.method for point in points), MetricWords.of(results))[1]

    near, far, farther = range_with(92.0), range_with(10.0), range_with(-1e4)
    worst = min if sign > 0 else max
    assert abs(worst(near)) < 92.5
    assert far == farther, "it is out of the chart"
    assert 90 < abs(worst(far)) < 93.5, "the three methods are in it, with half their range beside them"


def test_ensembles_stand_beside_networks_of_the_same_size() -> None:
    rows = [
        ensemble("permuted", "one ticket", 98.0, 310, 210), ensemble("permuted", "independent", 98.1, 1360, 0),
        ensemble("imp", "independent", 98.5, 1050, 0), {**ensemble("imp", "independent", 98.9, 6300, 0), "members": 30},
    ]  # fmt: skip
    found = front(run_of(diversity=rows))
    assert found is not None
    assert "ERK, naive, permuted, IMP, LTH, permuted ×5 and IMP ×5 are on the front" in found.says[1]
    kinds = [point.kind for point in points_of(run_of(diversity=rows)) if point.members > 1]
    assert kinds == ["ensemble of 5", "ensemble of 5, independent"]
    alone = run_of(diversity=[ensemble("imp", "independent", 98.5, 1050, 0)])
    assert all(point.members == 1 for point in points_of(alone)), "where none shares a ticket it stands for nothing"


def test_a_run_without_costs_has_no_section_and_one_without_tickets_one_panel() -> None:
    rows = [{k: v for k, v in row.items() if not k.endswith("_epochs")} for row in rows_of(COSTS)]
    old = Results.of_json({"schema": 1, "rows": rows})
    assert (front(old), front_opened(old), front_tables(old)) == (None, (), {})
    alone = front(run_of({"imp": COSTS["imp"], "erk": COSTS["erk"]}))
    assert alone is not None
    assert alone.figure is not None
    assert len(alone.figure.panels) == 1


def test_the_tables_show_what_each_costs() -> None:
    table = front_tables(run_of())["front"]
    by_method = {record["method"]: record for record in table.records}
    assert [by_method["permuted"][f"epochs_{m}"] for m in (1, 10, 100)] == pytest.approx([272, 83, 64.1])
    ((caption, shown),) = front_opened(run_of())
    assert caption.endswith("90\u00a0% sparsity, rewound to 5 epochs".replace("5 epochs", "5\u00a0epochs"))
    on = {row[0]: row[-1] for row in shown.body}
    assert on == {
        "IMP": "1, 10, 100",
        "LTH": "1, 10, 100",
        "permuted": "10, 100",
        "naive": "10, 100",
        "ERK": "1, 10, 100",
    }


@pytest.mark.slow
def test_the_page_has_the_section_with_its_files(tmp_path: Path) -> None:
    values = run_of(diversity=[ensemble("permuted", "one ticket", 98.0, 310, 210)]).to_json()
    page = build_report(write_run(tmp_path, values)).read_text("utf-8")
    assert '<section id="front">' in page
    for name in ("figures/front.svg", "figures/front.pdf", "tables/front.csv", "tables/front.md"):
        assert (tmp_path / name).is_file(), name
    assert "permuted ×5: 98.0 (n = 1), 520 model-epochs" in page, "what a mark says"
