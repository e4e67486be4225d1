"""Kill -9 with Ray: the driver, a worker, the driver with its whole cluster; the results are those of a quiet run.

A run kills as soon as it has told so many events. `RETICKET_RAY_KILLS=30` kills so many times, a third of them each;
`make test-all` three times.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.test_killed import EXPERIMENT, start, without_times

KILLS = int(os.environ.get("RETICKET_RAY_KILLS", "3"))
KILLING = """
import os, random, signal, sys
from pathlib import Path
from reticket.cli import main
from reticket.cli.progress import Display
victim, moments = sys.argv[1], {int(text) for text in sys.argv[2].split(",")}
sys.argv[1:] = sys.argv[3:]
draw, told, show = random.Random(0), 0, Display.show

def children(pid):
    found = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(one for child in found for one in children(child))]

def computing():
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(os.getpid())}
    named = {pid: name.split(b"\\0")[0].strip() for pid, name in names.items() if name.startswith(b"ray::")}
    return sorted(pid for pid, name in named.items() if name != b"ray::IDLE" and not name.endswith(b"Agent"))

def heard(display, event):
    global told
    show(display, event)
    told += event.kind != "progress"
    due = [moment for moment in moments if moment <= told]
    workers = computing() if due and victim == "worker" else []
    if workers:
        moments.discard(min(due))
        os.kill(draw.choice(workers), signal.SIGKILL)
        print("killed a worker", file=sys.stderr)
    elif due and victim == "driver":
        os.kill(os.getpid(), signal.SIGKILL)
    elif due and victim == "group":
        os.killpg(os.getpid(), signal.SIGKILL)

Display.show = heard
main()
"""


def by_ray(out: Path, victim: str, moments: Sequence[int]) -> subprocess.CompletedProcess[str]:
    """Run the experiment on a cluster of its own, and kill at moments, counted in events."""
    texts = [victim, ",".join(map(str, moments)), "run", EXPERIMENT, "--executor", "ray", "--jobs", "2"]
    command = [sys.executable, "-c", KILLING, *texts, "--executor-option", "tries=9", "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run, by two processes of this machine."""
    out = tmp_path_factory.mktemp("whole")
    assert start(out).returncode == 0
    return out


def moments(whole: Path, kills: int) -> list[int]:
    """Draw when a run kills, in order, so that all kills have their turn before it ends."""
    lines = len((whole / "metrics.jsonl").read_text().splitlines())
    draw = random.Random(kills)
    return [draw.randrange(3, max(4, lines // (kills + 1))) for _ in range(kills)]


@pytest.mark.slow
def test_a_driver_and_a_cluster_killed_and_started_again(tmp_path: Path, whole: Path) -> None:
    pytest.importorskip("ray")
    kills = KILLS - KILLS // 3
    for number, moment in enumerate(moments(whole, kills)):
        ended = by_ray(tmp_path, ("driver", "group")[number % 2], [moment])
        assert ended.returncode == -signal.SIGKILL, f"it ended before it was killed: {ended.stdout}{ended.stderr}"
        assert not (tmp_path / "results.json").exists()
    assert by_ray(tmp_path, "nobody", [0]).returncode == 0
    assert without_times(tmp_path) == without_times(whole)
    assert not (tmp_path / "store" / "damaged").exists()
    print(f"{kills} kills of the driver, every second time with its cluster")


@pytest.mark.slow
def test_workers_killed_while_the_run_goes_on(tmp_path: Path, whole: Path) -> None:
    pytest.importorskip("ray")
    kills = max(KILLS // 3, 1)
    steps = moments(whole, kills)
    ended = by_ray(tmp_path, "worker", [sum(steps[: number + 1]) for number in range(kills)])
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("killed a worker") == kills
    assert without_times(tmp_path) == without_times(whole)
    assert not (tmp_path / "store" / "damaged").exists()
    print(f"{kills} kills of a worker")
