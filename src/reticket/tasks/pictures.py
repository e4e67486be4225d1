"""Inputs of a data set as PNG files beside the results, and those files as part of a page."""

import base64
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from reticket.data.source import DataSource
from reticket.errors import ConfigError, InputError
from reticket.files import replace_file

LARGEST = 96  # pixels of a side; larger images are averaged down


def write_pictures(place: Path, dataset: DataSource, files: Mapping[int, str]) -> None:
    """Write test images into a folder, and remove those of an earlier run.

    Features that make no square, images of neither one nor three channels or not of bytes, and tokens are no pictures:
    none are written.

    Args:
        place: the folder; made if there is something to write.
        dataset: whose test images they are.
        files: by index of an image the name of its file.

    Raises:
        ConfigError: when the folder cannot be written.
    """
    try:
        pictures = _pictures(dataset, files)
        if pictures:
            place.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            replace_file(place / name, picture)
        for old in place.glob("*.png") if place.is_dir() else ():
            if old.name not in pictures:  # the others are replaced: another process may be reading them
                old.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"'{place}' cannot be written ({error.strerror}); choose another folder with --out") from None


def _pictures(dataset: DataSource, files: Mapping[int, str]) -> dict[str, bytes]:
    """Return by name the pictures of test images; none of what is no picture."""
    if not files or dataset.is_tokens:
        return {}
    inputs = torch.cat([x for x, _ in dataset.stored("test", 64, torch.tensor(list(files), device="cpu"))])
    pixels = as_pixels(inputs)
    return {} if pixels is None else {name: png(one) for name, one in zip(files.values(), pixels, strict=True)}


def embedded(path: Path) -> str | None:
    """Return a picture as a `data:` address, or None where there is no such file.

    Raises:
        InputError: when it cannot be read, or is no PNG.
    """
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run it again") from None
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise InputError(f"{path}: is no PNG picture; run it again")
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def as_pixels(inputs: Tensor) -> UInt8[Tensor, "n channels height width"] | None:
    """Return inputs as pictures, or None where they are none.

    Args:
        inputs: images, uint8 `(n, channels, height, width)`, or features, float32 `(n, features)`; a square number of
            features is read as a grey image, row by row, from the lowest value (black) to the highest (white).
    """
    if inputs.dim() == 2:
        side = round(inputs.shape[1] ** 0.5)
        if side * side != inputs.shape[1] or side < 2:
            return None
        low, high = inputs.min(), inputs.max()
        inputs = ((inputs - low) * (255 / (high - low).clamp(min=1e-12))).round().to(torch.uint8)
        inputs = inputs.view(-1, 1, side, side)
    if inputs.dtype != torch.uint8 or inputs.dim() != 4 or inputs.shape[1] not in (1, 3):
        return None
    height, width = inputs.shape[2:]
    if max(height, width) > LARGEST:
        scale = LARGEST / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        inputs = adaptive_avg_pool2d(inputs.float(), size).round().to(torch.uint8)
    return inputs


def png(pixels: UInt8[Tensor, "channels height width"]) -> bytes:
    """Return a grey or RGB picture as a PNG file; equal pictures give equal bytes."""
    channels, height, width = pixels.shape
    rows = pixels.permute(1, 2, 0).reshape(height, -1)
    data = b"".join(b"\0" + bytes(row.tolist()) for row in rows)  # each row unfiltered
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
