"""Made-up images for a rehearsal: each class has a pattern of its own under noise, so that training has a slope."""

from pathlib import Path

import torch
from torch import Tensor

from reticket.data import Dataset
from reticket.rng import generator_for

NAME = f"{__name__}:images"
CLASSES = tuple("0123456789")


def images(folder: Path | None, train: int = 256, test: int = 64) -> Dataset:
    """Return a data set in the form of CIFAR-10; nothing is read."""
    patterns = torch.rand((len(CLASSES), 3, 32, 32), generator=generator_for("rehearsal", "patterns"))

    def part(many: int, name: str) -> tuple[Tensor, Tensor]:
        y = torch.arange(many) % len(CLASSES)
        noise = torch.rand((many, 3, 32, 32), generator=generator_for("rehearsal", name))
        return (255 * (0.5 * patterns[y] + 0.5 * noise)).to(torch.uint8), y

    return Dataset(
        "rehearsal", *part(train, "train"), *part(test, "test"), CLASSES, (0.5,) * 3, (0.25,) * 3, "flip-crop"
    )
