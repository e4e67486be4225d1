"""TicketBench: its claims come from pairs of seeds and are one family, its record keeps, its page is the record's."""

from pathlib import Path

import pytest

from reticket.analysis import settle_claims
from reticket.bench import BenchTask, chosen_tasks, claims_of, merged, read_bench, read_benches, write_bench
from reticket.bench.goals import goals_of
from reticket.bench.page import BEGIN, END, write_page
from reticket.bench.record import bench_of, task_of
from reticket.bench.running import data_of, with_budget
from reticket.bench.tables import accuracy_table, claims_table, diversity_table
from reticket.bench.tiers import of_whom
from reticket.cli.benching import show_claims
from reticket.experiment import ExecutionConfig
from reticket.tasks.checks.diversity.record import OverTickets
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.stored import stat_of
from tests.bench_tasks import GRID, MEANS, bench_task, ensemble, results


def test_claims_are_differences_of_the_same_seed() -> None:
    found = results()
    claims = claims_of(found, GRID)
    assert [(claim.words, claim.rewind, claim.match_at) for claim in claims[:3]] == [
        ("lth > permuted", "0ep", "2ep"), ("permuted > naive", "0ep", "2ep"), ("lth > permuted", "0ep", "end"),
    ]  # fmt: skip
    assert len(claims) == 2 * 2 * 2
    lth, permuted = (next(row for row in found.rows if row.method == name) for name in ("lth", "permuted"))
    expected = [a - b for a, b in zip(lth.values, permuted.values, strict=True) if a is not None and b is not None]
    assert claims[0].values == tuple(expected)


def test_a_seed_that_one_method_lacks_is_no_pair() -> None:
    values = results().to_json()
    for row in values["rows"]:
        if row["method"] == "permuted":
            row.update({key: row[key][1:] for key in ("values", "seeds", "keys")})
    claims = claims_of(Results.of_json(values), GRID)
    whole = claims_of(results(), GRID)
    assert claims[0].values == whole[0].values[1:]


def test_the_family_is_what_was_planned_however_far_a_run_has_come() -> None:
    early, late = (bench_of([bench_task(seeds=seeds)]).tasks[0].claims for seeds in ((0,), (0, 1, 2, 3)))
    assert len(early) == len(late) == 8
    assert {claim.verdict for claim in early} == {"open"}
    check_one_family(bench_of([bench_task(seeds=(0, 1, 2)), bench_task("begun", seeds=(0,))]).tasks)


def check_one_family(tasks: tuple[BenchTask, ...]) -> None:
    claims = [claim for task in tasks for claim in task.claims]
    expected = settle_claims([[v for v in claim.values if v is not None] for claim in claims])
    assert [claim.adjusted for claim in claims] == [one.adjusted for one in expected]
    assert [claim.verdict for claim in claims] == [one.verdict for one in expected]


def test_claims_of_all_tasks_are_adjusted_together() -> None:
    one, other = bench_of([bench_task("one")]), bench_of([bench_task("two", means={**MEANS, "permuted": 90.2})])
    both = merged(one, other)
    check_one_family(both.tasks)
    with pytest.raises(AssertionError):  # each by itself
        check_one_family((*one.tasks, *other.tasks))


def test_of_a_task_that_stands_in_two_records_the_last_counts() -> None:
    old, new = bench_of([bench_task(seeds=(0, 1)), bench_task("other")]), bench_of([bench_task()])
    both = merged(old, new)
    assert [(task.name, task.claims[0].n) for task in both.tasks] == [("made-up", 4), ("other", 4)]
    assert merged(both) == both


def test_a_record_is_read_as_it_was_written_and_holds_no_keys(tmp_path: Path) -> None:
    bench = bench_of([bench_task(diversity=[ensemble("permuted", "one ticket", 95.0, 0.1, "end")])])
    write_bench(bench, tmp_path / "ticketbench.json")
    assert read_bench(tmp_path / "ticketbench.json") == bench
    assert "fff" not in (tmp_path / "ticketbench.json").read_text()


def test_a_budget_is_shared_by_what_is_left() -> None:
    whole = ExecutionConfig(budget=100.0)
    assert [with_budget(whole, spent, left).budget for spent, left in ((0.0, 4), (40.0, 3), (130.0, 1))] == [25, 20, 0]
    assert with_budget(ExecutionConfig(), 10.0, 2).budget is None


def test_a_folder_of_several_data_sets_gives_each_task_its_own(tmp_path: Path) -> None:
    config = load_config("ticketbench-fashion-mlp")[1]
    assert data_of(ExecutionConfig(data=tmp_path), config).data == tmp_path
    (tmp_path / "fashion-mnist").mkdir()
    assert data_of(ExecutionConfig(data=tmp_path), config).data == tmp_path / "fashion-mnist"


@pytest.mark.parametrize("name", chosen_tasks("hour") + chosen_tasks("gpu"))
def test_every_task_can_decide_its_claims_with_pairs_that_share_no_network(name: str) -> None:
    config = load_config(f"ticketbench-{name}")[1]
    assert {"lth", "permuted", "naive", "imp", "dense"} <= set(config.grid.methods)
    assert config.grid.match_at[0] == config.grid.rewinds[-1] != "0ep"
    if name not in ("resnet20", "airbench", "fashion-conv-methods"):
        assert config.grid.rewinds[0] == "0ep"
        assert config.grid.match_at[1] == "end"
    assert len(config.grid.seeds) >= 10


METHODS_TASKS = [name for name in chosen_tasks("hour") if of_whom(name)]


@pytest.mark.parametrize("name", METHODS_TASKS)
def test_a_task_of_more_methods_shares_the_networks_of_its_neighbour(name: str) -> None:
    ours, theirs = (load_config(f"ticketbench-{one}")[1] for one in (name, of_whom(name)))
    parts = ("data", "model", "dense", "sparse", "prune", "matching")
    assert ours.model_dump(include=set(parts)) == theirs.model_dump(include=set(parts))
    assert set(ours.grid.methods) > set(theirs.grid.methods)
    for place in ("seeds", "sparsities", "rewinds", "match_at"):
        assert set(getattr(ours.grid, place)) <= set(getattr(theirs.grid, place))


def test_what_is_claimed_of_the_same_pairs_is_claimed_once() -> None:
    assert METHODS_TASKS
    alone = bench_of([bench_task("made-up-methods")])
    assert len(alone.tasks[0].claims) == len(bench_task().claims)
    both = merged(alone, bench_of([bench_task()]))
    assert [len(task.claims) for task in both.tasks] == [0, len(bench_task().claims)]
    assert [claim.adjusted for claim in both.tasks[1].claims] == [claim.adjusted for claim in alone.tasks[0].claims]


SHARED_RECIPES = [("digits", "digits"), ("fashion-mlp",) * 2]


@pytest.mark.parametrize(("task", "neighbour"), SHARED_RECIPES, ids=lambda name: name)
def test_recipes_are_those_of_the_neighbours_so_that_results_are_shared(task: str, neighbour: str) -> None:
    parts = ("data", "model", "dense", "sparse", "prune", "matching")
    ours, theirs = (load_config(name)[1].model_dump(include=set(parts)) for name in (f"ticketbench-{task}", neighbour))
    assert ours == theirs


def unclaimed(name: str = "made-up") -> BenchTask:
    return task_of(name, 2, results(), claims_of(results(), GRID.model_copy(update={"methods": ("erk", "one-shot")})))


@pytest.mark.parametrize("tasks", [(), (unclaimed(),)], ids=["no task", "no claim"])
def test_where_nothing_is_claimed_that_is_what_is_said(
    tasks: tuple[BenchTask, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\nold\n{END}\n")
    show_claims(bench_of(tasks))
    assert capsys.readouterr().out == "no claims: they need LTH and permuted, or permuted and naive\n"
    write_page(bench_of(tasks), page)
    if tasks:
        text = page.read_text()
        assert "There are no claims: they need LTH and permuted, or permuted and naive.\n" in text
        assert "Holm" not in text
        assert "|  |\n" not in text


# -------------------------------------------------------------------- goals

GAP = {"method": "permuted", "sparsity": 0.9, "rewind": "2ep", "match_at": "2ep", "n": 4, "low": 91.0, "high": 99.0}


def met(
    share: float = 95.0,
    permuted: float = 93.0,
    accuracy: float = 95.0,
    spread: float = 0.1,
    low: float | None = 91.0,
    seeds: tuple[int, ...] = (0, 1, 2, 3),
    tickets: tuple[tuple[float, ...], tuple[float, ...]] = ((), ()),
) -> list[str]:
    ours, alone = (
        {"n": len(values), "over_tickets": dict.fromkeys(OverTickets.model_fields, stat_of(values).model_dump())}
        if values
        else {}
        for values in tickets
    )
    goals = goals_of(
        "made-up",
        results(
            {**MEANS, "permuted": permuted},
            seeds,
            gap_closed=[{**GAP, "share": share, "low": low}],
            diversity=[
                ensemble("permuted", "one ticket", accuracy, spread, "2ep") | ours,
                ensemble("imp", "independent", 95.2, 0.12) | alone,
            ],
        ),
    )
    return [goal.met for goal in goals]


def test_goals_are_met_where_they_are() -> None:
    assert met() == ["yes", "no", "no"]  # 80 model-epochs for the ensemble against 150 for independent runs
    assert met(share=89.0) == ["no", "no", "no"]
    assert met(permuted=95.0) == ["yes", "yes", "no"]  # 0.12 [-0.56, 0.32] points above LTH


@pytest.mark.parametrize("low", [57.0, None])
def test_a_point_estimate_alone_meets_a_goal_in_the_mean(low: float | None) -> None:
    assert met(low=low)[0] == "in the mean"
    assert met(permuted=94.6)[1] == "in the mean"  # 0.28 [-0.16, 0.72] points below LTH
    assert met(permuted=95.0, seeds=(0,))[1] == "in the mean"


def test_an_ensemble_has_to_be_good_and_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench_tasks.COSTS", {"dense": (1, 0), "lth": (38, 0), "naive": (1, 30),
                                                    "imp": (60.0, 0.0), "permuted": (12.0, 30.0)})  # fmt: skip
    assert met()[2] == "in the mean"
    assert met(tickets=((95.0, 95.1, 94.9), (95.2, 95.1, 95.3)))[2] == "in the mean"  # 0.2 [-0.03, 0.43]
    assert met(tickets=((95.0, 95.01, 94.99), (95.2, 95.21, 95.19)))[2] == "yes"  # 0.2 [0.18, 0.22]
    assert met(accuracy=94.8)[2] == "no"


def test_a_method_of_less_diversity_does_not_close_the_gap() -> None:
    values = [ensemble("permuted", "one ticket", 94.0, 0.1, "2ep")]
    assert goals_of("one", results(gap_closed=[{**GAP, "share": 95.0}], diversity=values))[0].met == "yes"
    goals = goals_of("one", results(gap_closed=[{**GAP, "share": 95.0}]))
    assert [goal.aim for goal in goals] == ["k = 0 within 0.5 points of LTH"], "nobody knows its diversity"


# -------------------------------------------------------------------- tables and page


def test_the_table_has_cost_by_the_number_that_share_a_ticket_and_intervals() -> None:
    table = accuracy_table(bench_task())
    line = dict(zip(table.head, next(line for line in table.body if line[0] == "permuted"), strict=True))
    assert [line[f"epochs, m = {m}"] for m in (1, 10, 100)] == ["40.0", "13.0", "10.3"]
    assert line["test accuracy (%)"] == "93.12 ± 0.44"  # 3.182 sd / 2
    assert line["seconds, m = 1"].replace("\u00a0", " ") == "1.3 min"


def test_ensembles_of_one_ticket_stand_beside_independent_runs() -> None:
    found = [ensemble("permuted", "one ticket", 95.0, 0.1, "end"), ensemble("imp", "independent", 95.2, 0.12),
             ensemble("naive", "independent", 91.0, 0.2)]  # fmt: skip
    assert [line[0] for line in diversity_table(bench_task(diversity=found)).body] == ["IMP", "permuted"]
    alone = [one for one in found if one["protocol"] == "independent"]
    assert alone
    assert not diversity_table(bench_task(diversity=alone)).body, "of all seeds, where no ticket is shared"


def test_a_page_is_written_between_its_marks_and_again_the_same(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\nof an earlier run\n{END}\n\nafter\n")
    bench = bench_of([bench_task(diversity=[ensemble("permuted", "one ticket", 95.0, 0.1, "end")])])
    write_page(bench, page)
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "of an earlier run" not in text
    assert claims_table(bench.tasks).to_markdown() in text
    assert "![Test accuracy (%) against model-epochs](images/ticketbench-made-up.svg)" in text
    assert (tmp_path / "images" / "ticketbench-made-up.svg").read_text().startswith("<?xml")
    write_page(bench, page)
    assert page.read_text() == text


def test_a_task_that_was_changed_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    bench = bench_of([task_of("one", 4, results(), (), {"dense.epochs": (25, 3), "prune.pattern": (None, "2:4")})])
    write_bench(bench, tmp_path / "ticketbench.json")
    write_page(read_benches([tmp_path / "ticketbench.json"]), page)
    said = '**Not the task as it ships**: `dense.epochs` 3 (there 25), `prune.pattern` "2:4" (there null).'
    assert f"\n{said}\n" in page.read_text()
    write_page(bench_of([bench_task()]), page)
    assert "as it ships" not in page.read_text()


def empty_task(name: str) -> BenchTask:
    found = Results.of_json({**results().to_json(), "rows": []})
    return task_of(name, 4, found, claims_of(found, GRID))


def test_a_task_that_has_nothing_yet_is_left_out_with_a_word_and_a_page_of_none_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    good = f"{BEGIN}\ngood tables\n{END}\n"
    page.write_text(good)
    assert not write_page(bench_of([empty_task("later")]), page)
    assert page.read_text() == good
    assert write_page(bench_of([bench_task("first"), empty_task("later")]), page)
    text = page.read_text()
    assert text.startswith(f"{BEGIN}\n\n## Is the order settled?\n\n16 claims: ")
    assert "\nlater: nothing of its 4 pairs is there yet; its 8 claims count as open.\n" in text
    assert "| later |" not in text
    assert "## later" not in text
    assert "## first" in text


@pytest.mark.parametrize("levels", [(), (0.9,)])
def test_how_much_is_pruned_is_said_once_and_not_before_it_is_known(levels: tuple[float, ...], tmp_path: Path) -> None:
    values = results().to_json()
    values["rows"] = [one for one in values["rows"] if one["sparsity"] in (0.0, *levels)]
    page = tmp_path / "page.md"
    for title in ("A task", "A task, 90 % pruned"):
        found = Results.of_json({**values, "title": title})
        page.write_text(f"{BEGIN}\n{END}\n")
        write_page(bench_of([task_of("one", 4, found, ())]), page)
        text = page.read_text().replace("\u00a0", " ")
        said = "90 % pruned, " if levels and title == "A task" else ""
        assert f"\n{title}. {said}4 pairs planned; a processor" in text
