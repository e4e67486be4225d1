"""IDX files, plain or gzipped: the format of MNIST and its successors."""

import math
import struct
import zlib
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from reticket.data.bounded import held, read_bytes
from reticket.errors import DataError


def find_idx(folder: Path, stem: str) -> Path | None:
    """Return `folder/stem` or `folder/stem.gz`, whichever is there, or None."""
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read_idx(path: Path, shape: tuple[int, ...]) -> UInt8[Tensor, "..."]:
    """Return the unsigned bytes of an IDX file that must hold exactly `shape`.

    The file is `0 0 8 rank`, then each dimension as a big-endian 32-bit integer, then the bytes in row-major order.

    Raises:
        DataError: when the file cannot be read, has another magic number or shape, or another number of bytes.
    """
    header, size = 4 + 4 * len(shape), math.prod(shape)
    try:
        raw = read_bytes(path, header + size, packed=path.suffix == ".gz")
    except (OSError, EOFError, zlib.error) as reason:
        raise DataError(f"'{path}' cannot be read ({reason}); fetch the file again") from reason
    magic = bytes((0, 0, 8, len(shape)))
    if raw[:4] != magic:
        raise DataError(
            f"'{path}' begins with the bytes {raw[:4].hex(' ') or '(none)'}, but an IDX file of unsigned bytes in "
            f"{len(shape)} dimensions begins with {magic.hex(' ')}; fetch the file again"
        )
    if len(raw) < header or len(raw) - header != size:
        raise DataError(
            f"'{path}' holds {held(raw[header:], size)} data bytes, but {size:,} were expected "
            f"({' x '.join(map(str, shape))}); it is truncated or another file, fetch it again"
        )
    seen = struct.unpack(f">{len(shape)}I", raw[4:header])
    if seen != shape:
        raise DataError(
            f"'{path}' declares the shape {' x '.join(map(str, seen))}, but {' x '.join(map(str, shape))} was "
            f"expected; fetch the file again"
        )
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=header).view(shape)
