"""One image file to pixels of a fixed size: a random part of it for training, its middle for evaluation."""

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from reticket.data.bounded import check_plain
from reticket.errors import DataError
from reticket.rng import generator_for

AREA = (0.08, 1.0)  # of the image
ASPECT = (3 / 4, 4 / 3)  # width to height
TRIES = 10
FORMATS = ("JPEG", "PNG")  # whatever a file is called: Pillow would start Ghostscript for some
MOST_PIXELS = 2**26  # four times a camera's
LONGEST = 200  # times as long as wide
Box = tuple[int, int, int, int]  # left, top, right, bottom


def read_image(path: Path) -> Image.Image:
    """Return a whole JPEG or PNG image in red, green and blue, 8 bits each.

    Grey, CMYK and palettes are converted, and grey of 16 bits is scaled to 8: v / 257, rounded.

    Raises:
        DataError: when the file is missing, truncated, no such image, or too large or too long.
    """
    try:
        check_plain(path)
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:  # of metadata
            _check_size(image)
            image.load()
            return image if image.mode == "RGB" else _eight_bits(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as reason:
        raise DataError(
            f"'{path}' cannot be decoded ({reason}); it is truncated or no image, fetch it again (reticket data check "
            f"finds all such files)"
        ) from reason


def _check_size(image: Image.Image) -> None:
    """Refuse what would take gigabytes, whole or scaled; seen before anything is decoded."""
    width, height = image.size
    if width * height > MOST_PIXELS or max(width, height) > LONGEST * min(width, height):
        raise ValueError(
            f"it is {width:,} x {height:,} pixels, but at most {MOST_PIXELS:,} and {LONGEST} times as long as wide "
            f"were expected"
        )


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image whose values are 0..255; Pillow's own conversion cuts higher ones off."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels are '{image.mode}' in Pillow's words, but 8 bits, or 16 of grey, were expected")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def random_part(width: int, height: int, labels: tuple[str | int, ...]) -> tuple[Box, bool]:
    """Return the part of an image to be seen in training, and whether it is mirrored; `labels` alone decide.

    RandomResizedCrop (Szegedy et al. 2015): the area is uniform in [0.08, 1] of the image, the logarithm of the aspect
    uniform in [log 3/4, log 4/3], the place uniform; what does not fit is drawn again, and after ten tries it is the
    largest part in the middle whose aspect is allowed. Mirrored with probability 1/2.

    Args:
        width, height: of the image, in pixels.
        labels: order of the data, epoch and image.

    >>> random_part(100, 100, ("order", 3)) == random_part(100, 100, ("order", 3))
    True
    """
    first, *numbers = torch.rand(
        1 + 4 * TRIES, generator=generator_for(*labels), dtype=torch.float64, device="cpu"
    ).tolist()
    for area, aspect, across, down in zip(*[iter(numbers)] * 4, strict=True):
        size = (AREA[0] + (AREA[1] - AREA[0]) * area) * width * height
        ratio = math.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
        w, h = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
            return (left, top, left + w, top + h), first < 0.5
    w = min(width, round(height * ASPECT[1]))
    h = min(height, round(width / ASPECT[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return (left, top, left + w, top + h), first < 0.5


def training_pixels(image: Image.Image, side: int, labels: tuple[str | int, ...]) -> UInt8[np.ndarray, "s s 3"]:
    """Return a random part of an image, scaled to `side` pixels each way (bilinear, antialiased)."""
    box, mirrored = random_part(*image.size, labels)
    part = np.asarray(image.crop(box).resize((side, side), Image.Resampling.BILINEAR))
    return part[:, ::-1] if mirrored else part


def middle_pixels(image: Image.Image, side: int, shorter: int) -> UInt8[np.ndarray, "s s 3"]:
    """Return the middle `side` x `side` pixels of an image whose shorter side was scaled to `shorter`."""
    width, height = image.size
    scale = shorter / min(width, height)
    size = (shorter, int(height * scale)) if width <= height else (int(width * scale), shorter)
    scaled = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return np.asarray(scaled.crop((left, top, left + side, top + side)))
