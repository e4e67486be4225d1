"""The remaining time against sums done by hand."""

import math
from pathlib import Path

import pytest

from reticket.experiment import Estimate, Event, FolderStore, Plan, Task, run_plan


def estimate_after(*events: Event, now: float) -> Estimate:
    estimate = Estimate(clock=lambda: now)
    for event in events:
        estimate.update(event)
    return estimate


def started(jobs: int, **costs: float) -> Event:
    work = {kind: {"tasks": 2.0, "cost": cost} for kind, cost in costs.items()}
    return Event("plan-started", work=work, counts={"jobs": jobs}, time=0.0)


def ended(key: str, task: str, cost: float, seconds: float) -> Event:
    return Event("task-done", key=key, task=task, cost=cost, seconds=seconds)


def test_nothing_is_estimated_before_anything_was_timed() -> None:
    assert estimate_after(started(1, train=4.0), now=9.0).remaining is None


def test_each_kind_has_its_own_pace() -> None:
    events = [started(1, train=4.0, match=10.0), ended("a", "train", 2.0, 20.0), ended("b", "match", 5.0, 5.0)]
    estimate = estimate_after(*events, now=25.0)
    assert (estimate.done, estimate.total) == (2, 4)
    assert estimate.remaining == pytest.approx(2.0 * 10.0 + 5.0 * 1.0)


def test_workers_share_what_is_left_but_not_one_task() -> None:
    events = [started(4, train=40.0), ended("a", "train", 10.0, 10.0)]
    assert estimate_after(*events, now=0.0).remaining == pytest.approx(30.0), "one task is left"
    begun = Event("task-started", key="b", task="train", cost=30.0, time=100.0)
    assert estimate_after(*events, begun, now=110.0).remaining == pytest.approx(20.0)


def test_progress_of_the_first_task_is_enough() -> None:
    begun = Event("task-started", key="a", task="train", cost=1.0, time=0.0)
    quarter = Event("progress", key="a", task="train", fraction=0.25, seconds=5.0, time=5.0)
    estimate = estimate_after(started(1, train=2.0), begun, quarter, now=5.0)
    assert estimate.remaining == pytest.approx(15.0 + 20.0)


def test_the_estimate_of_a_real_run_ends_at_nought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = Estimate()
    seen = []

    def listen(event: Event) -> None:
        estimate.update(event)
        seen.append(estimate.remaining)

    bad = Task("diverge", 1, {})
    good = [Task("draw", 1, {"seed": seed}) for seed in range(4)]
    lost = Task("mix", 1, {"scale": 1.0}, {"x": bad})
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    runners = {kind: f"fake_tasks:{kind}" for kind in ("diverge", "draw", "mix")}
    run_plan(Plan.of([lost, *good]), FolderStore(tmp_path), runners, on_event=listen)
    assert (estimate.done, estimate.total, seen[-1]) == (6, 6, 0.0)
    assert all(left is None or (math.isfinite(left) and left >= 0) for left in seen)
