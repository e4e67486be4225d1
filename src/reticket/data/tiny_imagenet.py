"""Tiny-ImageNet in its official layout, streamed: 100,000 training and 10,000 validation images, 200 classes."""

import os
from pathlib import Path

import torch

from reticket.data.class_folders import Files, list_images
from reticket.data.description import Description
from reticket.data.folders import find_folder
from reticket.data.image_files import ImageFiles
from reticket.data.imagenet import MEAN, STD, check_count, class_names, shuffled
from reticket.data.registry import dataset
from reticket.errors import DataError

COUNTS = {"train": 100_000, "val": 10_000}
CLASSES = 200
SIDE = 64
SOURCE = "fetch tiny-imagenet-200.zip from http://cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it there"


def read_wnids(path: Path) -> tuple[str, ...]:
    """Return the classes in `wnids.txt`, sorted.

    Raises:
        DataError: when it does not name 200.
    """
    if not path.is_file():
        raise DataError(f"'{path}' is missing, it names the classes; {SOURCE}")
    wnids = tuple(sorted(set(path.read_text("utf-8", errors="replace").split())))
    if len(wnids) != CLASSES:
        raise DataError(f"'{path}' names {len(wnids)} classes, but {CLASSES} were expected; unpack it again")
    return wnids


def list_validation(root: Path, wnids: tuple[str, ...]) -> Files:
    """Return the validation images with the labels of `val_annotations.txt`, sorted by name.

    Raises:
        DataError: when the annotations are missing, name an unknown class, or are not of these images.
    """
    path = root / "val" / "val_annotations.txt"
    if not path.is_file():
        raise DataError(f"'{path}' is missing, it gives the validation images their classes; {SOURCE}")
    place = {wnid: number for number, wnid in enumerate(wnids)}
    labels: dict[bytes, int] = {}
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        name, wnid, *_ = (*line.split(), "", "")
        if wnid not in place:
            raise DataError(
                f"'{path}', line {number}, gives '{name}' the class '{wnid}', which is none of wnids.txt; unpack it "
                f"again"
            )
        labels[f"images/{name}".encode()] = place[wnid]
    files = list_images(root / "val", ("images",), "val")
    names = files.names.tolist()
    odd = next((name for name in names if name not in labels), None) or next(iter(labels.keys() - set(names)), None)
    if odd is not None:
        raise DataError(
            f"'{root / 'val' / os.fsdecode(odd)}' is not both an image and a line of val_annotations.txt; unpack it "
            f"again"
        )
    return Files(root / "val", files.names, files.sizes, torch.tensor([labels[name] for name in names], device="cpu"))


@dataset("tiny-imagenet", lambda side=SIDE: Description(COUNTS["train"], COUNTS["val"], CLASSES, (3, side, side)))
def load_tiny_imagenet(folder: Path | None = None, side: int = SIDE) -> ImageFiles:
    """Return Tiny-ImageNet, streamed: random parts of images and flips in training, whole images in evaluation.

    It is normalised by ImageNet's constants, of which its images are a part. The test part is the labelled validation
    part; the published test part has no labels.

    Args:
        folder: `tiny-imagenet-200` or its parent.
        side: height and width of an input in pixels.

    Raises:
        DataError: when a part, a class or images are missing, or labels are wrong.
    """
    root = find_folder(
        "tiny-imagenet",
        folder,
        lambda place: (place / "wnids.txt").is_file() or (place / "val" / "val_annotations.txt").is_file(),
        subfolders=("tiny-imagenet-200", "tiny-imagenet"),
        system=None,
        advice=SOURCE,
    )
    wnids = read_wnids(root / "wnids.txt")
    train = list_images(root / "train", [f"{wnid}/images" for wnid in wnids], "training")
    check_count(train, COUNTS["train"])
    test = list_validation(root, wnids)
    check_count(test, COUNTS["val"])
    return ImageFiles(
        name="tiny-imagenet",
        train=shuffled(train, "tiny-imagenet", "order of images"),
        test=test,
        classes=class_names(wnids, root / "words.txt"),
        mean=MEAN,
        std=STD,
        side=side,
        shorter=side,
    )
