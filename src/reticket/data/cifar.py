"""CIFAR-10 in its official binary layout: 50,000 training and 10,000 test images, 32 x 32 in three colours."""

from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from reticket.data.archives import Published
from reticket.data.bounded import held
from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.folders import base_folders, find_folder
from reticket.data.registry import dataset
from reticket.data.shrinking import check_side, shrunk
from reticket.errors import DataError

ARCHIVE = "cifar-10-binary.tar.gz"
PICKLED = ("cifar-10-python.tar.gz", "cifar-10-batches-py")
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORDS = 10_000  # in each file
SIDE = 32
PIXELS = 3 * SIDE * SIDE
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Per channel (red, green, blue) of all pixels of the 50,000 training images in [0, 1], computed in float64.
MEAN = (0.49139968, 0.48215841, 0.44653091)
STD = (0.24703223, 0.24348513, 0.26158784)
PUBLISHED = Published(
    title="CIFAR-10",
    archive=ARCHIVE,
    files=(*TRAIN_FILES, *TEST_FILES),
    pickled=PICKLED,
    pickled_file="data_batch_1",
    source=f"put {ARCHIVE} from https://www.cs.toronto.edu/~kriz/cifar.html (or the folder it unpacks to) there",
)


def parse_records(raw: bytes, source: str) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, " n"]]:
    """Return images and labels of one file: records of one label byte and 3,072 pixel bytes (red, green, blue planes).

    Raises:
        DataError: when the file has another size or a label above 9.
    """
    expected = RECORDS * (1 + PIXELS)
    if len(raw) != expected:
        raise DataError(
            f"'{source}' holds {held(raw, expected)} bytes, but {expected:,} were expected ({RECORDS:,} records of "
            f"{1 + PIXELS:,}); it is truncated or another file, fetch it again"
        )
    records = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(RECORDS, 1 + PIXELS)
    labels = records[:, 0].to(torch.int64)
    if int(labels.max()) >= len(CLASSES):
        raise DataError(
            f"'{source}' has the label {int(labels.max())}, but 0..9 were expected; it is not CIFAR-10's binary layout"
        )
    return records[:, 1:].reshape(RECORDS, 3, 32, 32), labels


def find_published(name: str, published: Published, folder: Path | None, subfolders: tuple[str, ...]) -> Path:
    """Return the folder or archive that holds a published data set.

    Raises:
        DataError: when there is none, or only the pickled version.
    """
    try:
        place = find_folder(name, folder, published.holds, subfolders=subfolders, system=None, advice=published.source)
    except DataError:
        for base in base_folders(folder):
            published.refuse_pickles(base)
        raise
    if place.is_file():
        published.refuse_pickles(place)
    return place


def _described(side: int = SIDE) -> Description:
    check_side("cifar10", side, SIDE)
    return Description(len(TRAIN_FILES) * RECORDS, RECORDS, 10, (3, side, side))


@dataset("cifar10", _described)
def load_cifar10(folder: Path | None = None, side: int = SIDE) -> Dataset:
    """Return CIFAR-10 with flip-and-crop augmentation.

    Args:
        folder: `cifar-10-batches-bin` or its parent, or `cifar-10-binary.tar.gz` or the folder it lies in; the archive
            is read as it is, nothing is unpickled.
        side: height and width of an image in pixels; below 32 each pixel is the mean of a square of the published ones.

    Raises:
        DataError: when files are missing or truncated, or only the pickled Python version is there, or
            `side` is no whole part of 32.
    """
    check_side("cifar10", side, SIDE)
    subfolders = ("cifar-10-batches-bin", "cifar10", "cifar-10", "cifar10/cifar-10-batches-bin")
    place = find_published("cifar10", PUBLISHED, folder, subfolders)
    contents = PUBLISHED.read(place, dict.fromkeys((*TRAIN_FILES, *TEST_FILES), RECORDS * (1 + PIXELS)))
    parsed = {name: parse_records(raw, f"{place}/{name}") for name, raw in contents.items()}
    return Dataset(
        name="cifar10",
        train_x=shrunk(torch.cat([parsed[name][0] for name in TRAIN_FILES]), side),
        train_y=torch.cat([parsed[name][1] for name in TRAIN_FILES]),
        test_x=shrunk(parsed[TEST_FILES[0]][0], side),
        test_y=parsed[TEST_FILES[0]][1],
        classes=CLASSES,
        mean=MEAN,
        std=STD,
        augmentation="flip-crop",
    )
