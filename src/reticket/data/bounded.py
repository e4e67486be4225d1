"""Reading no more of a file than what it should hold, however much it unpacks to, and all of it to its checksum."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from reticket.errors import DataError
from reticket.files import oddity

MAGIC: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
PIECE = 2**20  # bytes


class Bounded:
    """A stream that ends in an error when it gives more bytes than expected.

    Args:
        stream: what is read.
        most: bytes that it may give.
    """

    def __init__(self, stream: BufferedIOBase, most: int) -> None:
        self._stream, self._most, self._left = stream, most, most

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes.

        Raises:
            ValueError: when there are more than `most` in all.
        """
        found = self._stream.read(min(size, self._left + 1))
        self._left -= len(found)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {self._most:,} bytes, the most that was expected")
        return found

    def finish(self) -> None:
        """Read to the end, where the checksums of compressed files stand."""
        while self.read(PIECE):
            pass


def unpacked(file: BufferedIOBase) -> BufferedIOBase:
    """Return what an open file holds, unpacked by what it begins with: gzip, bzip2, xz or nothing."""
    start = file.read(max(len(magic) for magic, _ in MAGIC))
    file.seek(0)
    for magic, opened in MAGIC:
        if start.startswith(magic):
            return opened(file, "rb")
    return file


def read_bytes(path: Path, expected: int, *, packed: bool = False) -> bytes:
    """Return the contents of a file, and one byte at most beyond what was expected.

    Args:
        path: of the file.
        expected: bytes that it should hold.
        packed: whether it is gzip, whose checksum is read with it.

    Raises:
        OSError, EOFError, zlib.error: when it cannot be read or fails its checksum.
        DataError: when it is no plain file, such as a folder or a pipe.
    """
    check_plain(path)
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        return file.read(expected + 1)


def held(raw: bytes, expected: int) -> str:
    """Return in words how many bytes a file has, of which at most one too many was read.

    >>> held(b"abc", 1000), held(b"abc", 2)
    ('3', 'more than 2')
    """
    return f"{len(raw):,}" if len(raw) <= expected else f"more than {expected:,}"


def check_plain(path: Path) -> None:
    """Refuse what is no plain file; a pipe would be waited for without end.

    Raises:
        DataError: when it is there and something else.
    """
    if kind := oddity(path):
        raise DataError(f"'{path}' is {kind}, but a plain file was expected; put the file of that name there")
