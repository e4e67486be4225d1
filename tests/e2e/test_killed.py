"""Kill -9 at random moments, start again: the final results are those of an undisturbed run.

`make kills` does this ten times on the digits preset; the suite does it on a tiny experiment.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TINY = Path(__file__).with_name("tiny.toml")
EXPERIMENT = os.environ.get("RETICKET_KILL_EXPERIMENT", str(TINY))
KILLS = int(os.environ.get("RETICKET_KILLS", "2"))
STARTING = 3.0  # seconds until the first task of a run is under way, on an idle machine


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from reticket.cli import main; main()", "run", EXPERIMENT]
    return subprocess.Popen(
        [*command, "--out", str(out), "--jobs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def without_times(out: Path) -> dict[str, Any]:
    results = json.loads((out / "results.json").read_text())
    results.pop("environment")
    for cost in results["cost"]:
        cost.pop("seconds")
    return results


def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    whole = time.monotonic() - began
    draw = random.Random(0)
    landed = 0
    for _ in range(3 * KILLS):
        run = start(tmp_path / "killed")
        time.sleep(STARTING + draw.uniform(0, whole - STARTING) / KILLS)
        landed += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
        if landed == KILLS or (tmp_path / "killed" / "results.json").exists():
            break
    assert landed >= min(KILLS, 2), "too few runs were alive when they were killed: the test proves nothing"
    assert start(tmp_path / "killed").wait() == 0
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")
    print(f"{landed} kills; an undisturbed run took {whole:.0f} s")


def heeds_ctrl_c() -> None:
    """Undo what a shell does to jobs in the background: these tests may run in one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_stops_says_how_to_resume_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from reticket.cli import main; main()", "run", str(TINY), "--jobs", "2"]
    run = subprocess.Popen(
        [*command, "--out", str(tmp_path / "stopped")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_ctrl_c,
    )
    log = tmp_path / "stopped" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (log.exists() and "task-done" in log.read_text()):
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    said = run.communicate()[1]
    assert run.returncode == 130
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    again = subprocess.run([*command, "--out", str(tmp_path / "stopped")], capture_output=True, text=True, check=True)
    taken = int(again.stdout.partition(" taken from the store")[0].rpartition(" ")[2])
    assert taken > 0
