"""CIFAR-10 in its official binary layout: 50,000 training and 10,000 test images, 32 x 32 in three colours."""

import lzma
import tarfile
import zlib
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from reticket.data.dataset import Dataset
from reticket.data.folders import base_folders, find_folder
from reticket.data.registry import dataset
from reticket.errors import DataError

ARCHIVE = "cifar-10-binary.tar.gz"
PICKLED = ("cifar-10-python.tar.gz", "cifar-10-batches-py")
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORDS = 10_000  # in each file
PIXELS = 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Per channel (red, green, blue) of all pixels of the 50,000 training images in [0, 1], computed in float64.
MEAN = (0.49139968, 0.48215841, 0.44653091)
STD = (0.24703223, 0.24348513, 0.26158784)
SOURCE = f"put {ARCHIVE} from https://www.cs.toronto.edu/~kriz/cifar.html (or the folder it unpacks to) there"


def _holds_data(place: Path) -> bool:
    if place.is_dir():
        return any((place / name).is_file() for name in (*TRAIN_FILES, *TEST_FILES, ARCHIVE))
    return place.is_file() and place.name.endswith((".tar.gz", ".tgz", ".tar"))


def _refuse_pickles(folder: Path) -> None:
    for seen in (folder, *(folder / name for name in PICKLED)):
        if seen.exists() and (seen.name in PICKLED or (seen / "data_batch_1").is_file()):
            raise DataError(
                f"'{seen}' is the Python version of CIFAR-10, whose pickles are never loaded because they can run any "
                f"code; {SOURCE}"
            )


def _read_files(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the contents of `names` from a folder, or from the archive in it, or from the archive itself."""
    if place.is_dir() and any((place / name).is_file() for name in names):
        missing = [name for name in names if not (place / name).is_file()]
        if missing:
            raise DataError(f"'{place}' lacks {', '.join(missing)}, other files of CIFAR-10 are there; {SOURCE}")
        return {name: (place / name).read_bytes() for name in names}
    archive = place / ARCHIVE if place.is_dir() else place
    try:
        with tarfile.open(archive, "r:*") as tar:
            found = {}
            for member in tar:
                base = member.name.rsplit("/", 1)[-1]
                if base in names and (stream := tar.extractfile(member)) is not None:
                    found[base] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as reason:
        raise DataError(f"'{archive}' cannot be read ({reason}); fetch {ARCHIVE} again") from reason
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"'{archive}' lacks {', '.join(missing)}, so it is not the binary version of CIFAR-10; {SOURCE}"
        )
    return found


def parse_records(raw: bytes, source: str) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, " n"]]:
    """Return images and labels of one file: records of one label byte and 3,072 pixel bytes (red, green, blue planes).

    Raises:
        DataError: when the file has another size or a label above 9.
    """
    expected = RECORDS * (1 + PIXELS)
    if len(raw) != expected:
        raise DataError(
            f"'{source}' holds {len(raw):,} bytes, but {expected:,} were expected ({RECORDS:,} records of "
            f"{1 + PIXELS:,}); it is truncated or another file, fetch it again"
        )
    records = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(RECORDS, 1 + PIXELS)
    labels = records[:, 0].to(torch.int64)
    if int(labels.max()) >= len(CLASSES):
        raise DataError(
            f"'{source}' has the label {int(labels.max())}, but 0..9 were expected; it is not CIFAR-10's binary layout"
        )
    return records[:, 1:].reshape(RECORDS, 3, 32, 32), labels


@dataset("cifar10")
def load_cifar10(folder: Path | None = None) -> Dataset:
    """Return CIFAR-10 with flip-and-crop augmentation.

    Args:
        folder: `cifar-10-batches-bin` or its parent, or `cifar-10-binary.tar.gz` or the folder it lies in; the archive
            is read as it is, nothing is unpickled.

    Raises:
        DataError: when files are missing or truncated, or only the pickled Python version is there.
    """
    try:
        place = find_folder(
            "cifar10",
            folder,
            _holds_data,
            subfolders=("cifar-10-batches-bin", "cifar10", "cifar-10", "cifar10/cifar-10-batches-bin"),
            system=None,
            advice=SOURCE,
        )
    except DataError:
        for base in base_folders(folder):
            _refuse_pickles(base)
        raise
    if place.is_file():
        _refuse_pickles(place)
    contents = _read_files(place, (*TRAIN_FILES, *TEST_FILES))
    parsed = {name: parse_records(raw, f"{place}/{name}") for name, raw in contents.items()}
    return Dataset(
        name="cifar10",
        train_x=torch.cat([parsed[name][0] for name in TRAIN_FILES]),
        train_y=torch.cat([parsed[name][1] for name in TRAIN_FILES]),
        test_x=parsed[TEST_FILES[0]][0],
        test_y=parsed[TEST_FILES[0]][1],
        classes=CLASSES,
        mean=MEAN,
        std=STD,
        augmentation="flip-crop",
    )
