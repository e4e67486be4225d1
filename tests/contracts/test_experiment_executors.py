"""One contract for every registered executor: equal plans give equal stores, whatever carries them out."""

import importlib
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import reticket as reticket_package
import reticket.experiment.workers as workers_module
from reticket.cli.listing import listing
from reticket.errors import InputError, StoreError
from reticket.experiment import (
    EXECUTORS,
    Event,
    ExecutionConfig,
    FolderStore,
    Output,
    Plan,
    Result,
    Store,
    Summary,
    Task,
    executor,
    ray_executor,
    run_plan,
)
from reticket.experiment.compute import TaskCallbacks, attempt
from reticket.experiment.ray_cluster import Cluster, own_code
from reticket.experiment.ray_worker import wait_for_inputs
from reticket.experiment.schedule import Schedule
from reticket.experiment.serving import Server
from reticket.experiment.task import to_flat

RUNNERS = {
    kind: f"fake_tasks:{kind}"
    for kind in ("draw", "mix", "walk", "diverge", "wrong", "leave", "die", "orphan", "look", "slow")
}
FILES = ("values.json", "tensors.safetensors")
OPTIONS = {"slurm": {"cluster": "local"}}


@dataclass(frozen=True)
class Ran:
    """A run and what it left."""

    summary: Summary
    events: Sequence[Event]
    store: Store

    def contents(self, key: str) -> tuple[Any, dict[str, bytes]]:
        result = self.store.get(key)
        return result.values, {name: x.numpy().tobytes() for name, x in result.tensors.items()}

    def files(self, key: str) -> list[bytes]:
        assert isinstance(self.store, FolderStore)
        folder = self.store.root / "results" / key[:2] / key
        return [(folder / name).read_bytes() for name in FILES if (folder / name).exists()]


def plan() -> Plan:
    draws = [Task("draw", 1, {"seed": seed}) for seed in range(4)]
    mixes = [Task("mix", 1, {"scale": float(n)}, {"a": draws[n], "b": draws[n - 1]}) for n in range(4)]
    walks: list[Task] = []
    for at in (1, 4, 8):
        walks.append(Task("walk", 1, {"seed": 5, "at": at, "seconds": 0.01}, resumes=tuple(walks[-1:])))
    bad = [Task("diverge", 1, {}, label="diverging"), Task("wrong", 1, {}, label="a bug")]
    lost = [Task("mix", 1, {"scale": 1.0}, {"a": draws[0], "b": one}) for one in bad]
    slow = Task("slow", 1, {"seconds": 0.5})
    return Plan.of([*mixes, *walks, *lost, slow])


def carry_out(executor: str, root: Path | Store, targets: Plan, jobs: int = 2) -> Ran:
    events: list[Event] = []
    store = FolderStore(root) if isinstance(root, Path) else root
    execution = ExecutionConfig(jobs, executor=executor, options=OPTIONS.get(executor, {}), settings={"place": "here"})
    summary = run_plan(targets, store, RUNNERS, execution, on_event=events.append)
    return Ran(summary, events, store)


@pytest.fixture(scope="module", autouse=True)
def _importable() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))
        yield


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return carry_out("in-process", tmp_path_factory.mktemp("reference"), plan(), jobs=1)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One cluster of Ray's for all of these tests: a program that has one uses it."""
    ray = pytest.importorskip("ray")
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Ray's, on its own plans
        ray.init(address="local", num_cpus=2, object_store_memory=80_000_000, **quiet)
    yield
    ray.shutdown()


@pytest.fixture(scope="module", params=list(EXECUTORS))
def named(request: pytest.FixtureRequest) -> str:
    """The name of an executor, all of them in turn, those whose package is missing skipped."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    elif request.param == "slurm":
        pytest.importorskip("submitit")
    return request.param


@pytest.fixture(scope="module")
def ran(named: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return carry_out(named, tmp_path_factory.mktemp("ran"), plan(), jobs=1 if named == "local" else 2)


def stores_are_equal(ran: Ran, reference: Ran) -> None:
    """The law itself: the same results, to the last byte of values and tensors."""
    assert set(ran.summary.done) == set(reference.summary.done)
    for key in reference.summary.done:
        assert ran.files(key) == reference.files(key)


def test_equal_plans_give_equal_stores(ran: Ran, reference: Ran) -> None:
    assert len(reference.summary.done) == 12
    stores_are_equal(ran, reference)


@pytest.mark.slow_cases("processes", "slurm")
@pytest.mark.parametrize("named", [name for name in EXECUTORS if name != "local"], indirect=True)
def test_another_kind_of_store_holds_the_same(named: str, reference: Ran, tmp_path: Path) -> None:
    """No executor knows where results lie: one of a test's own, in a database, serves as the folder does."""
    store = importlib.import_module("database_store").DatabaseStore(str(tmp_path / "results.sqlite"))
    assert isinstance(store, Store)
    ran = carry_out(named, store, plan(), jobs=1 if named == "in-process" else 2)
    assert set(ran.summary.done) == set(reference.summary.done)
    assert all(ran.contents(key) == reference.contents(key) for key in reference.summary.done)
    assert list(tmp_path.iterdir()) == [tmp_path / "results.sqlite"]


def test_failures_and_skips_are_the_same(ran: Ran, reference: Ran) -> None:
    assert dict(ran.summary.failed) == dict(reference.summary.failed)
    assert dict(ran.summary.skipped) == dict(reference.summary.skipped)
    assert {text for _, text in ran.summary.failed.values()} == {
        "loss is nan at step 3; lower the learning rate",
        "ZeroDivisionError: one by nought",
    }


def test_events_tell_the_whole_story(ran: Ran) -> None:
    kinds = [event.kind for event in ran.events]
    assert (kinds[0], kinds[-1]) == ("plan-started", "plan-finished")
    begun, over = set(), set()
    for event in ran.events[1:-1]:
        if event.kind == "task-started":
            begun.add(event.key)
        elif event.kind in ("task-done", "task-failed"):
            assert event.key in begun
            over.add(event.key)
        elif event.kind == "progress":
            assert event.key in begun - over
    assert over == begun
    assert len(over) + kinds.count("task-skipped") == len(plan())
    assert any(event.kind == "progress" and event.task == "slow" for event in ran.events)
    notices = sorted(event.text for event in ran.events if event.kind == "notice" and event.key)
    assert notices == [f"goes on from step {step}" for step in (0, 1, 4)]
    metrics = sorted((event.step, dict(event.metrics)) for event in ran.events if event.kind == "metrics")
    assert metrics == [(step, {"loss": 0.5, "lr": 0.1 * step}) for step in (0, 1, 4)]
    assert all(event.key in begun for event in ran.events if event.kind == "metrics")
    bug = next(event for event in ran.events if event.kind == "task-failed" and event.label == "a bug")
    assert "fake_tasks.py" in bug.traceback


@pytest.mark.slow_cases("slurm")
def test_a_task_that_leaves_the_program_has_failed_and_the_others_go_on(named: str, tmp_path: Path) -> None:
    leaving = [Task("leave", 1, {"code": code}, label=f"leaves with {code}") for code in (0, 3)]
    found = carry_out(named, tmp_path, Plan.of([*leaving, Task("draw", 1, {"seed": 0})]), jobs=1)
    words = "its code called sys.exit({}), which ends a program; let it return, or raise an error"
    assert dict(found.summary.failed.values()) == {f"leaves with {code}": words.format(code) for code in (0, 3)}
    assert len(found.summary.done) == 1
    assert not [event for event in found.events if event.kind == "worker-lost"]


def test_no_task_starts_before_what_it_comes_after(ran: Ran) -> None:
    place = {event.key: number for number, event in enumerate(ran.events) if event.kind == "task-done"}
    begun = {event.key: number for number, event in enumerate(ran.events) if event.kind == "task-started"}
    for key, earlier in plan().before.items():
        if key in begun:
            assert all(place[other] < begun[key] for other in earlier)


def rounded(task: Task, inputs: Mapping[str, Result], output: Output) -> Output:
    return Output(output.values, {name: x.half().to(x.dtype) for name, x in output.tensors.items()})


def sloppy(schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig) -> None:
    """A broken executor: it sends tensors home in half precision."""
    while (task := schedule.next()) is not None:
        assert isinstance(store, FolderStore)
        result = FolderStore(store.root.parent / "reference").get(task.key) if task.kind == "draw" else None
        output = Output({}, {}) if result is None else rounded(task, {}, Output(result.values, dict(result.tensors)))
        store.put(task.key, output, {})
        schedule.finish(task, 0.0)


def test_the_contract_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = Plan.of([Task("draw", 1, {"seed": seed}) for seed in range(2)])
    reference = carry_out("in-process", tmp_path / "reference", draws, jobs=1)
    stores_are_equal(carry_out("in-process", tmp_path / "same", draws, jobs=1), reference)
    monkeypatch.setattr(EXECUTORS, "_members", dict(EXECUTORS._members))
    executor("sloppy")(sloppy)
    with pytest.raises(AssertionError):
        stores_are_equal(carry_out("sloppy", tmp_path / "ran", draws), reference)


def last_first(schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig) -> None:
    """Carry out what can begin, and of that the last task first."""
    while ready := list(iter(schedule.next, None)):
        for task in reversed(ready):
            outcome = attempt(task, store, runners, execution, TaskCallbacks(*[lambda *heard: None] * 3))
            schedule.ended(task, outcome)


def test_an_executor_from_outside_the_package(tmp_path: Path, reference: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EXECUTORS, "_members", dict(EXECUTORS._members))
    executor("last-first")(last_first)
    assert ExecutionConfig(executor="last-first").executor == "last-first"
    assert listing("executors")["last-first"] == "Carry out what can begin, and of that the last task first."
    stores_are_equal(carry_out("last-first", tmp_path, plan()), reference)


def test_an_executor_has_options_and_may_compute_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: list[object] = []

    def away(
        schedule: Schedule,
        store: Store,
        runners: Mapping[str, str],
        execution: ExecutionConfig,
        *,
        address: str = "auto",
        gpus: float = 0.0,
    ) -> None:
        """Carry nothing out, elsewhere."""
        heard.extend((address, gpus, execution.device))
        last_first(schedule, store, runners, replace(execution, device="cpu", executor="local", options={}))

    monkeypatch.setattr(EXECUTORS, "_members", dict(EXECUTORS._members))
    executor("away", elsewhere=True)(away)
    executor("lacking", needs="no_such_package")(last_first)
    execution = ExecutionConfig(executor="away", device="cuda:7", options={"gpus": 0.5})
    run_plan(Plan.of([Task("draw", 1, {"seed": 0})]), FolderStore(tmp_path), RUNNERS, execution)
    assert heard == ["auto", 0.5, "cuda:7"]
    for options, words in (
        ({"gpu": 1}, r"^executor 'away' has no option 'gpu', did you mean 'gpus'\?; it has address, gpus$"),
        ({"address": 7}, r"^option 'address' of executor 'away' is 7: input should be a valid string$"),
    ):
        with pytest.raises(InputError, match=words):
            ExecutionConfig(executor="away", options=options)
    with pytest.raises(InputError, match=r"^executor 'lacking' needs no_such_package, which is not installed; pip in"):
        ExecutionConfig(executor="lacking")


# ---------------------------------------------------------------- worker processes


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run in worker processes of which one dies once, while one that it forked holds its pipe, and one always."""
    folder = tmp_path_factory.mktemp("lossy")
    memory = {"once": str(folder / "died"), "helpers": str(folder / "helpers")}
    once = Task("orphan", 1, memory, label="dies once", cost=9.0)
    always = Task("die", 1, {}, label="dies always", cost=8.0)
    looks = [Task("look", 1, {"n": n}) for n in range(3)]
    try:
        return carry_out("processes", folder / "store", Plan.of([once, always, *looks]), jobs=2)
    finally:
        for helper in Path(memory["helpers"]).read_text().split():
            os.kill(int(helper), signal.SIGKILL)  # it was there all the time


def test_a_lost_worker_costs_one_more_try(lossy: Ran) -> None:
    assert [label for label, _ in lossy.summary.failed.values()] == ["dies always"]
    [(_, error)] = lossy.summary.failed.values()
    assert error == (
        "its worker process was lost twice (killed by SIGKILL, perhaps for lack of memory); "
        "give it more memory or fewer --jobs and run again"
    )
    lost = [(event.label, event.text) for event in lossy.events if event.kind == "worker-lost"]
    assert sorted(label for label, _ in lost) == ["dies always", "dies once"]
    assert all("it is tried once more" in text for _, text in lost)
    assert len(lossy.summary.done) == 4


def test_workers_have_their_threads_before_torch_is_imported(lossy: Ran) -> None:
    values = [result.values for key in lossy.summary.done if "omp" in (result := lossy.store.get(key)).values]
    assert len(values) == 3
    for value in values:
        assert (value["omp"], value["torch_threads"], value["threads"]) == ("1", 1, 1)
        assert value["settings"] == {"place": "here"}
    assert os.environ.get("MKL_NUM_THREADS") is None or os.environ["MKL_NUM_THREADS"]


@pytest.mark.parametrize(("width", "expected"), [(1, 1), (2, 2), (9, 3)])
def test_no_more_workers_start_than_there_are_tasks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, expected: int
) -> None:
    monkeypatch.setattr(workers_module, "ENTRY", "import time; time.sleep(60)")
    begun: list[workers_module.Worker] = []

    def counted(threads: int) -> workers_module.Worker:
        begun.append(Worker(threads))
        return begun[-1]

    def interrupt(connections: object, timeout: float) -> None:
        raise KeyboardInterrupt

    Worker = workers_module.Worker  # noqa: N806
    monkeypatch.setattr(workers_module, "Worker", counted)
    monkeypatch.setattr(workers_module, "wait", interrupt)
    monkeypatch.setattr(workers_module, "GRACE", 0.1)
    base = [Task("draw", 1, {"seed": seed}) for seed in range(width)]
    ends = [Task("mix", 1, {"scale": float(n + 1)}, {str(n): one for n, one in enumerate(base)}) for n in range(9)]
    with pytest.raises(KeyboardInterrupt):
        carry_out("processes", tmp_path, Plan.of(ends), jobs=3)
    assert len(begun) == expected
    assert all(worker.process.poll() is not None for worker in begun), "none is left behind"


# ---------------------------------------------------------------- Ray


def by_ray(root: Path | Store, targets: Plan, **options: Any) -> Ran:
    events: list[Event] = []
    store = FolderStore(root) if isinstance(root, Path) else root
    execution = ExecutionConfig(2, executor="ray", options=options)
    return Ran(run_plan(targets, store, RUNNERS, execution, on_event=events.append), events, store)


def test_a_task_that_always_loses_its_worker_fails_and_the_others_go_on(ray_cluster: None, tmp_path: Path) -> None:
    targets = Plan.of([Task("die", 1, {}, label="dies always"), Task("draw", 1, {"seed": 0})])
    found = by_ray(tmp_path, targets, tries=2)
    how = "(it crashed or was killed, perhaps for lack of memory)"
    assert dict(found.summary.failed.values()) == {
        "dies always": f"its worker was lost 2 times {how}; give it more memory by --executor-option memory=GIGABYTES, "
        "or use fewer --jobs, and run again"
    }
    lost = [event.text for event in found.events if event.kind == "worker-lost"]
    assert lost == [f"its worker was lost {how}; it is tried again after 1 s"]
    assert len(found.summary.done) == 1


class Elsewhere(FolderStore):
    """A folder that is another one on every machine."""

    @property
    def address(self) -> Mapping[str, Any]:
        return {"store": "reticket.experiment.folder:FolderStore", "root": f"{self.root}-elsewhere"}


def test_a_folder_that_workers_do_not_share_is_found_out(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "APPEARS", 0.0)
    targets = Plan.of([Task("draw", 1, {"seed": 0}, label="a draw")])
    words = r"^a worker has stored the result of 'a draw' where this machine does not see it; name a store that every"
    with pytest.raises(StoreError, match=words):
        by_ray(Elsewhere(tmp_path / "store"), targets)
    mix = Task("mix", 1, {"scale": 1.0}, {"a": targets.tasks[0]})
    server = Server({"store": FolderStore(tmp_path / "third").address, "tasks": to_flat([mix])} | SETUP)
    with pytest.raises(StoreError, match=r"^a worker does not see the result of 'a draw', which is stored; name a st"):
        wait_for_inputs(server, mix.key, patience=0.0)


SETUP = {"runners": RUNNERS, "threads": 1, "device": "cpu", "settings": {}}


def test_tasks_that_no_machine_can_run_yet_are_told_of(ray_cluster: None) -> None:
    cluster = Cluster(importlib.import_module("ray"), "10.0.0.1:6379")
    assert cluster.lacks({"CPU": 2.0}) == ""
    assert cluster.lacks({"CPU": 3.0, "GPU": 0.5}) == "no node of the Ray cluster has 3 CPU, 0.5 GPU"


def test_what_is_not_installed_is_shipped() -> None:
    shipped = own_code()
    assert str(Path(reticket_package.__file__).parent) in shipped
    assert not [place for place in shipped if Path(place).name in ("torch", "json", "pytest", "ray", "typing.py")]
