"""A run that stops in time keeps what is done, says what is left, and ends as an undisturbed one when it goes on."""

from pathlib import Path

import pytest

from reticket.experiment import (
    EXECUTORS,
    Event,
    ExecutionConfig,
    FolderStore,
    Plan,
    Store,
    Summary,
    Task,
    Until,
    run_plan,
)
from reticket.experiment.until import OutOfTime

RUNNERS = {kind: f"fake_tasks:{kind}" for kind in ("draw", "mix", "slow")}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def plan() -> Plan:
    draws = [Task("draw", 1, {"seed": seed}) for seed in range(4)]
    return Plan.of([Task("mix", 1, {"scale": 1.0}, {"a": a, "b": b}) for a in draws for b in draws if a != b])


def carry_out(executor: str, store: Store, targets: Plan, until: Until | None, stop_at: str = "task-done") -> Summary:
    def hear(event: Event) -> None:
        if until is not None and event.kind == stop_at:
            until.now()

    execution = ExecutionConfig(jobs=2, executor=executor)
    return run_plan(targets, store, RUNNERS, execution, on_event=hear, until=until)


@pytest.mark.slow_cases("processes", "ray")
@pytest.mark.parametrize("executor", [name for name in EXECUTORS if name not in ("local", "slurm")])
def test_what_is_done_is_kept_and_the_rest_is_named(tmp_path: Path, executor: str) -> None:
    """Jobs of SLURM are heard of later than they are done with these: `test_slurm.py` has their end of time."""
    if needs := EXECUTORS[executor].needs:
        pytest.importorskip(needs)
    store, whole = FolderStore(tmp_path), {task.key for task in plan().tasks}
    first = carry_out(executor, store, plan(), Until())
    assert first.done
    assert first.unfinished
    assert not first.complete
    assert set(first.done) | set(first.unfinished) == whole
    assert all(store.has(key) for key in first.done)
    second = carry_out(executor, store, plan(), None)
    assert second.complete
    assert set(second.done) <= set(first.unfinished)
    assert set(second.done) | set(second.cached) == whole


@pytest.mark.slow_cases("processes")
@pytest.mark.parametrize("executor", ["in-process", "processes", "threads"])
def test_a_task_under_way_is_given_up(tmp_path: Path, executor: str) -> None:
    """It would go on for a minute."""
    endless = Plan.of([Task("slow", 1, {"seconds": 60.0})])
    summary = carry_out(executor, FolderStore(tmp_path), endless, Until(), "progress")
    assert summary.unfinished == (endless.tasks[0].key,)


def test_no_time_at_all_computes_nothing(tmp_path: Path) -> None:
    summary = carry_out("in-process", FolderStore(tmp_path), plan(), Until(0.0, clock=lambda: 5.0))
    assert not summary.done
    assert len(summary.unfinished) == len(plan())


def test_time_is_counted_from_the_beginning() -> None:
    now = 100.0
    until = Until(60.0, clock=lambda: now)
    until.check()
    now = 159.5
    assert (until.left, until.patience) == (0.5, 0.5)
    now = 160.0
    with pytest.raises(OutOfTime):
        until.check()
    forever = Until()
    assert forever.left is None
    forever.now()
    assert forever.left == 0.0
