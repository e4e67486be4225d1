"""An experiment whose model has one weight under two names: pruned once, and equal under both."""

from pathlib import Path

import torch
from torch import Tensor, nn

from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.running import run_experiment

METHODS = ("lth", "permuted", "signed", "naive", "one-shot", "gradual", "permuted+rigl")
SETTINGS = (
    "grid.seeds=1",
    "grid.sparsities=[0.6]",
    'grid.rewinds=["1ep"]',
    f"grid.methods={list(METHODS)}",
    "dense.epochs=2",
    "prune.epochs=1",
    "data.train_size=200",
    "data.test_size=50",
    "checks.barriers=false",
    "checks.overlap=false",
    "checks.diversity_members=0",
)


class Tied(nn.Module):
    """Two layers that are one, between others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 10)
        self.again = self.middle

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(self.middle(self.first(x).relu()).relu()).relu())


def test_tied_weights_are_pruned_and_moved_as_one(tmp_path: Path) -> None:
    digits = (Path(__file__).parents[2] / "src/reticket/tasks/presets/digits.toml").read_text()
    before, _, rest = digits.partition("[model]")
    text = f'{before}[model]\nname = "{__name__}:Tied"\n\n[dense]{rest.partition("[dense]")[2]}'
    (tmp_path / "tied.toml").write_text(text)
    name, config = load_config(str(tmp_path / "tied.toml"), SETTINGS)
    summary = run_experiment(config, tmp_path / "run", preset=name)
    assert summary.complete, summary.failed
    results = Results.load(tmp_path / "run")
    for method in METHODS:
        place = {"method": method, "seed": 0, "sparsity": 0.6, "rewind": "1ep"}
        weights, mask = results.weights(**place), results.mask(**place)
        assert torch.equal(weights["middle.weight"], weights["again.weight"])
        assert sorted(mask) == ["first.weight", "last.weight", "middle.weight"]
        assert all(bool((weights[one][~kept] == 0).all()) for one, kept in mask.items())
