"""Kill -9 at any line of the log, start again: the final results are those of an undisturbed run.

A run kills itself as soon as it has told so many events, so that no clock and no other load decides what is tested.
`make kills` does this ten times on the digits preset, `make test-all` twice on a tiny experiment; `make test` kills the
small tasks of `test_experiment_kill.py`.
"""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_files import reticket

TINY = Path(__file__).with_name("tiny.toml")
EXPERIMENT = os.environ.get("RETICKET_KILL_EXPERIMENT", str(TINY))
SMALL = (
    *("seeds=1", "sparsities=[0.4]", 'rewinds=["1ep"]', 'methods=["lth", "permuted", "naive"]'),
    *("barriers=false", "diversity_members=0"),
)
KILLS = int(os.environ.get("RETICKET_KILLS", "2"))
STOPPING = """
import os, signal, sys
from reticket.cli import main
from reticket.cli.progress import Display
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for jobs in the background
sign, kind, left = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sys.argv[1:] = sys.argv[4:]
show = Display.show
def heard(display, event):
    global left
    show(display, event)
    if event.kind != "progress" and kind in ("any", event.kind):  # as the log has them
        left -= 1
        if left == 0:
            os.kill(os.getpid(), sign)
Display.show = heard
main()
"""


def start(
    out: Path, *arguments: str, sign: int = signal.SIGKILL, kind: str = "any", at: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run an experiment in two processes, to its end or until it has told `at` events of a kind."""
    command = [sys.executable, "-c", STOPPING, str(int(sign)), kind, str(at), "run", *(arguments or [EXPERIMENT])]
    return subprocess.run(
        [*command, "--jobs", "2", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def without_times(out: Path) -> dict[str, Any]:
    results = json.loads((out / "results.json").read_text())
    results.pop("environment")
    for cost in results["cost"]:
        cost.pop("seconds")
    return results


@pytest.mark.slow
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    assert start(tmp_path / "whole").returncode == 0
    lines = len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    draw = random.Random(0)
    for _ in range(KILLS):
        at = draw.randrange(2, max(3, lines // (KILLS + 1)))
        assert start(tmp_path / "killed", at=at).returncode == -signal.SIGKILL, "it ended before it was killed"
        assert not (tmp_path / "killed" / "results.json").exists()
    assert start(tmp_path / "killed").returncode == 0
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")
    print(f"{KILLS} kills; an undisturbed run tells {lines} events")


@pytest.mark.slow
def test_ctrl_c_stops_says_how_to_resume_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (str(TINY), *(text for setting in SMALL for text in ("--set", setting)))
    stopped = start(tmp_path / "stopped", *small, sign=signal.SIGINT, kind="task-done", at=3)
    assert stopped.returncode == 130
    assert "run the same command again to resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert reticket(monkeypatch, "run", *small, "--out", tmp_path / "stopped") == 0
    taken = int(capsys.readouterr().out.partition(" taken from the store")[0].rpartition(" ")[2])
    assert taken > 0
