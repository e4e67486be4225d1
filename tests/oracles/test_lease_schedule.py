"""The schedule of the lease against sums done by hand, and the laws of its stages."""

from collections.abc import Callable, Mapping, Sequence

import pytest

import benchmarks.lease.schedule as lease
from benchmarks.lease.schedule import CIFAR10, DECISIVE, MAIN, Chosen, Rates, choose, row_config, simulate, stages
from reticket.errors import InputError
from reticket.experiment import Plan, Task
from reticket.experiment.task import closure
from reticket.tasks.blueprint import Blueprint
from reticket.training import parse_position

FLAT = Rates({1: 150_000.0})
MEASURED = Rates({1: 40e3, 4: 90e3, 8: 130e3, 12: 150e3, 16: 150e3})


def task(name: str, cost: float, *inputs: Task) -> Task:
    return Task("train", 1, {"name": name}, {str(n): other for n, other in enumerate(inputs)}, cost=cost)


def blueprint(seeds: Sequence[int] = (0, 1, 2), sparsities: Sequence[float] = MAIN, imp_b: bool = True) -> Blueprint:
    return Blueprint(row_config(20, seeds, sparsities, imp_b=imp_b), CIFAR10)


# -------------------------------------------------------------------- throughput


def test_throughput_between_and_beyond_what_was_measured() -> None:
    rates = Rates({8: 180.0, 4: 100.0})
    assert [rates(m) for m in (1, 2, 4, 5, 6, 8, 16)] == [25.0, 50.0, 100.0, 120.0, 140.0, 180.0, 180.0]
    assert [FLAT(m) for m in (1, 7, 16)] == [150_000.0] * 3


@pytest.mark.parametrize("measured", [{}, {1: 0.0}, {0: 5.0}, {1: float("nan")}, {1: float("inf")}])
def test_throughput_that_cannot_be_is_refused(measured: Mapping[int, float]) -> None:
    with pytest.raises(InputError, match="give at least one, and positive numbers alone"):
        Rates(measured)


def test_no_precision_is_refused() -> None:
    with pytest.raises(InputError, match="no precision was measured"):
        choose({}, 430.0)


# -------------------------------------------------------------------- playing a plan through

SIDE_BY_SIDE = Rates({1: 100.0, 2: 150.0})


def two_tasks(run: Callable[..., tuple[float, ...]]) -> None:
    """Two at 75 a second: the short one's 100 inputs take 4/3 s; the other has 100 of 200 left, at 100 a second."""
    plan = Plan.of([task("short", 1.0), task("long", 2.0)])
    assert run(plan, SIDE_BY_SIDE, train_size=100, jobs=2, overhead=0.0) == pytest.approx((4 / 3 + 1.0,))


def test_two_tasks_share_the_device() -> None:
    two_tasks(simulate)


def test_a_device_that_is_not_shared_is_noticed() -> None:
    """What the other tests rest on: a simulation that forgets how many tasks run gives another second."""

    def forgetful(plan: Plan, rates: Rates, **rest: float) -> tuple[float, ...]:
        return simulate(plan, Rates({1: rates(1)}), **rest)  # type: ignore[arg-type]

    with pytest.raises(AssertionError):
        two_tasks(forgetful)


def test_a_chain_runs_alone_whatever_the_jobs() -> None:
    first = task("first", 2.0)
    second = task("second", 1.0, first)
    ends = simulate(Plan.of([first], [second]), SIDE_BY_SIDE, train_size=100, jobs=2, overhead=0.5)
    assert ends == pytest.approx((0.5 + 2.0, 0.5 + 2.0 + 0.5 + 1.0))


def test_more_tasks_than_jobs() -> None:
    """Two of three equal tasks at 75 a second end after 4/3 s, then the third, of the later stage, runs alone."""
    plan = Plan.of([task("a", 1.0), task("b", 1.0)], [task("c", 1.0)])
    assert simulate(plan, SIDE_BY_SIDE, 100, 2, overhead=0.0) == pytest.approx((4 / 3, 4 / 3 + 1.0))
    assert simulate(plan, SIDE_BY_SIDE, 100, 1, overhead=0.0) == pytest.approx((2.0, 3.0))


def test_a_later_stage_fills_what_is_idle() -> None:
    """While the chain of stage 0 runs, stage 1 has the other place: 75 a second each, until its 300 inputs are done."""
    first = task("first", 2.0)
    plan = Plan.of([task("second", 3.0, first)], [task("filler", 3.0)])
    ends = simulate(plan, SIDE_BY_SIDE, train_size=100, jobs=2, overhead=0.0)
    assert ends == pytest.approx((4.0 + 2.0, 4.0 + 2.0)), "the filler is done at 4 s, but its stage comes after"


def test_the_symmetry_takes_seconds_of_its_own_not_its_cost() -> None:
    found = Task("symmetry", 1, {}, cost=1000.0)
    assert simulate(Plan.of([found]), SIDE_BY_SIDE, 100, 4, overhead=9.0, symmetry=3.0) == pytest.approx((3.0,))


def test_one_job_takes_the_sum_of_all_work() -> None:
    plan = Plan.of(*stages(blueprint()))
    cost = sum(one.cost for one in plan.tasks if one.kind != "symmetry")
    expected = cost * 50_000 / 150e3 + 0.5 * (len(plan) - 1) + 5.0
    assert simulate(plan, FLAT, 50_000, 1)[-1] == pytest.approx(expected)


# -------------------------------------------------------------------- stages


def whole(blueprint: Blueprint, found: Sequence[Sequence[Task]]) -> None:
    """Every target is in exactly one stage, and nothing else is."""
    placed = [one.key for stage in found for one in stage]
    assert len(placed) == len(set(placed))
    assert set(placed) == {one.key for one in blueprint.targets}


@pytest.mark.parametrize("sparsities", [(0.9,), (0.9, 0.95)])
@pytest.mark.parametrize("seeds", [(4,), (0, 1, 2), (7, 8, 9, 10, 11)])
@pytest.mark.parametrize("imp_b", [True, False])
def test_every_target_is_in_one_stage(seeds: Sequence[int], sparsities: Sequence[float], imp_b: bool) -> None:
    made = blueprint(seeds, sparsities, imp_b)
    found = stages(made)
    whole(made, found)
    assert len(found) == 1 + len(sparsities) + 2 * max(0, len(seeds) - 3)


def test_a_stage_that_lost_a_target_is_noticed() -> None:
    made = blueprint()
    first, second = stages(made)
    with pytest.raises(AssertionError):
        whole(made, (first, second[:-1]))
    with pytest.raises(AssertionError):
        whole(made, (first, (*second, first[0])))


def test_the_decisive_methods_come_first_then_95_percent_then_one_pair_after_another() -> None:
    made = blueprint((0, 1, 2, 3, 4), (0.9, 0.95))
    found = stages(made)
    where = {one.key: number for number, stage in enumerate(found) for one in stage}
    for cell, tasks in made.runs.items():
        decisive = cell.method in DECISIVE and cell.match_at in (None, "end")
        rank = 2 if cell.sparsity == 0.95 else 0 if decisive else 1
        late = 0 if rank == 0 else 1
        assert [where[one.key] for one in tasks] == [rank] * 3 + [3 + late, 5 + late], cell
    for cell, tasks in made.of("barriers").items():
        rank = 2 if cell.sparsity == 0.95 else 1
        assert [where[one.key] for one in tasks] == [rank] * 3 + [4, 6], cell
    assert [where[one.key] for one in made.of("matching")["end"]] == [0] * 3 + [3, 5]
    assert [where[one.key] for one in made.of("matching")["2ep"]] == [1] * 3 + [4, 6]


def test_the_decisive_stage_needs_nothing_else() -> None:
    first, _ = stages(blueprint((5, 6, 7)))
    assert {one.spec["method"] for one in first if one.kind == "sparse"} == {"lth", "naive", "permuted"}
    names = [one.label for one in closure(first, resumes=True)]
    assert not [name for name in names if "IMP B" in name or "barrier" in name or "signed" in name]


def test_a_second_sparsity_changes_no_task_of_the_first() -> None:
    alone, both = stages(blueprint()), stages(blueprint(sparsities=(0.9, 0.95)))
    assert alone == both[:2]


# -------------------------------------------------------------------- the row


@pytest.mark.parametrize("epochs", [1, 2, 7, 10, 17, 20, 43, 100, 200])
def test_everything_is_scaled_with_the_epochs(epochs: int) -> None:
    config = row_config(epochs, (3, 4, 5), precision="bfloat16")
    steps = 391
    assert config.dense.epochs == epochs
    assert abs(parse_position(config.grid.rewinds[0], steps) - epochs * steps / 10) <= 0.5
    assert config.grid.match_at == ("end", *config.grid.rewinds)
    assert config.prune.epochs == max(1, round(epochs / 4))
    assert config.scale == ({} if epochs == 200 else config.scale | {"epochs": (200, epochs)})
    assert (config.dense.precision, config.grid.seeds) == ("bfloat16", (3, 4, 5))


def test_the_row_is_the_papers_in_all_else() -> None:
    config = row_config(200, (0,))
    assert (config.dense.lr, config.dense.batch_size, config.sparse.lr, config.prune.lr) == (0.08, 128, 0.02, 0.01)
    assert config.grid.methods == (*DECISIVE, "random-permutation", "signed", "naive-signed", "imp-b")
    checks = config.checks
    assert checks.pairs == ("A to B", "permuted A to B", "dense A to IMP A")
    assert (checks.alphas, checks.barrier_samples, checks.overlap) == (11, 10_000, True)
    assert (checks.diversity_members, checks.independent_members) == (0, 0)


def test_without_imp_b_no_b_is_pruned() -> None:
    made = blueprint(imp_b=False)
    assert not [one.label for one in closure(made.targets) if "IMP B" in one.label]
    assert "imp-b" not in made.methods


# -------------------------------------------------------------------- the choice


def planned_three_pairs(chosen: Chosen, budget: float) -> None:
    assert len(chosen.config.grid.seeds) >= 3
    assert chosen.seconds[1] <= 0.85 * budget
    assert chosen.config.grid.methods == row_config(200, (0,)).grid.methods


@pytest.mark.slow
def test_the_issues_figures() -> None:
    """150,000 images a second and 430 s: three pairs with every method, at about a tenth of the paper's length."""
    chosen = choose({"float32": FLAT}, 430.0)
    planned_three_pairs(chosen, 430.0)
    assert (chosen.epochs, chosen.jobs, chosen.precision) == (18, 1, "float32")
    side_by_side = choose({"float32": FLAT}, 430.0, jobs=(1, 12))
    planned_three_pairs(side_by_side, 430.0)
    assert (side_by_side.epochs, side_by_side.jobs) == (21, 12)
    assert choose({"float32": Rates({1: 300e3})}, 430.0).epochs == 37, "twice the throughput, a longer schedule"
    with pytest.raises(AssertionError):
        planned_three_pairs(choose({"float32": Rates({1: 50e3})}, 430.0), 430.0)


def test_one_epoch_more_would_not_have_fitted() -> None:
    more = Plan.of(*stages(Blueprint(row_config(19, (0, 1, 2)), CIFAR10)))
    assert simulate(more, FLAT, 50_000, 1)[1] > 0.85 * 430.0 >= choose({"float32": FLAT}, 430.0).seconds[1]


@pytest.mark.slow
def test_more_seconds_never_shorten_the_schedule() -> None:
    budgets = (20, 60, 150, 200, 270, 330, 430)
    epochs = [choose({"float32": MEASURED}, budget, jobs=(12,)).epochs for budget in budgets]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) >= 4


def test_the_faster_precision_wins_and_of_equal_ones_the_first() -> None:
    faster = choose({"float32": FLAT, "bfloat16": Rates({1: 165e3})}, 430.0)
    assert (faster.precision, faster.config.dense.precision) == ("bfloat16", "bfloat16")
    assert choose({"bfloat16": FLAT, "float32": FLAT}, 430.0).precision == "bfloat16"


def test_a_loan_of_its_own_seeds_and_settings() -> None:
    settings = ["checks.barrier_samples=64", "matching.batch_size=32"]
    chosen = choose({"float32": FLAT}, 430.0, first_seed=6, settings=settings)
    assert chosen.config.grid.seeds == (6, 7, 8)
    assert (chosen.config.checks.barrier_samples, chosen.config.matching.batch_size) == (64, 32)
    assert chosen.stages == stages(Blueprint(chosen.config, CIFAR10))
    assert len(chosen.stages) == len(chosen.seconds)


def test_first_imp_b_goes_then_all_but_the_decisive_methods_and_there_is_always_a_schedule() -> None:
    without = choose({"float32": FLAT}, 200.0)
    assert (without.epochs, without.config.checks.overlap) == (10, False)
    assert "imp-b" not in without.config.grid.methods
    assert "imp-b and the overlap of masks are left out" in without.sentence
    decisive = choose({"float32": FLAT}, 120.0)
    assert decisive.epochs == 9
    assert decisive.seconds[0] <= 0.85 * 120.0 < decisive.seconds[1]
    assert "what is not done at the end of the budget is cut" in decisive.sentence
    assert choose({"float32": Rates({1: 1.0})}, 1.0).epochs == 1


def test_what_fits_beside_the_paper_s_own_length_is_added() -> None:
    some, all_of_it = (choose({"float32": Rates({1: rate})}, 430.0) for rate in (3e6, 20e6))
    assert (some.epochs, some.config.grid.sparsities, some.config.grid.seeds) == (200, (0.9, 0.95), (0, 1, 2))
    assert all_of_it.config.grid.seeds == (0, 1, 2, 3, 4)
    assert all_of_it.seconds[-1] <= 430.0
    assert list(all_of_it.seconds) == sorted(all_of_it.seconds)


def test_the_choice_in_words() -> None:
    assert choose({"float32": FLAT}, 430.0).sentence == (
        "T = 18 of 200 dense epochs, 4 a round of pruning, k = 704it, float32, 1 tasks side by side, pairs 0, 1, 2; "
        "predicted: decisive methods by 162 s, all methods by 348 s, of a budget of 430 s."
    )


def test_the_constants_are_the_issue_s() -> None:
    assert (lease.PAIRS, lease.SAFETY, lease.LEAST_EPOCHS, lease.PAPER_EPOCHS) == (3, 0.85, 10, 200)
