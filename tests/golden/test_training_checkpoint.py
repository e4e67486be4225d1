"""A checkpoint of SGD is named and laid out as before there were other optimisers, so that it is gone on from."""

import torch

from reticket import Dataset, Recipe, build_model
from reticket.training import TrainingRun
from reticket.training.resume import fingerprint
from reticket.training.snapshot import state_of

RECIPE = Recipe(2, 2, 0.1, schedule="step", milestones=(1,))
PINNED = "4dfe7091038b0d46644c006c82d1382950a99b4dec0feb40ca107e3491f877f8"


def run_of(recipe: Recipe) -> TrainingRun:
    model = build_model("mlp", in_features=2, hidden=(3,), classes=2)
    for parameter in model.parameters():
        parameter.data.fill_(0.5)
    x, y = torch.arange(8.0).view(4, 2), torch.tensor([0, 1, 0, 1])
    points = Dataset("points", x, y, x, y, ("left", "right"), (0.0,), (1.0,))
    return TrainingRun(model, points, recipe, rng_label=("golden", 0))


def test_the_name_of_a_run_is_pinned() -> None:
    assert fingerprint(run_of(RECIPE)) == PINNED


def test_its_tensors_are_these() -> None:
    names = ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias")
    stored = [name for name in state_of(run_of(RECIPE)).tensors() if not name.startswith("rng/")]
    assert stored == [*(f"weights/{name}" for name in names), *(f"momentum/{name}" for name in names), "epoch_losses"]
