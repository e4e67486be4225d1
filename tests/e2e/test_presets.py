"""Every preset passes `--dry-run` without its data, and runs to its report at one epoch and 256 images."""

import subprocess
import sys
from pathlib import Path

import pytest

from reticket.tasks.presets import list_presets

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_preset_is_planned_without_data_and_runs_to_its_report(tmp_path: Path) -> None:
    """In a process of its own, where no types are checked and presets share what they have in common."""
    command = [sys.executable, "-m", "tests.presets", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.partition(": done")[0] for line in done.stdout.splitlines()] == list(list_presets())
