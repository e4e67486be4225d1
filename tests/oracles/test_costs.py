"""What a network of each method costs, against a table worked out by hand; what an ensemble costs, by counting."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reticket.experiment import Result, Task
from reticket.experiment.task import closure
from reticket.tasks import costs
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.checks.diversity import Ensemble
from reticket.tasks.costs import network_cost, target_cost
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.work import Sizes
from reticket.tickets.methods import METHODS

TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
FACTS = Facts("0" * 64, 300, tuple("0123456789"), (64,), test_size=100)
MATCHED = 2 / 3  # of an epoch: all 300 images through A and B, forward alone
DENSE, ROUNDS = 4.0, 6.0  # epochs; 0.8, 0.64, 0.512, 0.41, 0.33 and 0.3 of the weights, one epoch each

# By method, rewind point and position of matching at 70 %: what it needs for itself, what others can share.
BY_HAND: dict[tuple[str, str | None, str | None], tuple[float, float]] = {
    ("dense", None, None): (DENSE, 0),
    ("imp", None, None): (DENSE + ROUNDS, 0),
    ("lth", "0it", None): (DENSE + ROUNDS + 4, 0),
    ("lth", "1ep", None): (DENSE + ROUNDS + 3, 0),
    ("imp-b", "1ep", None): (DENSE + ROUNDS + 3, 0),
    ("permuted", "0it", "end"): (DENSE + MATCHED + 4, DENSE + ROUNDS),
    ("permuted", "1ep", "end"): (DENSE + MATCHED + 3, DENSE + ROUNDS),
    ("permuted", "1ep", "1ep"): (1 + MATCHED + 3, DENSE + ROUNDS),
    ("permuted", "1ep", "2ep"): (2 + MATCHED + 3, DENSE + ROUNDS),
    ("permuted", "0it", "2ep"): (2 + MATCHED + 4, DENSE + ROUNDS),
    ("permuted", "1ep", "1ep+end"): (DENSE + 2 * MATCHED + 3, DENSE + ROUNDS),
    ("signed", "1ep", "1ep"): (1 + MATCHED + 3, DENSE + ROUNDS),
    ("naive", "0it", None): (4, DENSE + ROUNDS),
    ("naive", "1ep", None): (1 + 3, DENSE + ROUNDS),
    ("naive-signed", "1ep", None): (1 + 3, DENSE + ROUNDS),
    ("random-permutation", "1ep", None): (1 + 3, DENSE + ROUNDS),
    ("layer-shuffle", "1ep", None): (1 + 3, DENSE + ROUNDS),
    ("random", "1ep", None): (1 + 3, 0),
    ("erk", "1ep", None): (1 + 3, 0),
}


@cache
def plan() -> Blueprint:
    return Blueprint(load_config(str(TINY), ["match_at=['1ep', '2ep', '1ep+end', 'end']"])[1], FACTS)


def nothing(task: Task) -> Result | None:
    return None


def cost(method: str, rewind: str | None, match_at: str | None) -> tuple[float, float]:
    cell = Cell(method, None if method == "dense" else 0.7, rewind, match_at)
    found = target_cost(plan().runs[cell][0], nothing, FACTS.sizes)
    return found.own_epochs, found.shared_epochs


def held() -> None:
    for place, by_hand in BY_HAND.items():
        assert cost(*place) == pytest.approx(by_hand, abs=1e-5), place


def test_costs_are_those_worked_out_by_hand() -> None:
    held()
    assert {method for method, _, _ in BY_HAND} == set(plan().config.grid.methods)


def test_a_matching_that_trains_costs_its_steps() -> None:
    settings = ["matching.method=refine", "matching.options.steps=30", "matching.options.batch_size=20"]
    plan = Blueprint(load_config(str(TINY), [*settings, "match_at=['1ep']", "methods=['permuted']"])[1], FACTS)
    found = target_cost(plan.runs[Cell("permuted", 0.7, "1ep", "1ep")][0], nothing, FACTS.sizes)
    assert found.own_epochs == pytest.approx(1 + MATCHED + 30 * 20 / 300 + 3, abs=1e-5)


def _to_the_end(real: Callable[..., float]) -> Callable[..., float]:
    return lambda task, find, sizes: (task.spec["at"] > 0) * DENSE if task.kind == "dense" else real(task, find, sizes)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_epochs", _to_the_end),  # as if matching early needed the end of B
        ("_of_a_alone", lambda real: lambda needed: frozenset()),  # as if nothing could be shared
        ("_of_a_alone", lambda real: lambda needed: real([t for t in needed if t.kind != "dense"])),
        ("_counted", lambda real: lambda target: ()),  # as if erk needed A to be pruned
        ("closure", lambda real: lambda tasks, resumes=False: [] if resumes else real(tasks)),  # each position alone
        ("closure", lambda real: lambda tasks, resumes=False: list(tasks)),  # as if inputs were made from nothing
    ],
)
def test_the_table_refuses_a_broken_count(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Callable[[Any], Any]
) -> None:
    monkeypatch.setattr(costs, name, broken(getattr(costs, name)))
    with pytest.raises(AssertionError):
        held()


def result_of(task: Task, values: dict[str, Any], seconds: float = 1.0) -> Result:
    return Result(task.key, values, provenance={"seconds": seconds}, tensors={})


def test_a_matching_that_stopped_early_costs_what_it_saw() -> None:
    (task,) = [t for t in closure(plan().runs[Cell("permuted", 0.7, "1ep", "1ep")][:1]) if t.kind == "match"]
    stopped = result_of(task, {"samples": 150})
    target = plan().runs[Cell("permuted", 0.7, "1ep", "1ep")][0]
    found = target_cost(target, lambda t: stopped if t.key == task.key else None, FACTS.sizes)
    assert found.own_epochs == pytest.approx(1 + MATCHED / 2 + 3, abs=1e-5)


def test_a_matcher_without_data_costs_no_epochs() -> None:
    weight = Blueprint(load_config(str(TINY), ["matching.method='weight'"])[1], FACTS)
    found = target_cost(weight.runs[Cell("permuted", 0.7, "1ep", "end")][0], nothing, FACTS.sizes)
    assert found.own_epochs == DENSE + 3


def test_controls_cost_what_b_alone_needs() -> None:
    methods = "['one-shot', 'snip', 'synflow', 'erk+rigl', 'polished']"
    larger = Facts("0" * 64, 1200, FACTS.classes, (64,), test_size=100)
    controls = Blueprint(load_config(str(TINY), [f"methods={methods}", "match_at=['1ep']"])[1], larger)
    found = {
        cell.method: target_cost(tasks[0], nothing, larger.sizes)
        for cell, tasks in controls.runs.items()
        if (cell.sparsity, cell.rewind) == (0.7, "1ep")
    }
    looked_at = 512 / 1200  # of the training data, forward and backward
    assert {name: (one.own_epochs, one.shared_epochs) for name, one in found.items()} == {
        "one-shot": (DENSE + 3, 0),
        "snip": (pytest.approx(1 + 3 + looked_at, abs=1e-5), 0),
        "synflow": (1 + 3, 0),
        "erk+rigl": (pytest.approx(1 + 3 + 27 * 50 / 1200, abs=1e-5), 0),  # every second of 54 steps a batch more
        "polished": (pytest.approx(1 + MATCHED + 3, abs=1e-5), DENSE + ROUNDS),
    }


def test_seconds_are_of_all_that_was_computed_and_unknown_where_a_result_is_missing() -> None:
    target = plan().runs[Cell("naive", 0.7, "1ep", None)][0]
    everything = closure([target], resumes=True)
    results = {task.key: result_of(task, {}, 2.0**place) for place, task in enumerate(everything)}
    found = target_cost(target, lambda task: results.get(task.key), FACTS.sizes)
    assert (found.own_seconds or 0) + (found.shared_seconds or 0) == 2.0 ** len(everything) - 1
    b = [task for task in everything if task.kind == "dense" and task.spec["network"][0] == "B"]
    assert found.own_seconds == sum(results[task.key].provenance["seconds"] for task in (*b, target))
    del results[b[-1].key]
    without = target_cost(target, lambda task: results.get(task.key), FACTS.sizes)
    assert (without.own_seconds, without.shared_seconds) == (None, found.shared_seconds)


def ensemble(method: str, protocol: str, match_at: str | None = None) -> tuple[float, float]:
    members = plan().of("diversity")[Ensemble("one ticket", Cell(method, 0.7, "1ep", match_at))]
    if protocol == "independent":
        members = plan().runs[Cell(method, 0.7, "1ep", match_at)]
    found = network_cost(members, nothing, FACTS.sizes, reused=protocol == "one ticket")
    return found.own_epochs, found.shared_epochs


def test_an_ensemble_pays_for_its_ticket_once_and_independent_runs_each_for_theirs() -> None:
    assert ensemble("permuted", "one ticket", "1ep") == pytest.approx((3 * (1 + MATCHED + 3), DENSE + ROUNDS), abs=1e-5)
    assert ensemble("lth", "one ticket") == (3 * 3, DENSE + ROUNDS), "orders of the data, of one A"
    assert ensemble("naive", "independent") == (2 * (DENSE + ROUNDS + 1 + 3), 0)


def test_methods_say_whether_they_need_a_ticket_to_be_found() -> None:
    assert [name for name in ("random", "erk", "layer-shuffle", "naive") if METHODS[name].counts_alone] == [
        "random", "erk",
    ]  # fmt: skip


def test_more_data_is_not_more_epochs() -> None:
    larger = Blueprint(load_config(str(TINY), ["data.train_size=600"])[1], Facts("0" * 64, 600, FACTS.classes, (64,)))
    for cell, tasks in larger.runs.items():
        small = Blueprint(load_config(str(TINY), [])[1], FACTS).runs[cell] if cell.method == "permuted" else ()
        for task, other in zip(tasks, small, strict=False):
            found, same = target_cost(task, nothing, Sizes(600, 100)), target_cost(other, nothing, FACTS.sizes)
            assert found == same
