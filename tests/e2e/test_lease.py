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


def cut_at(folder: Path, begins: str, *more: str) -> list[str]:
    """Start a loan, send SIGTERM when it prints a line that begins so, and return what it printed."""
    lines = []
    with start(folder, *more) as loan:
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
    lines = cut_at(tmp_path, "{'way': 'graph float32'", "--budget", "300")
    assert lines[-1].startswith("done after")
    found = answers(tmp_path)
    assert all(check["ok"] for check in found["smoke"].values())
    assert found["throughput"]["stopped"]
    assert "row" not in found

    cut_at(tmp_path, "plan-started", "--part", "row", "--left", "100")
    cut = answers(tmp_path)
    assert cut["smoke"] == found["smoke"], "what was answered is kept"
    assert cut["row"]["stopped"]
    assert (tmp_path / "out" / "report.html").read_text("utf-8").rstrip().endswith("</html>")

    before = ended(tmp_path)
    cut_at(tmp_path, "task-done", "--part", "row", "--left", "100000")
    assert ended(tmp_path) > before
    again = answers(tmp_path)
    assert again["plan"] == cut["plan"], "it goes on with the schedule that it began with"
    assert again["row"]["left"] < cut["row"]["left"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["complete"] is False
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
