"""What an experiment's pruning spares stands in its results, and in the report beside the true sparsity."""

from pathlib import Path

import pytest
import torch

from reticket.experiment import FolderStore
from reticket.report.grid import grid
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.results import results_model
from reticket.tasks.results_builder import ResultsBuilder

FACTS = Facts("0" * 64, 5000, tuple("0123456789"), (3, 32, 32))


def unpruned(folder: Path, *settings: str) -> dict[str, float]:
    config = load_config("cifar10-resnet20", settings)[1]
    labels = torch.zeros(10, dtype=torch.int64)
    return dict(ResultsBuilder(Blueprint(config, FACTS), FolderStore(folder), labels).experiment().unpruned)


def test_shortcuts_are_named_with_their_share(tmp_path: Path) -> None:
    found = unpruned(tmp_path, "model.params.width=0.25")
    # kernels of 3 x 3 at 4, 8 and 16 channels, six a stage, of which the first widens as the shortcut does
    matrices = 9 * (3 * 4 + 6 * 16 + 2 * 4 * 8 + 5 * 64 + 2 * 8 * 16 + 5 * 256) + 16 * 10
    assert {name.rpartition(".")[0].rpartition(".")[0] for name in found} == {"layer2.0.shortcut", "layer3.0.shortcut"}
    assert sorted(found.values()) == pytest.approx([9 * 32 / matrices, 9 * 128 / matrices])
    assert unpruned(tmp_path, "model.params.width=0.25", "prune.exclude=[]") == {}


def test_the_report_names_the_largest() -> None:
    row = {"method": "lth", "sparsity": 0.9, "rewind": "5ep", "metric": "accuracy", "mean": 90.0, "sd": 0.0, "n": 1}
    shares = {f"w{i}": 0.01 * i for i in range(1, 7)}
    results = results_model().model_validate({"schema": 1, "rows": [row], "experiment": {"unpruned": shares}})
    seen = grid(results)
    assert seen is not None
    assert seen.spared == "w6 (6 %), w5 (5 %), w4 (4 %), w3 (3 %) and 2 more".replace(" %", "\u00a0%")
