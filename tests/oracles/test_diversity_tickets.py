"""Ensembles from several tickets: whose networks they are, and their numbers against each group measured by itself."""

import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from reticket.analysis import diversity
from reticket.errors import ConfigError
from reticket.experiment import FolderStore, Result, Task
from reticket.experiment.task import closure
from reticket.rng import generator_for
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.check import checks
from reticket.tasks.checks import diversity as check
from reticket.tasks.checks.diversity import Diversity, Ensemble
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.stored import Stored

TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
FACTS = Facts("0" * 64, 300, tuple("0123456789"), (64,), test_size=100)
LABELS = torch.randint(10, (50,), generator=generator_for("labels"))
NAMES = ("mean_accuracy", "ensemble_accuracy", "disagreement", "kl", "js")
SHARED, ALONE = (Ensemble(protocol, Cell("permuted", 0.7, "1ep", "end")) for protocol in ("one ticket", "independent"))


SMALL = ("sparsities=[0.7]", "rewinds=['1ep']", "methods=['lth', 'permuted']")


@cache
def plan(*settings: str) -> Blueprint:
    settings = settings or ("seeds=7", "diversity_tickets=2")
    return Blueprint(load_config(str(TINY), [*SMALL, *settings])[1], FACTS)


class MadeUp:
    """A store that has a result for every task but those of some keys: logits drawn by the key."""

    def __init__(self, *missing: Task) -> None:
        self.missing = {task.key for task in missing}

    def logits(self, key: str) -> torch.Tensor:
        return 3 * torch.randn(50, 10, generator=generator_for("logits", key))

    def result(self, task: Task) -> Result | None:
        if task.key in self.missing:
            return None
        return Result(task.key, {"samples": 300}, {"seconds": 1.0}, {"logits": self.logits(task.key)})


Rows = Callable[[Blueprint, MadeUp], dict[Ensemble, Diversity]]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    def made(blueprint: Blueprint, store: MadeUp) -> dict[Ensemble, Diversity]:
        planned = frozenset(task.key for task in closure(blueprint.targets, resumes=True))
        found = Stored(blueprint, FolderStore(tmp_path), planned, LABELS)
        monkeypatch.setattr(found, "get", store.result)
        (one,) = [one for one in checks() if one.name == "diversity"]
        written = one.results(found, blueprint.of("diversity"))["diversity"]
        return {
            Ensemble(row.protocol, Cell(row.method, row.sparsity, row.rewind, row.match_at)): row for row in written
        }

    return made


def seeds_of(task: Task) -> tuple[int, int]:
    """Return the seeds of A and B of a network that was trained from A's ticket."""
    a = {one.spec["network"][1] for one in closure([task]) if one.kind == "dense" and one.spec["network"][0] == "A"}
    return a.pop(), task.spec["order"][1]


def test_each_ticket_has_its_own_networks() -> None:
    members = plan().of("diversity")[SHARED]
    assert [seeds_of(task) for task in members] == [(0, 0), (0, 1), (0, 2), (3, 3), (3, 4), (3, 5)]
    lth = plan().of("diversity")[Ensemble("one ticket", Cell("lth", 0.7, "1ep"))]
    assert [tuple(task.spec["order"]) for task in lth] == [("A", a, "order", n) for a in (0, 3) for n in range(3)]


def by_hand(groups: list[tuple[Task, ...]]) -> dict[str, tuple[float, float]]:
    """Return mean and spread over groups, each measured by itself."""
    store, found = MadeUp(), list[dict[str, float]]()
    for group in groups:
        one = diversity(torch.stack([store.logits(task.key) for task in group]), LABELS)
        numbers = {name: float(getattr(one, name)) for name in NAMES}
        found.append({**numbers, "gain": numbers["ensemble_accuracy"] - numbers["mean_accuracy"]})
    return {name: (statistics.fmean(v), statistics.stdev(v)) for name in found[0] for v in [[f[name] for f in found]]}


def held(rows: Rows) -> None:
    found = rows(plan(), MadeUp())
    members, runs = plan().of("diversity")[SHARED], plan().runs[ALONE.cell]
    for row, groups in (
        (found[SHARED], [members[:3], members[3:]]),
        (found[ALONE], [runs[:3], runs[3:6]]),  # the same seeds, and the seventh of none
    ):
        assert (row.n, row.members) == (2, 3)
        assert row.over_tickets is not None
        for name, (mean, sd) in by_hand(groups).items():
            assert getattr(row, name) == pytest.approx(mean)
            assert getattr(row.over_tickets, name).sd == pytest.approx(sd)
        assert row.keys == tuple(task.key for group in groups for task in group)


def test_numbers_are_means_over_tickets_and_independent_runs_are_as_many(rows: Rows) -> None:
    held(rows)


def test_a_ticket_is_paid_for_by_each_group(rows: Rows) -> None:
    found = rows(plan(), MadeUp())
    shared, alone = found[SHARED], found[ALONE]
    assert (shared.own_epochs, shared.shared_epochs) == pytest.approx((3 * (4 + 2 / 3 + 3), 10), abs=1e-5)
    assert (alone.own_epochs, alone.shared_epochs) == pytest.approx((3 * (4 + 2 / 3 + 3 + 10), 0), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("groups_of", lambda real: lambda members, settings: (tuple(members),)),  # all as one ensemble
        ("groups_of", lambda real: lambda members, settings: real(members[1:], settings)),  # not the same seeds
        ("row_of", lambda real: lambda one, groups, found, spread: real(one, groups[:1], found, spread=spread)),
    ],
)
def test_other_groups_are_noticed(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, name: str, broken: Callable[[Callable[..., object]], object]
) -> None:
    monkeypatch.setattr(check, name, broken(getattr(check, name)))
    with pytest.raises((AssertionError, statistics.StatisticsError)):
        held(rows)


def test_a_group_with_a_missing_member_is_no_smaller_ensemble(rows: Rows) -> None:
    members = plan().of("diversity")[SHARED]
    row = rows(plan(), MadeUp(members[1]))[SHARED]
    assert (row.n, row.members) == (1, 3)
    assert row.over_tickets is not None
    assert (row.over_tickets.kl.n, row.over_tickets.kl.sd) == (1, None)
    assert row.keys == tuple(task.key for task in members[3:])


def test_one_ticket_has_the_tasks_and_the_rows_it_had(rows: Rows) -> None:
    one, usual = plan("seeds=2", "diversity_tickets=1"), plan("seeds=2")
    assert [task.key for task in one.targets] == [task.key for task in usual.targets]
    members = usual.of("diversity")[SHARED]
    assert [seeds_of(task) for task in members] == [(0, 0), (0, 1), (0, 2)], "the third network is a fresh one"
    found = rows(one, MadeUp())
    assert {(row.n, row.over_tickets) for row in found.values()} == {(1, None)}
    assert (found[SHARED].members, found[ALONE].members) == (3, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("seeds=5", "diversity_tickets=2"),
            r"^checks\.diversity_tickets: 2 tickets of 3 members each need 6 seeds, but grid\.seeds has 5; give more "
            r"seeds, or fewer tickets or members$",
        ),
        (
            ("diversity_members=0", "diversity_tickets=2"),
            r"checks\.diversity_tickets is 2, but an ensemble has 0 members; "
            r"set checks\.diversity_tickets=1 too, or give diversity_members",
        ),
        (
            ("independent_members=4", "diversity_tickets=2"),
            r"checks\.independent_members is 4, but with 2 tickets independent runs are ensembles of 3 too",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = plan(*settings).targets


def test_section_table_and_figure_show_the_spread(rows: Rows) -> None:
    written = [row.model_dump(mode="json") for row in rows(plan(), MadeUp()).values()]
    results = Results.of_json({"schema": 1, "diversity": written})
    (one,) = [one for one in checks() if one.name == "diversity"]
    ((caption, table),) = one.opened(results)
    assert caption == "Diversity at 70\u00a0% sparsity, rewound to 1\u00a0epoch"
    assert {"n", "gain (points)"} <= set(table.head)
    shown = dict(zip(table.head, table.body[0], strict=True))
    stat, row = written[0]["over_tickets"]["kl"], results.of(Diversity)[0]
    assert (shown["n"], shown["KL (nats)"]) == ("2", f"{row.kl:.2f} ± {stat['sd']:.2f}")
    finding = one.finding(results)
    assert finding is not None
    assert "means over tickets (n = 2), each with an ensemble of seeds that no other has" in finding.caption
    assert all("±" in said for said in finding.says)
    usual = Results.of_json({"schema": 1, "diversity": [{**line, "over_tickets": None, "n": 1} for line in written]})
    ((_, bare),) = one.opened(usual)
    assert "n" not in bare.head
    assert "±" not in str(bare.body)
