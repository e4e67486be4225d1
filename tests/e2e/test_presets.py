"""Presets pass `--dry-run` without their data, and run to their reports at one epoch and 256 images."""

import subprocess
import sys
from pathlib import Path

import pytest

from reticket.tasks.presets import list_presets

ROOT = Path(__file__).parents[2]


FEW = ("cifar10-small-width", "digits", "fashion-mlp")


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [FEW, pytest.param(tuple(list_presets()), marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_presets_are_planned_without_data_and_run_to_their_reports(names: tuple[str, ...], tmp_path: Path) -> None:
    """In a process of its own, where no types are checked and presets share what they have in common."""
    command = [sys.executable, "-m", "tests.presets", str(tmp_path), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.partition(": done")[0] for line in done.stdout.splitlines()] == list(names)
