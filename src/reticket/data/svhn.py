"""SVHN, cropped digits (format 2): 73,257 training and 26,032 test images of 32 x 32, from MATLAB files."""

import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.folders import find_folder
from reticket.data.mat import read_arrays
from reticket.data.moments import channel_moments
from reticket.data.registry import dataset
from reticket.data.shrinking import check_side, shrunk
from reticket.errors import DataError

COUNTS = {"train_32x32.mat": 73_257, "test_32x32.mat": 26_032}
SOURCE = "put train_32x32.mat and test_32x32.mat from http://ufldl.stanford.edu/housenumbers there"
SIDE = 32
PIXELS, LABEL = SIDE * SIDE * 3, 16  # bytes of one image, and the most of its label, as stored and as a float64


def read_mat(path: Path, count: int) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, " n"]]:
    """Return images and labels of one file: `X` of shape (32, 32, 3, n), `y` of shape (n, 1) where 10 is the digit 0.

    Raises:
        DataError: when the file cannot be read, or `X` or `y` has another shape, type or range.
    """
    try:
        contents = read_arrays(path, count * (PIXELS + LABEL))
    except (OSError, ValueError, zlib.error) as reason:
        raise DataError(f"'{path}' cannot be read as a MATLAB file ({reason}); fetch it again") from reason
    for name, shape, kind in (("X", (32, 32, 3, count), "uint8"), ("y", (count, 1), "numbers")):
        seen = contents.get(name)
        if not isinstance(seen, np.ndarray) or seen.shape != shape or (name == "X" and seen.dtype != np.uint8):
            found = f"{seen.dtype} of shape {seen.shape}" if isinstance(seen, np.ndarray) else "not there"
            raise DataError(
                f"'{path}': {name} is {found}, but {kind} of shape {shape} was expected; it is not the file of "
                f"cropped digits (format 2), fetch it again"
            )
    y = contents["y"]
    if not np.array_equal(y, np.round(y)) or y.min() < 1 or y.max() > 10:
        raise DataError(
            f"'{path}': labels {y.min():g}..{y.max():g}, but whole numbers 1..10 were expected (10 is the digit 0); "
            f"fetch the file again"
        )
    images = torch.from_numpy(np.ascontiguousarray(contents["X"].transpose(3, 2, 0, 1)))
    return images, torch.from_numpy(y.astype(np.int64)).flatten() % 10


def _described(side: int = SIDE) -> Description:
    check_side("svhn", side, SIDE)
    return Description(COUNTS["train_32x32.mat"], COUNTS["test_32x32.mat"], 10, (3, side, side))


@dataset("svhn", _described)
def load_svhn(folder: Path | None = None, side: int = SIDE) -> Dataset:
    """Return SVHN's training and test part (the extra part is not used), augmented by crops.

    Digits are not mirrored, because a mirrored digit is another sign; the paper does not say what it did. Mean and
    standard deviation are those of the training images, computed exactly when they are read.

    Args:
        folder: holds the two files, or is the parent of `svhn`.
        side: height and width of an image in pixels; below 32 each pixel is the mean of a square of the published ones.

    Raises:
        DataError: when a file is missing, truncated or of another kind, or `side` is no whole part of 32.
    """
    check_side("svhn", side, SIDE)
    place = find_folder(
        "svhn",
        folder,
        lambda place: any((place / name).is_file() for name in COUNTS),
        subfolders=("svhn", "SVHN"),
        system=None,
        advice=SOURCE,
    )
    missing = [name for name in COUNTS if not (place / name).is_file()]
    if missing:
        raise DataError(f"'{place}' lacks {missing[0]}, the other file of SVHN is there; {SOURCE}")
    (train_x, train_y), (test_x, test_y) = (read_mat(place / name, count) for name, count in COUNTS.items())
    train_x, test_x = shrunk(train_x, side), shrunk(test_x, side)
    mean, std = channel_moments(train_x)
    return Dataset(
        name="svhn",
        train_x=train_x,
        train_y=train_y,
        test_x=test_x,
        test_y=test_y,
        classes=tuple("0123456789"),
        mean=mean,
        std=std,
        augmentation="crop",
    )
