"""What the experiment machinery says when it is called wrongly or cannot write: one sentence with the way out."""

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import reticket.experiment.folder as store_module
import reticket.experiment.workers as workers_module
from reticket.devices import check_device
from reticket.errors import InputError, StoreError
from reticket.experiment import (
    EXECUTORS,
    ExecutionConfig,
    FolderStore,
    Output,
    Plan,
    Summary,
    Task,
    named_store,
    run_plan,
)
from reticket.experiment.workers import Ended, Worker, WorkerError

DRAW = Task("draw", 1, {"seed": 0})


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def run(root: Path, runners: Mapping[str, Any] | None = None, **options: Any) -> Summary:
    runners = {"draw": "fake_tasks:draw"} if runners is None else runners
    return run_plan(Plan.of([DRAW]), FolderStore(root), runners, ExecutionConfig(**options))


def test_a_store_that_there_is_not_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = r"^unknown store 'foldr', did you mean 'folder'\?; known are .*; a folder of this name is \./foldr:a$"
    with pytest.raises(InputError, match=words):
        named_store("foldr:a")
    monkeypatch.chdir(tmp_path)
    assert named_store("./foldr:a").put(DRAW.key, Output({"x": 1}, {}), {})
    for same in ("foldr:a", "folder:foldr:a", Path("foldr:a"), named_store("foldr:a")):
        assert named_store(same).has(DRAW.key)
    assert not named_store("other").has(DRAW.key)


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes, *, durable: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_through", full)
    with pytest.raises(
        StoreError, match=r"cannot be written \(No space left on device\); free space .* run again"
    ) as info:
        run(tmp_path)
    assert info.value.exit_code == 1
    assert not list((tmp_path / "incoming").glob("[!.]*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"jobs": 0}, "jobs is 0, expected at least 1"),
        ({"threads": -1}, "threads is -1, expected at least 1"),
        (
            {"executor": "proceses"},
            "unknown executor 'proceses', did you mean 'processes'.; known are local, in",
        ),
        ({"device": "gpu"}, "device 'gpu' is not one that torch knows; use cpu or cuda"),
    ],
)
def test_wrong_calls_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(tmp_path, **options)


@pytest.mark.parametrize(
    ("runners", "words"),
    [
        ({}, "no runner for tasks of kind 'draw', only for none; add one"),
        (
            {"draw": "fake_tasks:drow"},
            r"'fake_tasks:drow' cannot be imported \(module .* has no attribute 'drow'\)",
        ),
        ({"draw": "fake_taks:draw"}, r"runner 'fake_taks:draw' cannot be imported \(No module named 'fake_taks'\)"),
        ({"draw": "draw"}, "cannot be imported .* as package.module:function"),
        ({"draw": "fake_tasks:KINDS"}, "runner 'fake_tasks:KINDS' is a tuple, but a function was expected"),
        ({"draw": lambda task, inputs, context: Output()}, "cannot be imported|is not what"),
    ],
)
def test_wrong_runners_are_refused_before_anything_runs(tmp_path: Path, runners: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(tmp_path, runners)


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        ("gpu", 0, "device 'gpu' is not one that torch knows; use cpu or cuda"),
        ("mps", 0, "device 'mps' is of a kind that reticket does not compute on; use cpu or cuda"),
        ("cuda", 0, "device 'cuda' was asked for, but torch sees no GPU; use cpu"),
        ("cuda:2", 2, "device 'cuda:2' is not there, torch sees 2 of its kind; use cuda:0"),
    ],
)
def test_a_device_that_is_not_there(device: str, gpus: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for check in (check_device, lambda device: ExecutionConfig(device=device)):
        with pytest.raises(InputError) as info:
            check(device)
        assert str(info.value) == words
    for right in ("cpu", *(f"cuda:{n}" for n in range(gpus))):
        check_device(right)


def test_a_store_that_is_a_file_or_in_no_place_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(
            StoreError, match=rf"the store '{place}' cannot be written \(.*\); name another folder"
        ) as info:
            FolderStore(place)
        assert info.value.exit_code == 2
        assert isinstance(info.value, InputError)


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(WorkerError, match=r"cannot be started \(Cannot allocate memory\); use fewer --jobs"):
        Worker(1)


def test_every_executor_is_registered_under_its_name() -> None:
    assert list(EXECUTORS) == ["local", "in-process", "processes", "threads", "ray", "slurm"]


def test_a_worker_that_ends_while_it_starts_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "ENTRY", "raise SystemExit(3)")
    with pytest.raises(WorkerError, match=r"ended before it could start \(exit code 3\); its own message stands above"):
        run(tmp_path, jobs=2)


def test_a_worker_that_is_killed_while_it_starts_costs_one_more_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = f"import os, pathlib; p = pathlib.Path({str(tmp_path / 'killed')!r}); "
    once += "p.exists() or (p.touch(), os.kill(os.getpid(), 9)); "
    entry = workers_module.ENTRY
    monkeypatch.setattr(workers_module, "ENTRY", once + entry)
    assert len(run(tmp_path / "once", executor="processes").done) == 1
    monkeypatch.setattr(workers_module, "ENTRY", f"import os; os.kill(os.getpid(), 9); {entry}")
    with pytest.raises(WorkerError, match=r"ended before it could start \(killed by SIGKILL, perhaps for lack of mem"):
        run(tmp_path / "always", executor="processes")


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (3, "exit code 3", "its code, or a library, ended the process"),
        (-signal.SIGKILL, "killed by SIGKILL, perhaps for lack of memory", "give it more memory or fewer --jobs"),
        (-signal.SIGSEGV, "killed by SIGSEGV", "a library that it calls crashed; python -X faulthandler"),
        (-signal.SIGTERM, "killed by SIGTERM", "somebody ended it; run again"),
    ],
)
def test_how_a_worker_ended_says_what_to_do(code: int, words: str, advice: str) -> None:
    assert str(Ended(code)) == words
    assert Ended(code).advice.startswith(advice)


def test_a_store_that_a_worker_cannot_write_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
pipe.send_bytes(b'{"say": "hello"}')
pipe.recv_bytes()
pipe.send_bytes(b'{"say": "stop", "error": "the disk is full"}')
pipe.recv_bytes()
"""
    monkeypatch.setattr(workers_module, "ENTRY", entry)
    with pytest.raises(StoreError, match="the disk is full"):
        run(tmp_path, jobs=2)


@pytest.mark.parametrize(
    ("options", "device", "words"),
    [
        ({"tries": 0}, "cpu", r"^tries is 0, expected at least 1$"),
        ({"memory": 0.0}, "cpu", r"^option 'memory' of executor 'ray' is 0.0, expected more than 0$"),
        (
            {"address": "ray://10.0.0.1:10001"},
            "cpu",
            r"^address 'ray://10.0.0.1:10001' is one of Ray's client, which task",
        ),
        (
            {"address": "nowhere.invalid:1"},
            "cpu",
            r"^no Ray cluster answers at 'nowhere.invalid:1'; give the address that",
        ),
        ({}, "cuda:1", r"^device 'cuda:1' names one GPU, but Ray says which one a task has; use cuda$"),
    ],
)
def test_options_of_ray_that_cannot_be_are_refused(
    options: dict[str, Any], device: str, words: str, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=words):
        run(tmp_path, executor="ray", options=options, device=device)
