"""The jobs of an array, as processes of this machine: they go on when who sent them is killed, and end with Ctrl-C."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from reticket.experiment import FolderStore
from tests.e2e.test_killed import SMALL, TINY, order, start, without_times

pytest.importorskip("submitit")
SETTINGS = (str(TINY), *(text for setting in SMALL for text in ("--set", setting)))
JOBS = (*SETTINGS, "--executor", "slurm", "--executor-option", "cluster=local")
TASKS = 16
PATIENCE = 300.0  # seconds


def jobs_in(folder: Path) -> list[str]:
    """Return the processes that work in a folder."""
    said = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)
    return [line for line in said.stdout.splitlines() if "submitit" in line and str(folder) in line]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> object:
    out = tmp_path_factory.mktemp("whole")
    assert start(out, *SETTINGS).returncode == 0
    return without_times(out)


@pytest.mark.slow
def test_jobs_go_on_without_the_driver(tmp_path: Path, undisturbed: object) -> None:
    assert start(tmp_path, *JOBS, orders=[order(1, kind="task-done")]).returncode == -signal.SIGKILL
    store, deadline = FolderStore(tmp_path / "store"), time.monotonic() + PATIENCE
    while len(list(store.keys())) < TASKS:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    again = start(tmp_path, *JOBS)
    assert again.returncode == 0
    assert f"0 tasks computed, {TASKS} taken from the store" in again.stdout
    assert without_times(tmp_path) == undisturbed


@pytest.mark.slow
def test_ctrl_c_ends_the_jobs_and_the_same_command_goes_on(tmp_path: Path, undisturbed: object) -> None:
    stopped = start(tmp_path, *JOBS, orders=[order(1, sign=signal.SIGINT, kind="task-done")])
    assert stopped.returncode == 130
    assert "run the same command again to resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not jobs_in(tmp_path)
    assert start(tmp_path, *JOBS).returncode == 0
    assert not jobs_in(tmp_path)
    assert without_times(tmp_path) == undisturbed
