"""What is measured: a model, its data, the batch size. Real files where there are any, else images of their shape."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reticket.data import Dataset, load_dataset
from reticket.errors import DataError
from reticket.models import build_model
from reticket.rng import generator_for

CLASSES = tuple("0123456789")
TRAIN_SIZE, TEST_SIZE = 10_000, 1_000  # enough for whole epochs, little enough for several processes in 4 GB


@dataclass(frozen=True)
class Case:
    """One measurement.

    Args:
        name: in the results and for `--case`.
        title: for the page.
        model, params: of `build_model`.
        data: name of the data set.
        shape: of one image, to make some where the files are not there; None when the data are always there.
        batch_size: inputs in a step.
        goal: how many times the plain loop's throughput was promised.
    """

    name: str
    title: str
    model: str
    params: Mapping[str, Any]
    data: str
    shape: tuple[int, int, int] | None
    batch_size: int
    goal: float

    def load(self, folder: Path | None) -> tuple[Dataset, str]:
        """Return the data, and "real" or "generated"."""
        try:
            dataset = load_dataset(self.data, folder=folder)
        except DataError:
            if self.shape is None:
                raise
            return _generated(self), "generated"
        part = {
            "train_x": dataset.train_x[:TRAIN_SIZE],
            "train_y": dataset.train_y[:TRAIN_SIZE],
            "test_x": dataset.test_x[:TEST_SIZE],
            "test_y": dataset.test_y[:TEST_SIZE],
        }
        return dataclasses.replace(dataset, **part), "real"

    def build(self) -> nn.Module:
        """Return the model as it is initialised."""
        return build_model(self.model, generator=generator_for("benchmark", self.name), **dict(self.params))


def _generated(case: Case) -> Dataset:
    assert case.shape is not None
    generator = generator_for("benchmark", "images")
    x = torch.randint(256, (TRAIN_SIZE, *case.shape), generator=generator, dtype=torch.uint8)
    y = torch.randint(10, (TRAIN_SIZE,), generator=generator)
    mean, std = (0.5,) * case.shape[0], (0.25,) * case.shape[0]
    augmentation = "flip-crop" if case.data.startswith("cifar") else "none"
    return Dataset(case.data, x, y, x[:TEST_SIZE], y[:TEST_SIZE], CLASSES, mean, std, augmentation=augmentation)


CASES = {
    case.name: case
    for case in (
        Case("resnet20", "ResNet20x1 on CIFAR-10, flips and crops", "resnet20", {}, "cifar10", (3, 32, 32), 128, 1.5),
        Case(
            "fashion-mlp",
            "MLP 784-256-256-10 on Fashion-MNIST",
            "mlp",
            {"in_features": 784, "hidden": (256, 256)},
            "fashion-mnist",
            (1, 28, 28),
            128,
            5.0,
        ),
        Case(
            "mlp",
            "MLP 784-512-512-10 on Fashion-MNIST",
            "mlp",
            {"in_features": 784, "hidden": (512, 512)},
            "fashion-mnist",
            (1, 28, 28),
            128,
            5.0,
        ),
        Case("digits", "MLP 64-128-128-10 on the digits", "mlp", {}, "digits", None, 64, 5.0),
    )
}
