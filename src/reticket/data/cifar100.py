"""CIFAR-100 in its official binary layout: 50,000 training and 10,000 test images of 100 fine classes."""

from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from reticket.data.archives import Published
from reticket.data.bounded import held
from reticket.data.cifar import PIXELS, SIDE, find_published
from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.moments import channel_moments
from reticket.data.registry import dataset
from reticket.data.shrinking import check_side, shrunk
from reticket.errors import DataError

COUNTS = {"train.bin": 50_000, "test.bin": 10_000}
NAMES = "fine_label_names.txt"
NAMES_BYTES = 2**16  # more than a hundred names take
COARSE, FINE = 20, 100
RECORD = 2 + PIXELS  # one byte of the coarse label, one of the fine label, the pixels
PUBLISHED = Published(
    title="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    files=tuple(COUNTS),
    pickled=("cifar-100-python.tar.gz", "cifar-100-python"),
    pickled_file="meta",
    source="put cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html (or the folder it unpacks to) "
    "there",
)


def parse_records(raw: bytes, count: int, source: str) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, " n"]]:
    """Return images and fine labels of one file: records of coarse label, fine label and 3,072 pixel bytes.

    Raises:
        DataError: when the file has another size, or a label is out of its range.
    """
    expected = count * RECORD
    if len(raw) != expected:
        raise DataError(
            f"'{source}' holds {held(raw, expected)} bytes, but {expected:,} were expected ({count:,} records of "
            f"{RECORD:,}); it is truncated or another file, fetch it again"
        )
    records = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(count, RECORD)
    coarse, fine = (records[:, place].to(torch.int64) for place in (0, 1))
    for kind, labels, classes in (("coarse", coarse, COARSE), ("fine", fine, FINE)):
        if int(labels.max()) >= classes:
            raise DataError(
                f"'{source}' has the {kind} label {int(labels.max())}, but 0..{classes - 1} were expected; it is not "
                f"CIFAR-100's binary layout"
            )
    return records[:, 2:].reshape(count, 3, 32, 32), fine


def class_names(raw: bytes | None, source: str) -> tuple[str, ...]:
    """Return the names in `fine_label_names.txt`, or numbers when the file is not there.

    Raises:
        DataError: when the file does not name 100 classes.
    """
    if raw is None:
        return tuple(str(number) for number in range(FINE))
    names = tuple(raw.decode("utf-8", "replace").split())
    if len(set(names)) != FINE:
        raise DataError(
            f"'{source}' names {len(set(names))} classes, but {FINE} were expected, one a line; fetch it again or "
            f"remove it"
        )
    return names


def _described(side: int = SIDE) -> Description:
    check_side("cifar100", side, SIDE)
    return Description(COUNTS["train.bin"], COUNTS["test.bin"], FINE, (3, side, side))


@dataset("cifar100", _described)
def load_cifar100(folder: Path | None = None, side: int = SIDE) -> Dataset:
    """Return CIFAR-100 with its fine labels and flip-and-crop augmentation.

    Mean and standard deviation are those of the training images, computed exactly when they are read.

    Args:
        folder: `cifar-100-binary` or its parent, or `cifar-100-binary.tar.gz` or the folder it lies in. Without
            `fine_label_names.txt` the classes are called by their numbers.
        side: height and width of an image in pixels; below 32 each pixel is the mean of a square of the published ones.

    Raises:
        DataError: when files are missing or truncated, or only the pickled Python version is there, or
            `side` is no whole part of 32.
    """
    check_side("cifar100", side, SIDE)
    place = find_published("cifar100", PUBLISHED, folder, ("cifar-100-binary", "cifar100", "cifar-100"))
    sizes = {name: count * RECORD for name, count in COUNTS.items()}
    contents = PUBLISHED.read(place, sizes, optional={NAMES: NAMES_BYTES})
    (train_x, train_y), (test_x, test_y) = (
        parse_records(contents[name], count, f"{place}/{name}") for name, count in COUNTS.items()
    )
    train_x, test_x = shrunk(train_x, side), shrunk(test_x, side)
    mean, std = channel_moments(train_x)
    return Dataset(
        name="cifar100",
        train_x=train_x,
        train_y=train_y,
        test_x=test_x,
        test_y=test_y,
        classes=class_names(contents.get(NAMES), f"{place}/{NAMES}"),
        mean=mean,
        std=std,
        augmentation="flip-crop",
    )
