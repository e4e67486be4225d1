"""The remaining time against sums done by hand, and against the truth of a run that a clock made of numbers times."""

import heapq
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from reticket.experiment import Estimate, Event, ExecutionConfig, FolderStore, Pace, Plan, Task, run_plan
from reticket.experiment.pace import Group, Spent, group_of
from reticket.experiment.schedule import Schedule
from reticket.experiment.task import from_flat, to_flat
from reticket.rng import generator_for
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.forecast import forecast, work_of
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.work import Sizes

SIZES = Sizes(1297, 500)


def tasks(kind: str, *costs: float) -> list[Task]:
    return [Task(kind, 1, {"number": number}, cost=cost) for number, cost in enumerate(costs)]


def estimate_of(plan: Plan, *events: Event, now: float, jobs: int = 1, pace: Pace | None = None) -> Estimate:
    estimate = Estimate(plan, jobs, pace, clock=lambda: now)
    for event in events:
        estimate.update(event)
    return estimate


def ended(task: Task, start: float, end: float) -> tuple[Event, Event]:
    return Event("task-started", key=task.key, time=start), Event("task-done", key=task.key, time=end)


def test_nothing_is_estimated_before_anything_was_timed() -> None:
    assert estimate_of(Plan.of(tasks("train", 4.0)), now=9.0).remaining is None


def test_a_kind_that_was_not_seen_takes_as_long_for_its_cost_as_the_others_and_then_its_own() -> None:
    train, match = tasks("train", 2.0, 2.0), tasks("match", 5.0, 5.0)
    plan = Plan.of([*train, *match])
    estimate = estimate_of(plan, *ended(train[0], 0.0, 20.0), now=20.0)
    assert (estimate.done, estimate.total) == (1, 4)
    assert estimate.remaining == pytest.approx((2.0 + 5.0 + 5.0) * 10.0)
    for event in ended(match[0], 20.0, 25.0):
        estimate.update(event)
    everything = 25.0 / 7.0  # of the two models' one, which leans on itself
    of_train, of_match = (10.0 + everything) / 2, (1.0 + everything) / 2  # seen once each, so half their own
    assert estimate.remaining == pytest.approx(2.0 * of_train + 5.0 * of_match)


def test_models_have_paces_of_their_own() -> None:
    small, large = (
        [Task("train", 1, {"model": name, "seed": seed}, cost=1.0) for seed in range(3)] for name in ("small", "large")
    )
    events = [*ended(small[0], 0.0, 1.0), *ended(small[1], 1.0, 2.0), *ended(large[0], 2.0, 102.0)]
    overall = 102.0 / 3.0
    of_small, of_large = (2 * 1.0 + overall) / 3, (100.0 + overall) / 2
    own = (2 * 1.0 + of_small) / 3, (100.0 + of_large) / 2
    assert estimate_of(Plan.of([*small, *large]), *events, now=102.0).remaining == pytest.approx(own[0] + 2 * own[1])


def test_one_model_on_inputs_of_another_form_has_a_pace_of_its_own() -> None:
    specs = [{"model": "net", "data": {"name": "x", **params}} for params in ({}, {"params": {"side": 16}})]
    tasks = [Task("train", 1, {**spec, "seed": seed}, cost=1.0) for spec in specs for seed in range(20)]
    known = {
        group_of("train", spec): Spent(20, 20 * seconds, 20.0) for spec, seconds in zip(specs, (4.0, 1.0), strict=True)
    }
    assert len(known) == 2
    assert Estimate(Plan.of(tasks), pace=Pace(known)).remaining == pytest.approx(20 * 4.0 + 20 * 1.0)


def test_another_precision_has_a_pace_of_its_own() -> None:
    specs = [{"model": "net", "recipe": {"lr": 0.1, **precision}} for precision in ({}, {"precision": "bfloat16"})]
    tasks = [Task("train", 1, {**spec, "seed": seed}, cost=1.0) for spec in specs for seed in range(20)]
    known = {
        group_of("train", spec): Spent(20, 20 * seconds, 20.0) for spec, seconds in zip(specs, (4.0, 1.0), strict=True)
    }
    assert Estimate(Plan.of(tasks), pace=Pace(known)).remaining == pytest.approx(20 * 4.0 + 20 * 1.0)


def test_jobs_share_what_is_left_but_not_one_task_nor_a_chain_of_tasks() -> None:
    done, long = tasks("train", 10.0, 30.0)
    estimate = estimate_of(Plan.of([done, long]), *ended(done, 0.0, 10.0), now=10.0, jobs=4)
    assert estimate.remaining == pytest.approx(30.0), "one task is left"
    first, *others = tasks("train", 1.0, 1.0, 1.0, 1.0, 1.0)
    chain = [first]
    for number in range(2):
        chain.append(Task("train", 1, {"round": number}, {"before": chain[-1]}, cost=2.0))
    estimate = estimate_of(Plan.of([chain[-1], *others]), *ended(others[0], 0.0, 10.0), now=10.0, jobs=100)
    assert estimate.remaining == pytest.approx(10.0 * (1 + 2 + 2))
    for event in ended(first, 10.0, 20.0):
        estimate.update(event)
    assert estimate.remaining == pytest.approx(10.0 * (2 + 2))


def test_progress_of_the_first_task_is_enough() -> None:
    first, second = tasks("train", 1.0, 1.0)
    begun = Event("task-started", key=first.key, time=0.0)
    quarter = Event("progress", key=first.key, fraction=0.25, seconds=5.0, time=5.0)
    assert estimate_of(Plan.of([first, second]), begun, quarter, now=5.0).remaining == pytest.approx(15.0 + 20.0)


def test_what_was_learned_before_is_an_estimate_at_once_and_gives_way_to_what_is_seen() -> None:
    plan = Plan.of(tasks("train", 1.0, 1.0, 1.0, 1.0))
    pace = Pace({group_of("train", {}): Spent(3, 30.0, 3.0)})
    assert estimate_of(plan, now=0.0, pace=pace).remaining == pytest.approx(40.0)
    events = [event for task in plan.tasks[:3] for event in ended(task, 0.0, 20.0)]  # twice as slow today
    assert 18.0 < (estimate_of(plan, *events, now=20.0, pace=pace).remaining or 0.0) < 20.0


# -------------------------------------------------------------------- a whole run


@cache
def planned() -> Plan:
    sizes = "seeds=3", "sparsities=[0.6, 0.9]", 'methods=["lth", "permuted", "naive"]'
    facts = Facts("0" * 64, SIZES.train, tuple("0123456789"), (64,), test_size=SIZES.test)
    return Plan.of(Blueprint(load_config("digits", sizes)[1], facts).targets)


@cache
def truth() -> dict[str, float]:
    """What each task takes: an evaluation half as long as a step, some time for each task, and a third of noise."""
    plan, noise = planned(), generator_for("noise")
    images = forecast(plan.targets, lambda task, resumed: work_of(task, resumed, SIZES)).work
    seconds = {}
    for task in plan.tasks:
        work = images[task.key]
        whole = 4.0 if task.kind == "symmetry" else 0.05 + 1e-4 * float(work.trained + work.evaluated / 2)
        seconds[task.key] = whole * (1.0 + 0.3 * (float(torch.rand((), generator=noise)) - 0.5))
    return seconds


def played(jobs: int) -> Iterator[Event]:
    """Yield the events of a run whose tasks take what the truth says, with words on progress at quarters."""
    told: list[Event] = []
    schedule = Schedule(planned(), lambda key: False, told.append)
    now, running = 0.0, []
    while not schedule.finished:
        while len({key for _, _, key, _ in running}) < jobs and (task := schedule.next(patient=False)) is not None:
            told.clear()
            yield Event("task-started", key=task.key, time=now)
            for part in (0.25, 0.5, 0.75, 1.0):
                heapq.heappush(running, (now + part * truth()[task.key], part, task.key, task))
        now, part, key, task = heapq.heappop(running)
        if part < 1.0:
            yield Event("progress", key=key, fraction=part, seconds=part * truth()[key], time=now)
        else:
            schedule.finish(task, truth()[key])
            yield Event("task-done", key=key, time=now)


def misses(jobs: int, plan: Plan, pace: Pace | None = None) -> dict[float, float]:
    """Return by share of the time the error of the estimate then, as a share of what was really left."""
    events = list(played(jobs))
    end, now, found = events[-1].time, [0.0], {}
    estimate = Estimate(plan, jobs, pace, clock=lambda: now[0])
    shares = [0.0, 0.1, 0.2, 0.5]
    for event in events:
        while shares and event.time > shares[0] * end:
            share = shares.pop(0)
            now[0] = share * end
            found[share] = (estimate.remaining or math.inf) / (end - now[0]) - 1.0
        now[0] = event.time
        estimate.update(event)
    return found


def within(share: float, found: dict[float, float]) -> None:
    assert all(abs(error) <= share for at, error in found.items() if at), found


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_a_tenth_of_a_run_is_enough_to_tell_the_rest_to_a_fifth(jobs: int) -> None:
    within(0.2, misses(jobs, planned()))


def test_the_law_notices_costs_that_do_not_compare() -> None:
    alike = from_flat([{**row, "cost": 1.0} for row in to_flat(planned().targets)])
    with pytest.raises(AssertionError):
        within(0.2, misses(1, Plan.of(alike)))


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_who_has_seen_such_a_run_can_tell_before_it_begins(jobs: int) -> None:
    spent: dict[Group, Spent] = {}
    for task in planned().tasks[::3]:
        group = group_of(task.kind, task.spec)
        spent[group] = spent.get(group, Spent()) + Spent(1, truth()[task.key], task.cost)
    found = misses(jobs, planned(), Pace(spent))
    assert abs(found[0.0]) <= 0.2
    within(0.2, found)


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return lambda: {kind: f"fake_tasks:{kind}" for kind in ("diverge", "draw", "mix")}


def test_the_estimate_of_a_real_run_ends_at_nought(tmp_path: Path, runners: Callable[[], dict[str, str]]) -> None:
    told: list[Event] = []
    bad = Task("diverge", 1, {})
    good = [Task("draw", 1, {"seed": seed}) for seed in range(4)]
    lost = Task("mix", 1, {"scale": 1.0}, {"x": bad})
    run_plan(Plan.of([lost, *good]), FolderStore(tmp_path), runners(), on_event=told.append)
    assert told[0].left is None
    assert told[-1].left == 0.0
    assert all(event.left is None or (math.isfinite(event.left) and event.left >= 0) for event in told)


def test_a_second_run_on_a_store_has_an_estimate_before_it_computes_and_says_from_how_many_results(
    tmp_path: Path, runners: Callable[[], dict[str, str]]
) -> None:
    def started(*seeds: int, threads: int = 1) -> Event:
        told: list[Event] = []
        drawn = [Task("draw", 1, {"seed": seed, "threads": threads}, cost=2.0) for seed in seeds]
        run_plan(
            Plan.of(drawn),
            FolderStore(tmp_path),
            runners(),
            ExecutionConfig(threads=threads),
            on_event=told.append,
        )
        return told[0]

    assert started(0, 1).left is None
    second = started(0, 1, 2, 3, 4)
    pace = Pace.learned(FolderStore(tmp_path), ExecutionConfig())
    assert second.counts["learned"] == 2
    assert second.left is not None
    assert 0 < second.left < 3.0
    assert pace.tasks == 5
    assert not Pace.learned(FolderStore(tmp_path), ExecutionConfig(threads=2)).tasks, "threads are another pace"
    assert started(0, threads=2).left is None
