"""The rehearsal of a loan of a GPU: it answers, and whenever it is cut short its files are whole."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lease.answers import Answers, Cut

ROOT = Path(__file__).parents[2]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.lease", "--device", "cpu", "--tiny", "--out", str(folder / "out")]
    return subprocess.Popen(
        [*command, "--run", str(folder / "run"), *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def cut_at(folder: Path, begins: str) -> list[str]:
    """Start a loan, send SIGTERM when it prints a line that begins so, and return what it printed."""
    lines = []
    with start(folder, "--budget", "300") as loan:
        assert loan.stdout is not None
        for line in loan.stdout:
            lines.append(line)
            if line.startswith(begins):
                loan.send_signal(signal.SIGTERM)
    assert loan.returncode == 0, "".join(lines)
    return lines


def answers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "lease.json").read_text())["answers"]


def ended(folder: Path) -> int:
    """Return how many tasks the row has ended so far."""
    return (folder / "run" / "metrics.jsonl").read_text().count('"task-done"')


@pytest.mark.slow
def test_a_loan_that_is_cut_goes_on_and_brings_everything_home(tmp_path: Path) -> None:
    lines = cut_at(tmp_path, "{'way': 'graph float32'")
    assert lines[-1].startswith("done after")
    found = answers(tmp_path)
    assert all(check["ok"] for check in found["smoke"].values())
    assert "row" not in found
    assert found["throughput"]["stopped"]

    cut_at(tmp_path, "plan-started")
    cut = answers(tmp_path)
    assert cut["smoke"] == found["smoke"], "what was answered is not asked again"
    assert cut["row"]["stopped"]
    assert cut["row"]["left"] > 0
    assert (tmp_path / "out" / "report.html").read_text("utf-8").rstrip().endswith("</html>")

    before = ended(tmp_path)
    loan = start(tmp_path, "--budget", "60")
    printed = loan.communicate()[0]
    assert loan.returncode == 0, printed
    assert ended(tmp_path) > before
    whole = answers(tmp_path)
    assert whole["throughput"] == cut["throughput"]
    assert whole["plan"] == cut["plan"], "it goes on with the schedule that it began with"
    assert len(whole["row"]["rows"]) >= len(cut["row"]["rows"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["complete"] is (not whole["row"]["stopped"])
    with tarfile.open(tmp_path / "out" / "lease.tar.gz") as archive:
        assert "lease/results.json" in archive.getnames()
    assert len(list((tmp_path / "out").iterdir())) <= 8


def test_an_answer_that_fails_costs_itself_alone(tmp_path: Path) -> None:
    def fails() -> None:
        raise ZeroDivisionError("one by nought")

    def is_cut() -> None:
        raise Cut

    kept = Answers(tmp_path / "lease.json", {"tiny": True}, ("tiny",))
    assert kept.ask("first", lambda: {"figure": 1}) == {"figure": 1}
    assert kept.ask("second", fails) == {"error": "ZeroDivisionError: one by nought"}
    with pytest.raises(Cut):
        kept.ask("third", is_cut)
    again = Answers(tmp_path / "lease.json", {"tiny": True}, ("tiny",))
    assert "first" in again
    assert "second" not in again, "an error is asked again"
    assert "third" not in again
    other = Answers(tmp_path / "lease.json", {"tiny": False}, ("tiny",))
    assert "first" not in other
