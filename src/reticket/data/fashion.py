"""Fashion-MNIST: 60,000 training and 10,000 test images, 28 x 28 grey, from IDX files."""

from pathlib import Path

import torch

from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.folders import find_folder
from reticket.data.idx import find_idx, read_idx
from reticket.data.registry import dataset
from reticket.data.shrinking import check_side, shrunk
from reticket.errors import DataError

SYSTEM = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
COUNTS = {"train": 60_000, "t10k": 10_000}
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# Of all pixels of the 60,000 training images scaled to [0, 1], computed from the files in float64.
MEAN, STD = (0.2860405969887955,), (0.35302424451492254,)


def _holds_data(place: Path) -> bool:
    return any(find_idx(place, f"{part}-images-idx3-ubyte") is not None for part in COUNTS)


def _described(side: int = SIDE) -> Description:
    check_side("fashion-mnist", side, SIDE)
    return Description(COUNTS["train"], COUNTS["t10k"], 10, (1, side, side))


@dataset("fashion-mnist", _described)
def load_fashion_mnist(folder: Path | None = None, side: int = SIDE) -> Dataset:
    """Return Fashion-MNIST, no augmentation.

    Args:
        folder: holds the four IDX files, plain or `.gz`, or is the parent of `fashion-mnist`.
        side: height and width of an image in pixels; below 28 each pixel is the mean of a square of the published ones.

    Raises:
        DataError: when files are missing, truncated or of another size, or `side` is no whole part of 28.
    """
    check_side("fashion-mnist", side, SIDE)
    place = find_folder(
        "fashion-mnist",
        folder,
        _holds_data,
        subfolders=("fashion-mnist", "FashionMNIST/raw"),
        system=SYSTEM,
        advice="install Debian's package dataset-fashion-mnist (apt install dataset-fashion-mnist)",
    )
    parts = {}
    for part, count in COUNTS.items():
        for stem, shape in (
            (f"{part}-images-idx3-ubyte", (count, SIDE, SIDE)),
            (f"{part}-labels-idx1-ubyte", (count,)),
        ):
            path = find_idx(place, stem)
            if path is None:
                raise DataError(f"'{place / stem}' (or .gz) is missing, the other files are there; put it beside them")
            parts[stem] = read_idx(path, shape)
    return Dataset(
        name="fashion-mnist",
        train_x=shrunk(parts["train-images-idx3-ubyte"].unsqueeze(1), side),
        train_y=parts["train-labels-idx1-ubyte"].to(torch.int64),
        test_x=shrunk(parts["t10k-images-idx3-ubyte"].unsqueeze(1), side),
        test_y=parts["t10k-labels-idx1-ubyte"].to(torch.int64),
        classes=CLASSES,
        mean=MEAN,
        std=STD,
    )
