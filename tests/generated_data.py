"""Made-up data in the official layout of every registered data set: random pixels, balanced labels.

`make_small` sets the published counts down to what a test can write in a fraction of a second; the formats stay.
"""

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reticket.data import cifar, cifar100, fashion, imagenet, svhn, tiny_imagenet

Writer = Callable[[Path], Path]


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the counts of all data sets so low that `generate` is quick; at least 256 of each part stay possible."""
    monkeypatch.setattr(cifar, "RECORDS", 300)
    monkeypatch.setattr(cifar100, "COUNTS", {"train.bin": 400, "test.bin": 300})
    monkeypatch.setattr(svhn, "COUNTS", {"train_32x32.mat": 300, "test_32x32.mat": 300})
    monkeypatch.setattr(fashion, "COUNTS", {"train": 300, "t10k": 300})
    monkeypatch.setattr(imagenet, "COUNTS", {"train": 1000, "val": 1000})
    monkeypatch.setattr(tiny_imagenet, "COUNTS", {"train": 400, "val": 400})


def generate(name: str, folder: Path) -> Path:
    """Write a data set of this name into `folder`, which is made, and return it; `digits` needs no files."""
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[name](folder)
    return folder


def write_text(folder: Path) -> Path:
    """Write a text of the characters from space to ~."""
    letters = (random_bytes(40_000) % 95 + 32).tobytes().decode("ascii")
    (folder / "text.txt").write_text(letters)
    return folder


def random_bytes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def cifar10_contents() -> dict[str, bytes]:
    n, contents = cifar.RECORDS, {}
    for seed, name in enumerate((*cifar.TRAIN_FILES, *cifar.TEST_FILES)):
        records = random_bytes(n * (1 + cifar.PIXELS), seed).reshape(n, -1)
        records[:, 0] = np.arange(n) % 10
        contents[name] = records.tobytes()
    return contents


def cifar100_contents() -> dict[str, bytes]:
    contents = {cifar100.NAMES: "".join(f"class_{number}\n" for number in range(100)).encode()}
    for seed, (name, n) in enumerate(cifar100.COUNTS.items()):
        records = random_bytes(n * cifar100.RECORD, seed).reshape(n, -1)
        records[:, 1] = np.arange(n) % 100
        records[:, 0] = records[:, 1] % 20
        contents[name] = records.tobytes()
    return contents


def write_files(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in contents.items():
        (folder / name).write_bytes(raw)
    return folder


def write_tar(path: Path, inner: str, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, raw in contents.items():
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return path


def write_fashion(folder: Path, *, gz: bool = True) -> Path:
    contents = {}
    for seed, (part, n) in enumerate(fashion.COUNTS.items()):
        pixels, labels = random_bytes(n * 784, seed).tobytes(), (np.arange(n) % 10).astype(np.uint8).tobytes()
        contents[f"{part}-images-idx3-ubyte"] = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + pixels
        contents[f"{part}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, n) + labels
    if gz:
        contents = {f"{name}.gz": gzip.compress(raw, 1) for name, raw in contents.items()}
    return write_files(folder, contents)


def write_svhn(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, n) in enumerate(svhn.COUNTS.items()):
        images = random_bytes(32 * 32 * 3 * n, seed).reshape(32, 32, 3, n)
        savemat(folder / name, {"X": images, "y": (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]})
    return folder


def jpegs(count: int, width: int, height: int) -> list[bytes]:
    """Return `count` different images as JPEG files."""
    found = []
    for seed in range(count):
        image = Image.fromarray(random_bytes(height * width * 3, seed).reshape(height, width, 3))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        found.append(buffer.getvalue())
    return found


def wnid(number: int) -> str:
    return f"n{1440764 + number:08d}"


def write_imagenet(folder: Path) -> Path:
    images = jpegs(7, 40, 32)
    for part, count in imagenet.COUNTS.items():
        for number in range(count):
            place = folder / part / wnid(number % imagenet.CLASSES)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{part}_{number}.JPEG").write_bytes(images[number % 7])
    return folder


def write_tiny_imagenet(folder: Path) -> Path:
    images, lines = jpegs(7, 64, 64), []
    for number in range(tiny_imagenet.COUNTS["train"]):
        label = wnid(number % tiny_imagenet.CLASSES)
        place = folder / "train" / label / "images"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{label}_{number // tiny_imagenet.CLASSES}.JPEG").write_bytes(images[number % 7])
    (folder / "val" / "images").mkdir(parents=True)
    for number in range(tiny_imagenet.COUNTS["val"]):
        (folder / "val" / "images" / f"val_{number}.JPEG").write_bytes(images[number % 7])
        lines.append(f"val_{number}.JPEG\t{wnid(number % tiny_imagenet.CLASSES)}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    classes = [wnid(number) for number in range(tiny_imagenet.CLASSES)]
    (folder / "wnids.txt").write_text("\n".join(classes) + "\n")
    (folder / "words.txt").write_text("".join(f"{name}\tname of {name}\n" for name in classes))
    return folder


WRITERS: dict[str, Writer] = {
    "cifar10": lambda folder: write_files(folder, cifar10_contents()),
    "cifar100": lambda folder: write_files(folder, cifar100_contents()),
    "digits": lambda folder: folder,
    "fashion-mnist": write_fashion,
    "imagenet": write_imagenet,
    "reticket.data.text:load_text": write_text,
    "svhn": write_svhn,
    "tiny-imagenet": write_tiny_imagenet,
}
