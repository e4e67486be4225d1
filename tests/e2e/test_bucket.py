"""A store in a bucket of S3, over real HTTP on this machine: two runs at once compute each task once."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reticket.errors import StoreError
from reticket.experiment import MissingResult, Output, RemoteStore, named_store
from tests.e2e.test_files import reticket

pytest.importorskip("s3fs", reason="a store in a bucket needs the package s3fs")
server = pytest.importorskip("moto.server", reason="a bucket on this machine needs the package moto[server]")

RUN = """
import sys
from reticket.experiment import ExecutionConfig, Plan, Task, named_store, run_plan
draws = [Task("draw", 1, {"seed": seed}) for seed in range(8)]
pairs = [Task("mix", 1, {"scale": 1.0}, {"a": a, "b": b}) for a, b in zip(draws, draws[1:])]
runners = {kind: f"fake_tasks:{kind}" for kind in ("draw", "mix")}
execution = ExecutionConfig(executor=sys.argv[3], jobs=int(sys.argv[4]), settings={"log": sys.argv[2]})
print("ready", flush=True)
sys.stdin.readline()
summary = run_plan(Plan.of(pairs), named_store(sys.argv[1]), runners, execution)
print(len(summary.done) + len(summary.cached), len(summary.failed))
"""


KILLED = """
import os, signal, sys
import torch
from reticket.experiment import Output, named_store
store, left = named_store(sys.argv[1]), int(sys.argv[3])
write = store._files.pipe_file
def killed(*given, **how):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(*given, **how)
store._files.pipe_file = killed
store.put(sys.argv[2], Output({"by": "a writer"}, {"x": torch.zeros(3)}), {})
"""
TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        there = server.ThreadedMotoServer(port=0, verbose=False)
        there.start()
        host, port = there.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}".replace("0.0.0.0", "127.0.0.1"))
        import boto3  # pyright: ignore[reportMissingImports]

        boto3.client("s3").create_bucket(Bucket="lab")
        yield "s3://lab"
        there.stop()


@pytest.mark.slow_cases("threads")
@pytest.mark.parametrize("how", [("in-process", "1"), ("threads", "2")], ids=["in-process", "threads"])
def test_two_runs_at_once_compute_each_task_once_and_a_third_none(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, str]
) -> None:
    log, place = tmp_path / "log", f"{bucket}/{how[0]}"
    log.touch()
    monkeypatch.setenv("HOME", str(tmp_path))  # checkpoints

    def begun() -> subprocess.Popen[str]:
        call = [sys.executable, "-c", RUN, place, str(log), *how]
        folder = Path(__file__).parents[1]
        process = subprocess.Popen(call, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    runs = [begun(), begun()]
    for process in runs:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in runs] == ["15 0\n"] * 2
    counts = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert (len(counts), set(counts.values())) == (15, {1})
    assert sorted(counts) == list(named_store(place).keys())  # type: ignore[attr-defined]
    before = log.read_text()
    assert begun().communicate("\n")[0] == "15 0\n"
    assert log.read_text() == before


@pytest.mark.slow_cases("1")
@pytest.mark.parametrize("parts", [1, 2])  # of values, tensors and the manifest, which comes last
def test_a_writer_killed_between_the_parts_of_a_result_leaves_nothing_visible(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place, key = f"{bucket}/killed-{parts}", "ab" * 32
    writer = subprocess.run([sys.executable, "-c", KILLED, place, key, str(parts)], check=False)
    assert writer.returncode == -signal.SIGKILL
    store = named_store(place)
    assert isinstance(store, RemoteStore)
    assert len(store._files.find(store._root)) == parts, "it had written so many"
    assert not store.has(key)
    assert not list(store.keys())
    with pytest.raises(MissingResult):
        store.get(key)
    assert store.put(key, Output({"by": "another"}, {"x": torch.ones(3)}), {})
    assert named_store(place).get(key).values == {"by": "another"}


def test_a_run_from_another_folder_with_the_same_bucket_computes_nothing(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = ("seeds=1", 'methods=["dense"]', "barriers=false", "overlap=false", "diversity_members=0")
    options = [text for setting in settings for text in ("--set", setting)]
    said = []
    for folder in ("here", "there"):
        call = ("run", TINY, *options, "--store", f"{bucket}/shared", "--out", tmp_path / folder)
        assert reticket(monkeypatch, *call) == 0
        said.append(capsys.readouterr())
    assert " tasks computed, 0 taken from the store" in said[0].out
    assert said[1].out.startswith("0 tasks computed, "), said[1].out
    assert (tmp_path / "there" / "report.html").is_file()


def test_a_bucket_that_is_not_there_is_one_sentence(bucket: str) -> None:
    with pytest.raises(StoreError, match="the store 's3://nowhere/x' cannot be"):
        named_store("s3://nowhere/x").put("ab" * 32, Output({}), {})
