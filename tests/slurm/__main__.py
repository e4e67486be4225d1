"""A real SLURM of one node: jobs are cancelled, killed, requeued and told of their limit, and the driver is killed.

`make test-slurm`, two minutes: the tiny experiment, trained longer, by a local run first, then as an array of jobs that
is disturbed in each of these ways, and by the same command once more. The stores have to be equal to the last byte.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from reticket.experiment.slurm.board import Board
from tests.slurm.node import missing, single_node

TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
EXPERIMENT = (str(TINY), "--set", "dense.epochs=24", "--set", "prune.epochs=6")  # so long that a task can be met
OPTIONS = ("--executor", "slurm", "--jobs", "3", "--executor-option", "idle=20")
PATIENCE = 300.0  # seconds for anything


def results(store: Path) -> dict[str, list[bytes]]:
    """Return the bytes of every result: values and tensors."""
    folders = sorted(store.glob("results/*/*"))
    return {
        one.name: [file.read_bytes() for file in sorted(one.iterdir()) if file.stem != "manifest"] for one in folders
    }


def count(store: Path) -> int:
    return sum(1 for _ in store.glob("results/*/*/manifest.json"))


def wait(ready: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was waited for {PATIENCE:.0f} s")
        time.sleep(0.05)


class Run:
    """A run through SLURM, from outside."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.store, self._environment = folder, folder / "store", dict(environment)

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "reticket", "run", *EXPERIMENT, "--out", str(self.folder), *OPTIONS]
        return subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def process(self, job: str) -> int:
        """Return the process of a job that is in the middle of a task, 0 for another."""
        for board in Board.all_of(self.store / "scratch" / "slurm"):
            said = board.heard(job, 0)[0]
            if said and said[-1]["say"] in ("begun", "progress", "metrics", "notice") and not self.has(said[-1]["key"]):
                return [message["process"] for message in said if message["say"] == "hello"][-1]
        return 0

    def has(self, key: str) -> bool:
        return (self.store / "results" / key[:2] / key).exists()

    def disturb(self, stored: int, *command: str) -> None:
        """Do something to a job in the middle of a task, as soon as so many results are there."""
        wait(lambda: count(self.store) >= stored, f"{stored} results")
        stopped: list[tuple[str, int]] = []
        wait(lambda: stopped or stopped.extend(self._stopped_at_work()), "a job at work")
        job, process = stopped[0]
        if command:
            subprocess.run([*command, job], env=self._environment, check=True)
        else:
            os.kill(process, signal.SIGKILL)
        os.kill(process, signal.SIGCONT)
        print(f"{count(self.store):4d} results: {' '.join(command or ['kill -9'])} {job}", flush=True)

    def _stopped_at_work(self) -> Iterator[tuple[str, int]]:
        """Stop a job and give its name and process; let it go on where it was between two tasks."""
        for job in sorted(self.jobs()):
            process = self.process(job)
            if process:
                os.kill(process, signal.SIGSTOP)
                if self.process(job):
                    yield job, process
                    return
                os.kill(process, signal.SIGCONT)

    def jobs(self) -> set[str]:
        """Return the jobs that run."""
        said = subprocess.run(
            ["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i"],
            env=self._environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return set(said.stdout.split())


def go_through(run: Run) -> str:
    """Disturb a run in every way and start it again; return what the second driver printed."""
    driver = run.start()
    run.disturb(8, "scancel")
    run.disturb(16)
    run.disturb(24, "scontrol", "requeue")
    driver.kill()
    driver.communicate()
    before = count(run.store)
    print(f"{before:4d} results: the driver is killed", flush=True)
    wait(lambda: count(run.store) >= before + 5, "results without a driver")
    run.disturb(before + 5, "scancel", "--signal=USR2")
    again = run.start()
    said, _ = again.communicate(timeout=PATIENCE)
    print("".join(line for line in said.splitlines(keepends=True) if "slurm: " in line), end="")
    assert again.returncode == 0, f"the second run failed: {said}"
    return said


def main() -> int:
    if problem := missing():
        print(problem)
        return 0
    with tempfile.TemporaryDirectory(prefix="reticket-slurm-") as place:
        folder = Path(place)
        (folder / "node").mkdir()
        command = [sys.executable, "-m", "reticket", "run", *EXPERIMENT, "--jobs", "2", "--out", str(folder / "local")]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        locally = time.monotonic() - began
        with single_node(folder / "node") as environment:
            run = Run(folder / "run", environment)
            began = time.monotonic()
            said = go_through(run)
            seconds = time.monotonic() - began
        wanted, found = results(folder / "local" / "store"), results(run.store)
        assert found == wanted, f"{sum(found.get(key) != wanted[key] for key in wanted)} results differ"
        assert "are under way; listening to them" in said, "the second driver sent jobs of its own"
        lines = (run.folder / "metrics.jsonl").read_text().splitlines()
        lost = [event["text"] for event in map(json.loads, lines) if event["kind"] == "worker-lost"]
        assert lost, "nobody noticed that a job was killed"
        print(*lost, sep="\n")
        print(f"{len(wanted)} results equal to those of a local run; {seconds:.0f} s, locally {locally:.0f} s")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # the daemons end with it
    os.chdir(Path(__file__).parents[2])
    sys.exit(main())
