"""Laws of running a plan: what is stored is never computed again, and a failure takes only what needs it."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from reticket.experiment import Event, ExecutionConfig, FolderStore, Plan, Summary, Task, Until, run_plan
from reticket.experiment.compute import load_runner
from tests.counted import calls

KINDS = ("draw", "mix", "walk", "diverge", "wrong", "nothing", "look", "slow")
RUNNERS = {kind: f"fake_tasks:{kind}" for kind in KINDS}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def run(targets: Sequence[Task], root: Path, **options: Any) -> tuple[Summary, list[Event]]:
    events: list[Event] = []
    summary = run_plan(Plan.of(targets), FolderStore(root), RUNNERS, ExecutionConfig(**options), on_event=events.append)
    assert all(json.loads(json.dumps(event.to_json())) == event.to_json() for event in events)
    return summary, events


def table(scale: float = 1.0, seeds: int = 3) -> list[Task]:
    """A small experiment: every pair of neighbours mixed, then all of them."""
    draws = [Task("draw", 1, {"seed": seed}, label=f"draw {seed}") for seed in range(seeds)]
    pairs = [
        Task("mix", 1, {"scale": 1.0}, {"a": a, "b": b}, label="a pair")
        for a, b in zip(draws, draws[1:] + draws[:1], strict=True)
    ]
    return [*pairs, Task("mix", 1, {"scale": scale}, {str(n): pair for n, pair in enumerate(pairs)}, label="all")]


def computed_once(run_twice: Callable[[Path], None], log: Path) -> None:
    """The law itself: each key appears once in the log of what was computed."""
    run_twice(log)
    counts = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert set(counts) == {task.key for task in Plan.of(table()).tasks}
    assert set(counts.values()) == {1}


def test_equal_tasks_are_computed_once_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    def run_twice(log: Path) -> None:
        settings = {"log": str(log)}
        summary, _ = run([*table(), *table()], tmp_path / "store", settings=settings)
        assert (len(summary.done), len(summary.cached), summary.complete) == (7, 0, True)
        summary, events = run(table(), tmp_path / "store", settings=settings)
        assert (len(summary.done), len(summary.cached), summary.complete) == (0, 7, True)
        assert [event.kind for event in events] == ["plan-started", "plan-finished"]
        assert events[0].text == "7 tasks, 6 shared; 7 stored, 0 to compute"

    computed_once(run_twice, tmp_path / "log")


def test_the_law_of_once_can_fail(tmp_path: Path) -> None:
    def forgets(log: Path) -> None:
        for name in "ab":
            run(table(), tmp_path / name, settings={"log": str(log)})

    with pytest.raises(AssertionError):
        computed_once(forgets, tmp_path / "log")


def test_a_changed_field_redoes_only_what_it_decides(tmp_path: Path) -> None:
    run(table(), tmp_path)
    summary, _ = run(table(scale=2.0), tmp_path)
    assert summary.done == (table(scale=2.0)[-1].key,)
    summary, _ = run(table(seeds=4), tmp_path)
    assert len(summary.done) == 4, "one draw, two pairs and the whole"


def test_what_is_needed_again_is_computed_again_and_nothing_else(tmp_path: Path) -> None:
    run(table(), tmp_path)
    draw = table()[0].inputs["a"]
    shutil.rmtree(tmp_path / "results" / draw.key[:2] / draw.key)
    assert run(table(), tmp_path)[0].done == ()
    other = Task("mix", 1, {"scale": 3.0}, {"a": draw})
    assert run([*table(), other], tmp_path)[0].done == (draw.key, other.key)


def began(log: Path) -> list[int]:
    """Return the steps at which walks began."""
    return [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("began")]


def test_results_go_on_from_an_earlier_point_of_their_trajectory(tmp_path: Path) -> None:
    points: list[Task] = []
    for at in (2, 5, 9):
        points.append(Task("walk", 1, {"seed": 0, "at": at}, resumes=tuple(points[-1:]), cost=1.0))
    log = tmp_path / "log"
    summary, _ = run(points, tmp_path / "on", settings={"log": str(log)})
    assert began(log) == [0, 2, 5]
    assert summary.done == tuple(point.key for point in points)
    run(points[-1:], tmp_path / "alone")
    (tmp_path / "log").unlink()
    run([points[0]], tmp_path / "gap")
    run([points[2]], tmp_path / "gap", settings={"log": str(log)})
    assert began(log) == [2], "the nearest stored point, over a missing one"
    found = [FolderStore(tmp_path / name).get(points[2].key).tensors["x"] for name in ("on", "alone", "gap")]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=0)


def test_a_failed_earlier_point_is_only_a_hint(tmp_path: Path) -> None:
    bad = Task("diverge", 1, {})
    later = Task("walk", 1, {"seed": 0, "at": 3}, resumes=(bad,))
    summary, _ = run([bad, later], tmp_path)
    assert (summary.done, list(summary.failed), summary.skipped) == ((later.key,), [bad.key], {})


def failure_is_contained(summary: Summary, bad: Sequence[Task], lost: Sequence[Task], good: Sequence[Task]) -> None:
    """The law itself: what fails is named, what needs it is skipped, all else is done."""
    assert set(summary.failed) == {task.key for task in bad}
    assert set(summary.skipped) == {task.key for task in lost}
    assert set(summary.done) == {task.key for task in good}
    assert not summary.complete


def mixed_plan() -> tuple[list[Task], list[Task], list[Task]]:
    bad = [Task("diverge", 1, {}, label="a run"), Task("wrong", 1, {}), Task("nothing", 1, {})]
    lost = [Task("mix", 1, {"scale": 1.0}, {"a": bad[0]}, label="lost")]
    lost.append(Task("mix", 1, {"scale": 2.0}, {"a": lost[0], "b": bad[1]}))
    return bad, lost, table()


def test_a_failure_takes_only_what_needs_it(tmp_path: Path) -> None:
    bad, lost, good = mixed_plan()
    summary, events = run([*bad, *lost, *good], tmp_path)
    failure_is_contained(summary, bad, lost, Plan.of(good).tasks)
    assert summary.failed[bad[0].key] == ("a run", "loss is nan at step 3; lower the learning rate")
    assert summary.failed[bad[1].key][1] == "ZeroDivisionError: one by nought"
    assert "returned NoneType, expected Output" in summary.failed[bad[2].key][1]
    failed = {event.key: event for event in events if event.kind == "task-failed"}
    assert 'raise ZeroDivisionError("one by nought")' in failed[bad[1].key].traceback
    skipped = [event.text for event in events if event.kind == "task-skipped"]
    assert skipped == ["it needs 'a run', which failed"] * 2


def test_the_law_of_failures_can_fail(tmp_path: Path) -> None:
    bad, lost, good = mixed_plan()
    summary, _ = run([*bad, *lost], tmp_path)
    with pytest.raises(AssertionError):
        failure_is_contained(summary, bad, lost, Plan.of(good).tasks)


def test_a_damaged_result_is_computed_again_with_what_it_needs(tmp_path: Path) -> None:
    run(table(), tmp_path)
    whole = table()[-1]
    path = tmp_path / "results" / whole.key[:2] / whole.key / "tensors.safetensors"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"?")
    summary, events = run(table(), tmp_path)
    assert summary.done == (whole.key,)
    assert events[0].kind == "result-damaged"
    assert path.read_bytes() == before


def test_what_another_process_finished_meanwhile_is_taken(tmp_path: Path) -> None:
    first, second = Task("draw", 1, {"seed": 0}), Task("draw", 1, {"seed": 1})

    def meanwhile(event: Event) -> None:
        if event.kind == "task-started" and event.key == first.key:
            run([second], tmp_path)

    summary = run_plan(Plan.of([first, second]), FolderStore(tmp_path), RUNNERS, on_event=meanwhile)
    assert (summary.done, summary.cached) == ((first.key,), (second.key,))


def test_threads_are_set_for_the_tasks_and_put_back(tmp_path: Path) -> None:
    look = Task("look", 1, {})
    before = torch.get_num_threads()
    run([look], tmp_path, threads=before + 1, settings={"RETICKET_DATA": "/data"})
    values = FolderStore(tmp_path).get(look.key).values
    assert (values["torch_threads"], values["threads"], values["device"]) == (before + 1, before + 1, "cpu")
    assert values["settings"] == {"RETICKET_DATA": "/data"}
    assert torch.get_num_threads() == before


def test_provenance_tells_how_a_result_came_about(tmp_path: Path) -> None:
    begun = time.monotonic()
    run(table(), tmp_path)
    whole = time.monotonic() - begun
    pair = table()[0]
    provenance = FolderStore(tmp_path).get(pair.key).provenance
    assert 0 < provenance["seconds"] <= whole
    assert (provenance["device"], provenance["threads"], provenance["torch"]) == ("cpu", 1, torch.__version__)
    assert provenance["task"] == {
        "kind": "mix",
        "version": 1,
        "label": "a pair",
        "spec": {"scale": 1.0},
        "inputs": {name: task.key for name, task in pair.inputs.items()},
    }


def test_progress_is_told_at_most_five_times_a_second(tmp_path: Path) -> None:
    _, events = run([Task("slow", 1, {"seconds": 0.7})], tmp_path)
    told = [event for event in events if event.kind == "progress"]
    assert 1 <= len(told) <= 0.2 + (events[-1].time - events[0].time) / 0.2
    assert all(0 <= (event.fraction or 0.0) <= 1 and event.text.startswith("step") for event in told)


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "task-done":
            raise KeyboardInterrupt

    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        run_plan(
            Plan.of(table()), FolderStore(tmp_path), RUNNERS, ExecutionConfig(threads=before + 1), on_event=interrupt
        )
    assert torch.get_num_threads() == before
    assert len(run(table(), tmp_path)[0].done) == 6


def test_runners_may_be_functions_that_can_be_imported(tmp_path: Path) -> None:
    draw = load_runner("fake_tasks:draw")
    task = Task("draw", 1, {"seed": 0})
    run_plan(Plan.of([task]), FolderStore(tmp_path), {"draw": draw})
    assert FolderStore(tmp_path).has(task.key)


def test_small_tasks_cost_little_beyond_their_work(tmp_path: Path) -> None:
    """Ten times as many tasks are no more work for each."""

    def work(tasks: int) -> float:
        plan = Plan.of([Task("draw", 1, {"seed": seed}) for seed in range(tasks)])
        return calls(lambda: run_plan(plan, FolderStore(tmp_path / str(tasks)), RUNNERS)) / tasks

    work(1)  # what is made ready at the first one
    assert 0 < work(100) <= 1.5 * work(10)


@pytest.mark.slow_cases("0-processes", "2-processes", "4-processes")
@pytest.mark.parametrize("executor", ["in-process", "processes", "threads"])
@pytest.mark.parametrize("theirs", [0, 2, 4])
def test_what_another_run_computes_is_left_to_it_and_done_if_it_ends_without(
    tmp_path: Path, executor: str, theirs: int
) -> None:
    tasks = [Task("draw", 1, {"seed": seed}, label=f"draw {seed}", cost=5.0 - seed) for seed in range(4)]
    other, ended = FolderStore(tmp_path), ExitStack()
    for task in tasks[:theirs]:
        ended.enter_context(other.claim(task.key))
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        if event.kind == "notice":
            ended.close()  # the other run is killed: its claims go with it

    execution = ExecutionConfig(executor=executor)
    summary = run_plan(Plan.of(tasks), FolderStore(tmp_path), RUNNERS, execution, on_event=hear)
    assert (len(summary.done), summary.cached) == (4, ())
    told = [event.text or int(event.label[-1]) for event in events if event.kind in ("task-started", "notice")]
    waits = [f"another run computes {tasks[0].name}; waiting for its result"] * (theirs > 0)
    assert told == [*range(theirs, 4), *waits, *range(theirs)]


def test_a_run_that_waits_for_another_stops_when_it_is_time(tmp_path: Path) -> None:
    task = Task("draw", 1, {"seed": 0})
    until = Until()
    with FolderStore(tmp_path).claim(task.key):
        summary = run_plan(
            Plan.of([task]),
            FolderStore(tmp_path),
            RUNNERS,
            on_event=lambda event: _at_notice(event, until),
            until=until,
        )
    assert summary.unfinished == (task.key,)


def _at_notice(event: Event, until: Until) -> None:
    if event.kind == "notice":
        until.now()


SEVERAL = """
import sys
from reticket.experiment import ExecutionConfig, FolderStore, Plan, Task, run_plan
draws = [Task("draw", 1, {"seed": seed}) for seed in range(12)]
pairs = [Task("mix", 1, {"scale": 1.0}, {"a": a, "b": b}) for a, b in zip(draws, draws[1:])]
runners = {kind: f"fake_tasks:{kind}" for kind in ("draw", "mix")}
execution = ExecutionConfig(executor=sys.argv[3], jobs=int(sys.argv[4]), settings={"log": sys.argv[2]})
print("ready", flush=True)
sys.stdin.readline()
print(len(run_plan(Plan.of(pairs), FolderStore(sys.argv[1]), runners, execution).failed))
"""


@pytest.mark.slow
def test_runs_that_share_a_store_compute_each_task_once(tmp_path: Path) -> None:
    """All of them begin at once, with the same task: only one may take it."""
    log = tmp_path / "log"
    log.touch()
    settings = {"cwd": Path(__file__).parents[1], "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [
        subprocess.Popen([sys.executable, "-c", SEVERAL, str(tmp_path / "store"), str(log), *how], **settings)
        for how in (("in-process", "1"), ("threads", "2"), ("in-process", "1"))
    ]
    for process in runs:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in runs:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in runs] == ["0\n"] * 3
    counts = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert (len(counts), set(counts.values())) == (23, {1})


def test_a_task_that_another_run_finishes_meanwhile_is_not_computed_twice(tmp_path: Path) -> None:
    first, second = Task("draw", 1, {"seed": 0}, cost=2.0), Task("draw", 1, {"seed": 1}, cost=1.0)
    other = ExitStack()
    other.enter_context(FolderStore(tmp_path).claim(first.key))

    def meanwhile(event: Event) -> None:
        if event.kind == "task-started" and event.key == second.key:
            other.close()
            run([first], tmp_path)

    summary = run_plan(Plan.of([first, second]), FolderStore(tmp_path), RUNNERS, on_event=meanwhile)
    assert (summary.done, summary.cached) == ((second.key,), (first.key,))
