"""Laws of plans: nothing twice, nothing before its inputs, nothing that is not needed, always the same order."""

import random
from collections.abc import Collection, Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given

from reticket.experiment import Plan, Task


class Kept:
    """A store in memory that knows keys only."""

    def __init__(self, *tasks: Task) -> None:
        self.keys = {task.key for task in tasks}

    def has(self, key: str) -> bool:
        return key in self.keys


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    tasks: list[Task] = []
    for n in range(draw(st.integers(1, 14))):
        some = st.lists(st.sampled_from(tasks), max_size=3) if tasks else st.just([])
        inputs = {str(place): task for place, task in enumerate(draw(some))}
        cost = draw(st.sampled_from([0.0, 0.5, 1.0, 8.0]))
        tasks.append(Task("t", 1, {"n": n % 11}, inputs, resumes=tuple(draw(some)), cost=cost))
    return tasks


def order_is_sound(ordered: Sequence[Task], stored: Collection[str] = ()) -> None:
    keys = [task.key for task in ordered]
    assert len(set(keys)) == len(keys)
    place = {key: number for number, key in enumerate(keys)}
    for task in ordered:
        needed = [other for other in task.inputs.values() if other.key not in stored]
        assert all(place.get(other.key, len(keys)) < place[task.key] for other in needed)
        hints = [other for other in task.resumes if other.spec["n"] < task.spec["n"]]  # these cannot run in a circle
        assert all(place.get(other.key, -1) < place[task.key] for other in hints)


@given(graphs())
def test_every_task_once_and_after_what_it_needs(tasks: list[Task]) -> None:
    plan = Plan.of(tasks)
    order_is_sound(plan.tasks)
    assert {task.key for task in plan.tasks} == {task.key for task in tasks}


def test_the_law_of_order_can_fail() -> None:
    first = Task("t", 1, {"n": 0})
    second = Task("t", 1, {"n": 1}, {"a": first})
    hinted = Task("t", 1, {"n": 2}, resumes=(first,))
    order_is_sound([first, second, hinted])
    for broken in ([second, first], [hinted, first], [first, first]):
        with pytest.raises(AssertionError):
            order_is_sound(broken)


@given(graphs(), st.randoms(use_true_random=False))
def test_equal_targets_give_equal_plans(tasks: list[Task], rng: random.Random) -> None:
    assert [task.key for task in Plan.of(tasks).tasks] == [task.key for task in Plan.of(list(tasks)).tasks]
    shuffled = rng.sample(tasks, len(tasks))
    assert {task.key for task in Plan.of(shuffled).tasks} == {task.key for task in Plan.of(tasks).tasks}


@given(graphs(), st.randoms(use_true_random=False))
def test_missing_is_what_the_targets_still_need(tasks: list[Task], rng: random.Random) -> None:
    plan = Plan.of(tasks[-1:])
    stored = Kept(*rng.sample(plan.tasks, len(plan) // 2))
    needed: set[str] = set()

    def need(task: Task) -> None:
        if not stored.has(task.key) and task.key not in needed:
            needed.add(task.key)
            for other in task.inputs.values():
                need(other)

    need(plan.targets[0])
    rest = plan.missing(stored)
    order_is_sound(rest.tasks, stored.keys)
    assert {task.key for task in rest.tasks} == needed


def test_a_stored_result_needs_no_inputs() -> None:
    a = Task("t", 1, {"n": 0})
    b = Task("t", 1, {"n": 1}, {"a": a})
    c = Task("t", 1, {"n": 2}, {"b": b})
    d = Task("t", 1, {"n": 3}, {"a": a})
    assert Plan.of([c]).missing(Kept(b)).tasks == (c,)
    assert Plan.of([c, d]).missing(Kept(b)).tasks == (a, c, d)
    assert len(Plan.of([c, d]).missing(Kept(c, d))) == 0


def test_what_is_resumed_is_no_input() -> None:
    early = Task("t", 1, {"at": 1})
    late = Task("t", 1, {"at": 2}, resumes=(early,))
    assert Plan.of([late]).tasks == (late,)
    assert Plan.of([late, early]).tasks == (early, late)


def test_hints_that_run_in_a_circle_are_dropped() -> None:
    first = Task("t", 1, {"n": 1})
    second = Task("t", 1, {"n": 2}, resumes=(first,))
    circle = Task("t", 1, {"n": 1}, resumes=(second,))
    reads = Task("t", 1, {"n": 3}, {"a": circle}, resumes=(circle,))
    plan = Plan.of([circle, second, reads])
    assert {task.key for task in plan.tasks} == {circle.key, second.key, reads.key}
    assert plan.before[reads.key] == (circle.key,)


def test_the_longest_path_comes_first() -> None:
    short = Task("t", 1, {"n": "short"}, cost=3.0)
    start = Task("t", 1, {"n": "start"}, cost=1.0)
    end = Task("t", 1, {"n": "end"}, {"start": start}, cost=5.0)
    plan = Plan.of([short, end])
    assert plan.tasks == (start, end, short)
    assert (plan.urgency[start.key], plan.urgency[short.key]) == (6.0, 3.0)


def test_an_earlier_stage_comes_first() -> None:
    base = Task("t", 1, {"n": "base"})
    hint = Task("t", 1, {"n": "hint"})
    decisive = Task("t", 1, {"n": "decisive"}, {"base": base}, resumes=(hint,))
    long = Task("t", 1, {"n": "long"}, cost=9.0)
    end = Task("t", 1, {"n": "end"}, {"hint": hint, "long": long}, cost=9.0)
    assert Plan.of([decisive, end]).tasks == (long, hint, end, base, decisive)
    staged = Plan.of([decisive], [end, decisive])
    assert staged.tasks == (hint, base, decisive, long, end)
    assert set(staged.targets) == {decisive, end}
    assert [staged.stage[task.key] for task in staged.tasks] == [0, 0, 0, 1, 1]
    assert staged.missing(Kept(base, decisive)).tasks == (hint, long, end)


def test_shared_and_missing_work_is_counted() -> None:
    base = Task("base", 1, {}, cost=2.0)
    ends = [Task("end", 1, {"n": n}, {"a": base, "b": base}) for n in range(3)]
    plan = Plan.of([*ends, *ends])
    assert (len(plan), plan.shared, plan.cost) == (4, 1, 5.0)
    left = plan.missing(Kept(base, ends[0]))
    assert (len(left), left.shared, left.cost) == (2, 0, 2.0)
