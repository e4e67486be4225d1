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
KILLS = int(os.environ.get("RETICKET_KILLS", "3"))


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
    survived = 0
    for _ in range(KILLS):
        run = start(tmp_path / "killed")
        time.sleep(draw.uniform(0.3, 0.9) * whole / 2)
        survived += run.poll() is not None
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert survived < KILLS, "no run was alive when it was killed: the test proves nothing"
    assert start(tmp_path / "killed").wait() == 0
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")
