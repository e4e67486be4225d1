"""ImageNet (ILSVRC2012) as folders of JPEGs, streamed: 1.28 million training and 50,000 validation images."""

import re
from pathlib import Path

import torch

from reticket.data.class_folders import Files, list_images
from reticket.data.description import Description
from reticket.data.folders import find_folder
from reticket.data.image_files import ImageFiles
from reticket.data.registry import dataset
from reticket.errors import DataError
from reticket.rng import generator_for

COUNTS = {"train": 1_281_167, "val": 50_000}
CLASSES = 1000
SIDE = 224
# Per channel (red, green, blue), in [0, 1]; the constants that torchvision's models were trained with and document.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NAMES = "LOC_synset_mapping.txt"  # "n01440764 tench, Tinca tinca" a line; comes with the archive of Kaggle
WNID = re.compile(r"n\d{8}")
SOURCE = (
    "fetch ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org and unpack them to "
    "train/WNID/*.JPEG and val/WNID/*.JPEG"
)
FLAT = (
    "move each image into the folder of its class's wnid (val/n01440764/ and so on), which the development kit names "
    "for every image (ILSVRC2012_validation_ground_truth.txt)"
)


def class_folders(part: Path, count: int) -> tuple[str, ...]:
    """Return the names of the folders of classes, sorted, which is the order of labels everywhere in the field.

    Raises:
        DataError: when there are not `count`, or images lie there without folders.
    """
    if not part.is_dir():
        raise DataError(f"'{part}' is missing, the other parts are there; {SOURCE}")
    entries = list(part.iterdir())
    folders = tuple(sorted(entry.name for entry in entries if WNID.fullmatch(entry.name) and entry.is_dir()))
    if not folders and any(entry.suffix.lower() == ".jpeg" for entry in entries):
        raise DataError(f"'{part}' is flat, as the official archive is: {FLAT}")
    if len(folders) != count:
        raise DataError(
            f"'{part}' holds {len(folders)} folders of classes, but {count} were expected, one for each wnid such as "
            f"n01440764; unpack the missing ones"
        )
    return folders


def check_same_classes(here: tuple[str, ...], there: tuple[str, ...], part: Path) -> None:
    """Raise DataError when `part` lacks a class that the other part has."""
    missing = sorted(set(there) - set(here))
    if missing:
        raise DataError(f"'{part / missing[0]}' is missing, the other part has that class; unpack it again")


def check_count(files: Files, count: int) -> None:
    """Raise DataError when a part does not hold as many images as it was published with."""
    if len(files.labels) != count:
        raise DataError(
            f"'{files.root}' holds {len(files.labels):,} images, but {count:,} were expected; half a download or "
            f"deleted files: unpack it again"
        )


def shuffled(files: Files, *labels: str | int) -> Files:
    """Return the same files in an order that `labels` decide, so that any part from the beginning mixes all classes."""
    return files.take(torch.randperm(len(files.labels), generator=generator_for(*labels), device="cpu"))


def class_names(wnids: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """Return each wnid with the words that a file gives it, or alone where there is no file."""
    words: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            wnid, _, text = line.replace("\t", " ").partition(" ")
            words[wnid] = text.strip()
    return tuple(f"{wnid} {words[wnid]}" if words.get(wnid) else wnid for wnid in wnids)


@dataset("imagenet", lambda side=SIDE: Description(COUNTS["train"], COUNTS["val"], CLASSES, (3, side, side)))
def load_imagenet(folder: Path | None = None, side: int = SIDE) -> ImageFiles:
    """Return ImageNet, streamed: random parts of images and flips in training, the middle in evaluation.

    Training images are numbered in a fixed random order; labels are the places of the wnids in alphabetical order.

    Args:
        folder: holds `train` and `val`, or is the parent of `imagenet`, `ILSVRC2012` or `ILSVRC/Data/CLS-LOC`.
        side: height and width of an input in pixels; in evaluation it is cut from 8/7 of it (256 for 224).

    Raises:
        DataError: when a part, a class or images are missing, or `val` is flat.
    """
    root = find_folder(
        "imagenet",
        folder,
        lambda place: (place / "train").is_dir() or (place / "val").is_dir(),
        subfolders=("imagenet", "ImageNet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        system=None,
        advice=SOURCE,
    )
    wnids = {part: class_folders(root / part, CLASSES) for part in COUNTS}
    check_same_classes(wnids["val"], wnids["train"], root / "val")
    parts = {part: list_images(root / part, wnids[part], part) for part in COUNTS}
    for part, count in COUNTS.items():
        check_count(parts[part], count)
    return ImageFiles(
        name="imagenet",
        train=shuffled(parts["train"], "imagenet", "order of images"),
        test=parts["val"],
        classes=class_names(wnids["train"], root / NAMES),
        mean=MEAN,
        std=STD,
        side=side,
        shorter=round(side * 8 / 7),
    )
