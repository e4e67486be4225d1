"""The jobs of an array and their driver, without a cluster: what they share, what they do when told to stop or lost."""

import os
import signal
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reticket.errors import InputError, StoreError
from reticket.experiment import Event, ExecutionConfig, FolderStore, Plan, Task, run_plan
from reticket.experiment import compute as compute_module
from reticket.experiment.schedule import Schedule
from reticket.experiment.serving import setup_for
from reticket.experiment.slurm import driver as driver_module
from reticket.experiment.slurm import executor as executor_module
from reticket.experiment.slurm import worker as worker_module
from reticket.experiment.slurm.board import Board, Failure
from reticket.experiment.slurm.clusters import Cluster, Resources, SlurmCluster, cluster_named
from reticket.experiment.slurm.driver import Driver
from reticket.experiment.slurm.worker import ArrayWorker
from reticket.experiment.workers import WorkerError

RUNNERS = {kind: f"fake_tasks:{kind}" for kind in ("draw", "mix", "walk", "diverge", "interrupt")}
RESOURCES = Resources(
    "gpu", "lab", None, 60, "8G", 1, 2, ["module load cuda"], {"constraint": "a100", "exclusive": False}, 90
)
DRAW = Task("draw", 1, {"seed": 0})
MIX = Task("mix", 1, {"scale": 1.0}, {"a": DRAW})


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    yield
    signal.alarm(0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def board_of(store: FolderStore, *tasks: Task, where: str = "", idle: float = 0.0) -> Board:
    schedule = Schedule(Plan.of(tasks), store.has, lambda event: None)
    setup = setup_for(schedule, store, RUNNERS, ExecutionConfig())
    keys = [task.key for task in schedule.tasks]
    return Board.made(store.scratch("slurm"), {**setup, "stages": [keys], "where": where, "idle": idle})


def said(board: Board, job: str) -> list[str]:
    return [message["say"] for message in board.heard(job, 0)[0]]


# ---------------------------------------------------------------- the board


def test_a_task_is_taken_by_one_and_given_back_by_that_one_alone(store: FolderStore) -> None:
    board = board_of(store, DRAW)
    assert board.take(DRAW.key, "7_0")
    assert not board.take(DRAW.key, "7_1")
    board.release(DRAW.key, "7_1")
    assert board.taken(DRAW.key)
    board.release_all("7_0")
    assert not board.taken(DRAW.key)
    assert board.take(DRAW.key, "7_1")


def test_a_message_is_heard_once_it_is_whole(store: FolderStore) -> None:
    board = board_of(store, DRAW)
    board.say("7", {"say": "hello"})
    with (board.folder / "journal" / "7.jsonl").open("ab") as file:
        file.write(b'{"say": "rea')
    first, at = board.heard("7", 0)
    assert first == [{"say": "hello"}]
    with (board.folder / "journal" / "7.jsonl").open("ab") as file:
        file.write(b'dy"}\n')
    assert board.heard("7", at)[0] == [{"say": "ready"}]


def test_what_submitit_unpickles_lies_where_nobody_else_can_write(store: FolderStore) -> None:
    assert stat.S_IMODE(board_of(store, DRAW).jobs.stat().st_mode) == 0o700


# ---------------------------------------------------------------- a job


def test_a_job_carries_a_plan_out_alone(store: FolderStore, tmp_path: Path) -> None:
    board = board_of(store, MIX, Task("diverge", 1, {}))
    assert ArrayWorker(board, "7").run() is False
    expected = FolderStore(tmp_path / "expected")
    run_plan(Plan.of([MIX]), expected, RUNNERS)
    torch.testing.assert_close(
        store.get(MIX.key).tensors["x"], expected.get(MIX.key).tensors["x"], rtol=0, atol=0, equal_nan=False
    )
    failure = board.failure(Task("diverge", 1, {}).key)
    assert failure is not None
    assert failure.error == "loss is nan at step 3; lower the learning rate"
    assert said(board, "7").count("begun") == 3
    assert not any((board.folder / "taken").iterdir())


def test_a_job_leaves_what_others_are_at_and_what_failed(store: FolderStore) -> None:
    other = Task("draw", 1, {"seed": 1})
    board = board_of(store, MIX, other)
    board.take(DRAW.key, "7_1")
    board.fail(other.key, Failure("no"))
    assert ArrayWorker(board, "7_0").run() is False  # idle at once: nothing is left for it
    assert not store.has(DRAW.key)
    assert not store.has(other.key)
    assert said(board, "7_0") == ["hello", "ready"]


@pytest.mark.parametrize(("number", "again"), [(signal.SIGUSR1, True), (signal.SIGUSR2, True), (signal.SIGTERM, False)])
def test_a_job_told_to_stop_gives_its_task_back_with_its_checkpoint(
    store: FolderStore, tmp_path: Path, number: signal.Signals, again: bool
) -> None:
    task = Task("interrupt", 1, {"seed": 3, "at": 6, "number": int(number), "signals": [2]})
    board = board_of(store, task)
    assert ArrayWorker(board, "7").run() is again
    assert not store.has(task.key)
    assert said(board, "7")[-1] == "back"
    assert not board.taken(task.key)
    assert ArrayWorker(board, "7").run() is False
    notices = [message["text"] for message in board.heard("7", 0)[0] if message["say"] == "notice"]
    assert notices == ["goes on from step 0", "goes on from step 3"]
    whole = Task("walk", 1, {"seed": 3, "at": 6})
    run_plan(Plan.of([whole]), store, RUNNERS)
    assert torch.equal(store.get(task.key).tensors["x"], store.get(whole.key).tensors["x"])


def test_a_task_longer_than_a_job_goes_on_where_it_has_a_checkpoint_and_else_fails(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LONG", 0.0)
    monkeypatch.setattr(compute_module, "PROGRESS_EVERY", 0.0)
    spec = {"seed": 3, "at": 6, "number": int(signal.SIGUSR2)}
    goes_on = Task("interrupt", 1, {**spec, "signals": [1, 4]})
    forgets = Task("interrupt", 1, {**spec, "signals": [4], "forgets": True})
    board = board_of(store, goes_on)
    assert [ArrayWorker(board, "7").run() for _ in range(3)] == [True, True, False]
    assert store.has(goes_on.key)
    board = board_of(store, forgets)
    assert [ArrayWorker(board, "7").run() for _ in range(3)] == [True, True, False]
    assert not store.has(forgets.key)
    failure = board.failure(forgets.key)
    assert failure is not None
    assert failure.error.startswith(
        "it began anew in a second job and was done at the end of neither; give jobs more time"
    )
    assert said(board, "7").count("back") == 1


# ---------------------------------------------------------------- the driver


class Told(Cluster):
    """A cluster of which a test says what its jobs do: at each look at the queue, the next of its moments."""

    patience = 0.0

    def __init__(self, board: Board, moments: Sequence[Any]) -> None:
        super().__init__(RESOURCES)
        self._board, self._moments = board, list(moments)
        self.sent: list[str] = []

    def submit(self, board: Board, count: int) -> list[str]:
        names = [f"{len(self.sent) + n}" for n in range(count)]
        self.sent += names
        return names

    def states(self, board: Board) -> dict[str, str] | None:
        moment: Any = self._moments.pop(0)
        found: Any = moment() if callable(moment) else moment
        return found

    def cancel(self, board: Board, *, waiting: bool = False) -> None:
        self.sent.append("cancelled")


def interrupted() -> dict[str, str]:
    raise KeyboardInterrupt


class Drive:
    """A driver whose jobs are told what to say."""

    def __init__(self, store: FolderStore, *tasks: Task, jobs: int = 1) -> None:
        self.events: list[Event] = []
        self.store, self.jobs = store, jobs
        self.schedule = Schedule(Plan.of(tasks), store.has, self.events.append)
        self.board = board_of(store, *tasks)

    def run(self, *moments: Any) -> Told:
        cluster = Told(self.board, moments)
        Driver(self.schedule, self.store, self.board, cluster, self.jobs).run()
        return cluster

    def say(self, job: str, *words: str, task: Task | None = None, **details: Any) -> None:
        for word in words:
            named = {"key": task.key} if task is not None else {}
            self.board.say(job, {"say": word, **named, **details})

    def begin(self, job: str, task: Task) -> None:
        self.board.take(task.key, job)
        self.say(job, "hello", "ready")
        self.say(job, "begun", task=task)

    def end(self, job: str, task: Task) -> None:
        run_plan(Plan.of([task]), self.store, RUNNERS)
        self.say(job, "ended", task=task, outcome={"seconds": 1.0})
        self.board.release(task.key, job)

    def told(self, *kinds: str) -> list[str]:
        return [event.text for event in self.events if event.kind in kinds]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "PAUSE", 0.0)


def test_a_task_whose_job_is_lost_is_tried_again_and_fails_the_third_time_with_advice(store: FolderStore) -> None:
    drive = Drive(store, MIX)

    def lost(job: str, state: str) -> Iterator[Any]:
        def begins() -> dict[str, str]:
            drive.begin(job, DRAW)
            return {job: "RUNNING"}

        yield begins
        yield {job: state}

    cluster = drive.run({}, *lost("0", "NODE_FAIL"), *lost("1", "TIMEOUT"), *lost("2", "OUT_OF_MEMORY"))
    assert cluster.sent == ["0", "1", "2"]
    assert drive.told("worker-lost") == [
        "its job 0 was lost (NODE_FAIL); it is tried again",
        "its job 1 was lost (TIMEOUT); it is tried again",
    ]
    assert drive.told("task-failed") == [
        "its job was lost 3 times (OUT_OF_MEMORY); give it more memory, as --executor-option mem=16G, and run again; "
        f"the last log is {drive.board.jobs}/2_0_log.out"
    ]
    assert list(drive.schedule.skipped) == [MIX.key]
    assert drive.board.failure(DRAW.key) is not None, "no job tries it any more"
    assert not drive.board.taken(DRAW.key)


def test_a_result_that_was_stored_before_its_job_was_lost_counts(store: FolderStore) -> None:
    drive = Drive(store, DRAW)

    def stores() -> dict[str, str]:
        drive.begin("0", DRAW)
        run_plan(Plan.of([DRAW]), store, RUNNERS)
        return {"0": "RUNNING"}

    drive.run({}, stores, {"0": "FAILED"})
    assert drive.schedule.done == [DRAW.key]
    assert not drive.told("worker-lost")


def test_what_one_job_says_waits_for_what_another_did_before_it(store: FolderStore) -> None:
    """Of two journals the one with the later words may be read first."""
    drive = Drive(store, MIX, jobs=2)

    def all_at_once() -> dict[str, str]:
        drive.begin("b", DRAW)
        drive.end("b", DRAW)
        drive.say("a", "hello", "ready")
        drive.say("a", "found", task=DRAW)
        drive.say("a", "begun", task=MIX)
        drive.end("a", MIX)
        return {"a": "RUNNING", "b": "RUNNING"}

    drive.run(all_at_once, {"a": "RUNNING", "b": "RUNNING"})
    story = [(event.kind, event.key) for event in drive.events if event.key]
    assert story == [(kind, task.key) for task in (DRAW, MIX) for kind in ("task-started", "task-done")]
    assert (drive.schedule.done, drive.schedule.cached) == ([DRAW.key, MIX.key], [])


def test_what_another_run_has_stored_is_found(store: FolderStore) -> None:
    drive = Drive(store, DRAW)

    def finds() -> dict[str, str]:
        run_plan(Plan.of([DRAW]), store, RUNNERS)
        drive.say("0", "hello", "ready")
        drive.say("0", "found", task=DRAW)
        return {"0": "RUNNING"}

    drive.run({}, finds, {"0": "RUNNING"})
    assert drive.schedule.cached == [DRAW.key]


def test_a_job_queued_again_in_mid_run_goes_on_and_it_is_no_loss(store: FolderStore) -> None:
    drive = Drive(store, DRAW)

    def begins() -> dict[str, str]:
        drive.begin("0", DRAW)
        return {"0": "RUNNING"}

    def ends() -> dict[str, str]:
        drive.end("0", DRAW)
        return {"0": "RUNNING"}

    cluster = drive.run({}, *[begins, {"0": "PENDING"}] * 5, ends)
    assert cluster.sent == ["0"]
    assert drive.told("worker-lost") == ["its job 0 was queued again in mid-run; it goes on"] * 4
    assert drive.schedule.done == [DRAW.key]


def test_a_job_queued_again_after_it_had_stored_its_result(store: FolderStore) -> None:
    drive = Drive(store, DRAW)

    def stores_and_begins_again() -> dict[str, str]:
        drive.begin("0", DRAW)
        run_plan(Plan.of([DRAW]), store, RUNNERS)
        drive.say("0", "hello", "ready")
        return {"0": "RUNNING"}

    drive.run({}, stores_and_begins_again)
    assert drive.schedule.done == [DRAW.key]
    assert not drive.told("worker-lost")


def test_a_queue_that_never_answered_ends_the_run(store: FolderStore) -> None:
    with pytest.raises(
        WorkerError, match="SLURM does not answer: squeue failed, or took too long; see what sinfo says"
    ):
        Drive(store, DRAW).run(None)


def test_a_queue_that_does_not_answer_is_asked_again(store: FolderStore) -> None:
    drive = Drive(store, DRAW)

    def ends() -> dict[str, str]:
        drive.begin("0", DRAW)
        drive.end("0", DRAW)
        return {"0": "RUNNING"}

    cluster = drive.run({}, None, None, ends)
    assert cluster.sent == ["0"]
    assert [text for text in drive.told("notice") if "squeue" in text] == [
        "squeue does not answer; what runs goes on, and it is asked again"
    ]


def test_no_more_jobs_are_sent_than_tasks_may_start_or_than_there_may_be(store: FolderStore) -> None:
    draws = [Task("draw", 1, {"seed": seed}) for seed in range(3)]

    def sent(jobs: int, *tasks: Task) -> int:
        drive = Drive(store, *tasks, jobs=jobs)
        cluster = Told(drive.board, [{}, interrupted])
        with pytest.raises(KeyboardInterrupt):
            Driver(drive.schedule, store, drive.board, cluster, jobs).run()
        return len(cluster.sent)

    assert [sent(2, *draws), sent(8, *draws), sent(8, MIX)] == [2, 3, 1]


def test_jobs_that_cannot_start_end_the_run(store: FolderStore) -> None:
    drive = Drive(store, DRAW)
    with pytest.raises(
        WorkerError, match=r"^3 jobs in a row ended before they could start \(FAILED\); .*/2_0_log.out, may "
    ):
        drive.run({}, {"0": "FAILED"}, {"1": "FAILED"}, {"2": "FAILED"})


def test_a_job_that_cannot_use_the_store_ends_the_run(store: FolderStore) -> None:
    drive = Drive(store, DRAW)
    drive.say("0", "hello")
    drive.say("0", "stop", error="the store is full")
    with pytest.raises(StoreError, match=r"^job 0: the store is full$"):
        drive.run({})


def test_jobs_under_way_are_listened_to_and_no_others_are_sent(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_of(store, MIX)

    def ends() -> dict[str, str]:
        for task in (DRAW, MIX):
            run_plan(Plan.of([task]), store, RUNNERS)
            board.say("3_0", {"say": "begun", "key": task.key})
            board.say("3_0", {"say": "ended", "key": task.key, "outcome": {"seconds": 1.0}})
        return {"3_0": "RUNNING"}

    cluster = Told(board, [{"3_0": "PENDING"}, ends, {"3_0": "COMPLETED"}])
    monkeypatch.setattr(executor_module, "cluster_named", lambda name, resources: cluster)
    events: list[Event] = []
    schedule = Schedule(Plan.of([MIX]), store.has, events.append)
    executor_module.slurm(schedule, store, RUNNERS, ExecutionConfig())
    assert schedule.done == [DRAW.key, MIX.key]
    assert cluster.sent == ["cancelled"] * 2
    assert events[0].text == f"jobs called {board.name} are under way; listening to them"
    assert not board.folder.exists()


def test_a_board_of_an_earlier_run_of_which_nothing_is_left_goes(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, others = board_of(store, MIX), board_of(store, Task("draw", 1, {"seed": 9}))
    cluster = Told(old, [{"3_0": "COMPLETED"}, interrupted])
    monkeypatch.setattr(executor_module, "cluster_named", lambda name, resources: cluster)
    schedule = Schedule(Plan.of([MIX]), store.has, lambda event: None)
    with pytest.raises(KeyboardInterrupt):
        executor_module.slurm(schedule, store, RUNNERS, ExecutionConfig())
    assert not old.folder.exists()
    assert others.folder.exists()
    assert cluster.sent == ["cancelled"]


# ---------------------------------------------------------------- SLURM's commands


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that stand for SLURM's, first in the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_what_a_job_asks_for_stands_in_what_sbatch_is_given(store: FolderStore, commands: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    program(commands, "srun", "")
    program(commands, "sbatch", f'cp "$1" {tmp_path}/given; echo Submitted batch job 12')
    board = board_of(store, DRAW)
    assert SlurmCluster(RESOURCES).submit(board, 3) == ["12_0", "12_1", "12_2"]
    given = (tmp_path / "given").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in given if line.startswith("#SBATCH")}
    assert asked >= {
        *("account=lab", "array=0-2%3", "constraint=a100", "cpus-per-task=2", "gpus-per-node=1", "mem=8G"),
        *("partition=gpu", "requeue", "signal=USR2@90", "time=60", f"job-name={board.name}"),
    }
    assert not [line for line in asked if line.startswith(("qos", "exclusive"))]
    assert given.index("module load cuda") < given.index("export OMP_NUM_THREADS=2")
    assert any(line.startswith("export PYTHONPATH=") for line in given)
    assert "srun" in given[-2] or any("--cpus-per-task=2" in line and line.startswith("srun") for line in given)
    pickles = sorted(path.name for path in board.jobs.glob("*_submitted.pkl"))
    assert pickles == ["12_0_submitted.pkl", "12_1_submitted.pkl", "12_2_submitted.pkl"]


def test_a_job_queues_itself_again_and_not_the_array_that_has_its_number(
    store: FolderStore, commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    program(commands, "scontrol", f'echo "$@" > {tmp_path}/asked')
    job = {"SLURM_JOB_ID": "1", "SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "2", "SUBMITIT_EXECUTOR": "slurm"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    spec = {"seed": 3, "at": 6, "number": int(signal.SIGUSR2), "signals": [2]}
    board = board_of(store, Task("interrupt", 1, spec))
    worker_module.work(str(board.folder))
    assert (tmp_path / "asked").read_text() == "requeue 1_2\n"
    assert board.speakers() == ["1_2"]


def test_jobs_that_sbatch_refuses(store: FolderStore, commands: Path) -> None:
    pytest.importorskip("submitit")
    program(commands, "srun", "")
    program(commands, "sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    with pytest.raises(
        WorkerError, match=r"^SLURM took no jobs \(.*invalid partition specified: gpu\S*\); mend --exec"
    ):
        SlurmCluster(RESOURCES).submit(board_of(store, DRAW), 1)


def test_the_queue_is_read_and_may_be_silent(store: FolderStore, commands: Path, tmp_path: Path) -> None:
    board = board_of(store, DRAW)
    program(commands, "squeue", f'echo "$@" > {tmp_path}/asked; printf "12_0|RUNNING\\n12_1|OUT_OF_MEMORY\\n"')
    program(commands, "scancel", f'echo "$@" > {tmp_path}/ended')
    cluster = SlurmCluster(RESOURCES)
    assert cluster.states(board) == {"12_0": "RUNNING", "12_1": "OUT_OF_MEMORY"}
    assert f"--name {board.name}" in (tmp_path / "asked").read_text()
    cluster.cancel(board, waiting=True)
    assert f"--name {board.name} --state=PENDING" in (tmp_path / "ended").read_text()
    program(commands, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert cluster.states(board) is None


def test_what_a_job_cannot_ask_for() -> None:
    with pytest.raises(InputError, match=r"^option 'time' of executor 'slurm' is 0, expected at least 1$"):
        replace(RESOURCES, time=0)
    with pytest.raises(InputError, match=r"^option 'gpus' of executor 'slurm' is -1, expected at least 0$"):
        replace(RESOURCES, gpus=-1)


def test_a_store_in_which_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"^'.*file', where jobs and their logs go, cannot be written \(.*\); use a store of"
    ):
        Board.made(tmp_path / "file", {})


def test_where_there_is_no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        InputError, match=r"^executor 'slurm' finds no sbatch on this machine; run it where jobs are sent"
    ):
        cluster_named("auto", RESOURCES)


def test_the_script_that_tests_a_real_slurm_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    node = pytest.importorskip("tests.slurm.node")
    monkeypatch.setattr(node, "PROGRAMS", ("no-such-program",))
    assert node.missing() == "SLURM is not installed (no-such-program not found); apt-get install slurm-wlm munge"
