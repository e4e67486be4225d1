"""A whole experiment under torchrun: the results of one process, but for rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reticket.errors import InputError
from reticket.experiment import ExecutionConfig, FolderStore, Plan, run_plan
from reticket.ranks import Ranks, joined
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment

CONFIG = """
title = "Together"
[data]
name = "digits"
train_size = 300
[model]
name = "mlp"
params = { hidden = [12] }
[dense]
epochs = 2
batch_size = 50
lr = 0.1
[sparse]
lr = 0.1
[prune]
epochs = 1
lr = 0.02
[grid]
sparsities = [0.4]
methods = ["dense", "naive"]
[checks]
barriers = false
overlap = false
"""


@pytest.mark.slow
def test_an_experiment_under_torchrun(tmp_path: Path) -> None:
    file, out, alone = tmp_path / "c.toml", tmp_path / "out", tmp_path / "alone"
    file.write_text(CONFIG)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "reticket", "run", str(file), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tasks computed, 0 taken from the store") == 1
    results = json.loads((out / "results.json").read_text())
    manifests = [json.loads(path.read_text()) for path in (out / "store" / "results").glob("*/*/manifest.json")]
    assert {manifest["provenance"]["processes"] for manifest in manifests} == {2}
    config = load_config(file)[1]
    again = run_experiment(config, out)
    assert again.done == ()
    assert len(again.cached) == len(manifests) > 4
    run_experiment(config, alone)
    expected = json.loads((alone / "results.json").read_text())
    for one, two in zip(expected["rows"], results["rows"], strict=True):
        assert one["keys"] == two["keys"]
        assert two["mean"] == pytest.approx(one["mean"], abs=0.5 if one["metric"] == "accuracy" else 1e-3)


def test_several_jobs_and_several_processes_for_one_model_are_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reticket.experiment.execute.here", lambda: Ranks(0, 2))
    with pytest.raises(
        InputError, match="jobs is 2 under torchrun, whose 2 processes train one model; leave jobs at 1"
    ):
        run_plan(Plan.of([]), FolderStore(tmp_path), {}, ExecutionConfig(jobs=2))


@pytest.mark.parametrize(
    ("variable", "value", "device", "match"),
    [
        ("WORLD_SIZE", "two", "cpu", "WORLD_SIZE is 'two', expected a whole number; let torchrun set it"),
        ("WORLD_SIZE", "2", "cuda:1", "device 'cuda:1' is one device for 2 processes; say cuda"),
    ],
)
def test_what_torchrun_cannot_mean(
    variable: str, value: str, device: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=match), joined(device):
        pass
