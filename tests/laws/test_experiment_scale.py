"""What many tasks cost grows no faster than their number: counted here, timed by `python -m benchmarks.scale`."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reticket.experiment import Context, Output, Plan, Result, Task, run_plan
from reticket.experiment import frozen as frozen_module
from reticket.experiment.frozen import SharedSpec, canonical, plain
from reticket.experiment.store import MissingResult
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from tests.counted import calls

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))


class MemoryStore:
    """Results of this process, which nobody else computes."""

    address: Mapping[str, Any] = {}

    def __init__(self, scratch: Path) -> None:
        self._results: dict[str, Result] = {}
        self._scratch = scratch

    def has(self, key: str) -> bool:
        return key in self._results

    verify = has

    def get(self, key: str) -> Result:
        if key not in self._results:
            raise MissingResult(key)
        return self._results[key]

    def put(self, key: str, output: Output, provenance: Mapping[str, Any], *, durable: bool = True) -> bool:
        self._results[key] = Result(key, output.values, provenance, output.tensors)
        return True

    def scratch(self, key: str) -> Path:
        return self._scratch

    @contextmanager
    def claim(self, key: str) -> Iterator[Path | None]:
        yield self._scratch

    def claimed(self, key: str) -> bool:
        return False


def trivial(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Nothing."""
    return Output({"n": task.spec["n"]})


def chains(count: int) -> list[Task]:
    """Chains of ten tasks, each after the one before; the tenth before each is a point that it resumes."""
    tasks: list[Task] = []
    for n in range(count):
        inputs = {"previous": tasks[-1]} if n % 10 else {}
        tasks.append(Task("trivial", 1, {"n": n}, inputs, resumes=tasks[-10:-9]))
    return tasks


def trajectory(count: int) -> list[Task]:
    """One training of many points, each of which resumes the one before, asked for from its end."""
    points: list[Task] = []
    for n in range(count):
        points.append(Task("trivial", 1, {"n": n}, resumes=points[-1:]))
    return points[::-1]


def assert_linear(work: Callable[[int], object], small: int) -> None:
    """Calls for four times as much are about four times as many; what is quadratic has sixteen times as many."""
    one, four = (calls(lambda size=size: work(size), builtins=True) for size in (small, 4 * small))
    assert four < 5.5 * one, f"{one} calls for {small}, {four} for {4 * small}"


def test_the_law_of_growth_can_fail() -> None:
    with pytest.raises(AssertionError, match="calls for 20"):
        assert_linear(lambda count: [min(m, n) for m in range(count) for n in range(count)], 20)


@pytest.mark.parametrize("made", [chains, trajectory])
def test_planning_grows_with_the_number_of_tasks(made: Callable[[int], list[Task]]) -> None:
    tasks = {count: made(count) for count in (200, 800)}

    def planned(count: int) -> None:
        plan = Plan.of(tasks[count], tasks[count][::2])
        assert plan.without(lambda key: False) is plan, "nothing is ordered anew where nothing is stored"
        assert not plan.without(lambda key: True).tasks
        plan.without(lambda key: int(key[:2], 16) < 128)

    assert_linear(planned, 200)


def test_a_run_to_its_end_grows_with_the_number_of_tasks(tmp_path: Path) -> None:
    plans = {count: Plan.of(chains(count)) for count in (50, 200)}
    events: list[str] = []

    def carried_out(count: int) -> None:
        events.clear()
        summary = run_plan(
            plans[count], MemoryStore(tmp_path), {"trivial": trivial}, on_event=lambda event: events.append(event.kind)
        )
        assert summary.complete
        assert len(summary.done) == count
        assert Counter(events) == {"plan-started": 1, "task-started": count, "task-done": count, "plan-finished": 1}

    assert_linear(carried_out, 50)


def test_what_specs_share_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, model, recipes and pruning are checked and written for the experiment, not for each of its tasks."""
    shared: list[str] = []
    made = SharedSpec.__init__

    def noted(self: SharedSpec, values: Mapping[str, Any], where: str) -> None:
        shared.append(where)
        made(self, values, where)

    monkeypatch.setattr(SharedSpec, "__init__", noted)
    deep = Counter[str]()
    checked = frozen_module.plain

    def counted(value: Any, where: str) -> Any:
        deep[where.rpartition(".")[2]] += 1
        return checked(value, where)

    monkeypatch.setattr(frozen_module, "plain", counted)
    plan = Blueprint(load_config("digits", ["grid.seeds=4"])[1], FACTS)
    assert len(Plan.of(plan.targets)) > 500
    assert Counter(shared) == {"data": 1, "model": 1, "prune": 1, "recipe": 2}, "sparse runs have the dense recipe"
    assert deep["hidden"] <= 1
    assert deep["milestones"] <= 3
    assert deep["order"] > 400, "the proof that deep values are counted"


def test_the_key_of_a_task_is_the_digest_of_its_whole_canonical_text() -> None:
    before = Task("before", 2, {"z": 1})
    parts = {"b": {"y": [1, 2.5, {"x": None}], "x": "ü"}, "a": {}}
    spec = {"n": 3, "list": [True, -1, "é", []], "b": parts["b"], "flag": True, "a": parts["a"], "f": 1e-5}
    shared = {**spec, **{name: SharedSpec(part, name) for name, part in parts.items()}}
    identity = {"kind": "mix", "version": 1, "spec": spec, "inputs": {"y": before.key, "x": before.key}}
    expected = hashlib.sha256(canonical(identity)).hexdigest()
    inputs = {"y": before, "x": before}
    assert Task("mix", 1, spec, inputs).key == Task("mix", 1, shared, inputs).key == expected
    assert plain(Task("mix", 1, shared).spec, "spec") == spec
