"""Numeric arrays in MATLAB files of version 5 (5.0 to 7.2), read by what is expected: nothing else is followed.

scipy's reader follows whatever a file declares; a single flipped bit can end the whole process there.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reticket.data.bounded import check_plain

HEADER = 128  # bytes before the first element; its last four are the version and the order of bytes
COMPRESSED, MATRIX = 15, 14  # types of elements
CLASSES = dict(zip(range(6, 16), ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True))
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
UNEXPECTED = 0x0800 | 0x0200  # flags of an array: complex, logical
BESIDE = 2**16  # bytes of one array that are not its numbers
MOST_AXES = 32


@dataclass(frozen=True)
class _Part:
    """One element: its type and its bytes, the tag not among them."""

    kind: int
    data: memoryview


def read_arrays(path: Path, expected: int) -> dict[str, np.ndarray]:
    """Return the numeric arrays of a file by name.

    Args:
        path: of the file.
        expected: the most bytes that its numbers may have in all, unpacked; float64 where they are kept in a smaller
            type.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is of another version or damaged, or holds something else than numbers, or more of them.
        zlib.error: when it fails its checksums.
    """
    check_plain(path)
    with path.open("rb") as file:
        raw = memoryview(file.read(HEADER + expected + BESIDE + 1))
    if len(raw) > HEADER + expected + BESIDE:
        raise ValueError(f"it has more than {expected:,} bytes of numbers")
    order = {b"IM": "<", b"MI": ">"}.get(bytes(raw[126:128]))
    if order is None or struct.unpack_from(f"{order}H", raw, 124)[0] != 0x0100:
        raise ValueError("it does not begin as a MATLAB file of version 5 does")
    found, place, left = {}, HEADER, expected + BESIDE
    while place < len(raw):
        part, place = _part(raw, place, order, padded=False)
        if part.kind == COMPRESSED:
            part, _ = _part(_inflated(part.data, left), 0, order, padded=False)
        if part.kind != MATRIX:
            raise ValueError(f"an element of type {part.kind} stands where an array was expected")
        left -= len(part.data)
        name, array = _array(part.data, order, left)
        if name in found:
            raise ValueError(f"the array '{name}' is there twice")
        found[name] = array
    return found


def _inflated(data: memoryview, most: int) -> memoryview:
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, max(most, 1))
    if unpacker.unconsumed_tail:
        raise ValueError(f"an array unpacks to more than {most:,} bytes, the most that was expected")
    if not unpacker.eof:
        raise ValueError("an array ends before its checksum")
    return memoryview(found)


def _part(raw: memoryview, place: int, order: str, *, padded: bool = True) -> tuple[_Part, int]:
    """Return the element at a place, and the place behind it."""
    if place + 8 > len(raw):
        raise ValueError("it ends within an element")
    kind, size = struct.unpack_from(f"{order}II", raw, place)
    if kind >> 16:  # four bytes or fewer stand in the tag
        kind, size, begin, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        if size > 4:
            raise ValueError(f"an element in its tag has {size} bytes, at most 4 fit")
    else:
        begin, end = place + 8, place + 8 + size
        end += -size % 8 if padded else 0
    if begin + size > len(raw):
        raise ValueError(f"an element of {size:,} bytes ends after the file")
    return _Part(kind, raw[begin : begin + size]), end


def _array(raw: memoryview, order: str, most: int) -> tuple[str, np.ndarray]:
    """Return name and numbers of an array, in the type of its class."""
    flags, place = _part(raw, 0, order)
    sizes, place = _part(raw, place, order)
    name, place = _part(raw, place, order)
    numbers, _ = _part(raw, place, order)
    if flags.kind != 6 or len(flags.data) != 8 or sizes.kind != 5 or len(sizes.data) % 4 or name.kind != 1:
        raise ValueError("the head of an array is damaged")
    word = struct.unpack_from(f"{order}I", flags.data)[0]
    kind, called = word & 0xFF, bytes(name.data).decode("ascii", "replace")
    if kind not in CLASSES or word & UNEXPECTED or numbers.kind not in TYPES:
        raise ValueError(f"'{called}' is no array of real numbers")
    shape = struct.unpack(f"{order}{len(sizes.data) // 4}i", sizes.data)
    stored = np.dtype(order + TYPES[numbers.kind])
    if not 2 <= len(shape) <= MOST_AXES or min(shape) < 0 or math.prod(shape) * stored.itemsize != len(numbers.data):
        raise ValueError(f"'{called}' declares a shape that its {len(numbers.data):,} bytes do not have")
    if math.prod(shape) * np.dtype(CLASSES[kind]).itemsize > max(most, 0) + len(raw):
        raise ValueError(f"'{called}' is larger than expected")
    array = np.frombuffer(numbers.data, stored).reshape(shape, order="F")
    return called, array.astype(CLASSES[kind])
