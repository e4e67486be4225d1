"""Image files in folders of classes, listed in a few bytes each: a million names stay under a hundred megabytes."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from reticket.errors import DataError

SUFFIXES = (".jpeg", ".jpg", ".png")
SCANNERS = 8  # folders listed side by side; a network's disk answers slowly


@dataclass(frozen=True, eq=False)
class Files:
    """Image files with their labels.

    Args:
        root: folder that the names are relative to.
        names: of the files, as the disk's bytes in one width (UTF-8, mostly).
        sizes: in bytes.
        labels: class of each file.
    """

    root: Path
    names: np.ndarray
    sizes: np.ndarray
    labels: Int64[Tensor, " n"]

    def name(self, index: int) -> str:
        """Return the name of a file relative to `root`, with `/` between its parts."""
        return os.fsdecode(self.names[index])

    def label(self, index: int) -> str:
        """Return what stands for a file where randomness is drawn: its name, bytes that are no UTF-8 escaped."""
        return self.names[index].decode("utf-8", "backslashreplace")

    def path(self, index: int) -> Path:
        """Return the path of a file."""
        return self.root / self.name(index)

    def take(self, indices: Int64[Tensor, " k"]) -> "Files":
        """Return only these files, in this order."""
        places = indices.numpy()
        return Files(self.root, self.names[places], self.sizes[places], self.labels[indices])

    def digest(self) -> bytes:
        """Return a sha256 of names, sizes and labels in their order; what the files hold is not read."""
        whole = hashlib.sha256(str(self.names.dtype.itemsize).encode())
        for values in (self.names, self.sizes, self.labels.numpy()):
            whole.update(np.ascontiguousarray(values).data.cast("B"))
        return whole.digest()


def list_images(root: Path, folders: Sequence[str], split: str) -> Files:
    """Return the images in `folders` of `root`, the place of a folder in the list being its images' label.

    They are sorted by label and name, so that they do not depend on the disk.

    Raises:
        DataError: when a folder is missing or has no image, or what is called like one is no plain file.
    """

    def scan(folder: str) -> tuple[np.ndarray, np.ndarray]:
        try:
            with os.scandir(root / folder) as entries:
                found = sorted(
                    (os.fsencode(f"{folder}/{entry.name}"), _size(entry))
                    for entry in entries
                    if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
                )
        except OSError as reason:
            raise DataError(
                f"'{root / folder}' cannot be listed ({reason.strerror}); every class needs its folder of {split} "
                f"images: unpack the archive again"
            ) from reason
        if not found:
            raise DataError(f"'{root / folder}' holds no image, so class '{folder}' has none; unpack it again")
        names, sizes = zip(*found, strict=True)
        return np.array(names), np.array(sizes, dtype=np.int64)

    with ThreadPoolExecutor(SCANNERS) as pool:
        scanned = list(pool.map(scan, folders))
    labels = torch.repeat_interleave(
        torch.arange(len(folders), device="cpu"), torch.tensor([len(names) for names, _ in scanned], device="cpu")
    )
    return Files(
        root, np.concatenate([names for names, _ in scanned]), np.concatenate([sizes for _, sizes in scanned]), labels
    )


def _size(entry: os.DirEntry[str]) -> int:
    """Return the bytes of an image file.

    Raises:
        DataError: when it is no plain file, or a link to one.
    """
    if not entry.is_file():
        raise DataError(
            f"'{entry.path}' is a folder, a pipe or a link that leads nowhere, but an image file was expected; remove "
            f"it or unpack the archive again"
        )
    return entry.stat().st_size
