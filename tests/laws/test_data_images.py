"""Laws of image files: depth, format and size decide what is read, whatever a file is called; names are the disk's."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reticket.data.class_folders import list_images
from reticket.data.decode import MOST_PIXELS, _eight_bits, read_image
from reticket.data.image_files import ImageFiles
from reticket.errors import DataError

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


def test_sixteen_bits_of_grey_become_eight_by_hand(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    seen = np.asarray(read_image(tmp_path / "grey.png"))
    expected = np.round(RAMP / 257.0)
    for channel in range(3):
        np.testing.assert_array_equal(seen[..., channel], expected)
    assert [int(expected.flat[v]) for v in (0, 128, 129, 257, 65535)] == [0, 0, 1, 1, 255]
    with Image.open(tmp_path / "grey.png") as image:
        cut = np.asarray(image.convert("RGB"))[..., 0]  # as Pillow does it: the assertion would fail
    assert (cut != expected).mean() > 0.9


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB", "CMYK"])
def test_eight_bits_stay_as_pillow_converts_them(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray((RAMP // 257).astype(np.uint8)).convert("RGB").convert(mode)
    path = tmp_path / ("image.jpeg" if mode == "CMYK" else "image.png")
    image.save(path)
    with Image.open(path) as again:
        np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(again.convert("RGB")))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(mode: str) -> None:
    wide = Image.fromarray(np.full((4, 4), 70_000, np.int32)).convert(mode)
    with pytest.raises(ValueError, match=rf"its pixels are '{mode}' in Pillow's words, but 8 bits, or 16 of grey"):
        _eight_bits(wide)
    narrow = Image.fromarray(np.full((4, 4), 2570, np.int32))
    assert np.asarray(_eight_bits(narrow)).tolist() == [[10] * 4] * 4


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def test_only_jpeg_and_png_are_decoded_whatever_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*command: object, **options: object) -> None:
        raise AssertionError("a program was started for an image")

    monkeypatch.setattr("subprocess.check_call", start)
    monkeypatch.setattr("subprocess.Popen", start)
    (tmp_path / "n1.JPEG").write_bytes(EPS)
    with pytest.raises(DataError, match=r"n1.JPEG' cannot be decoded \(cannot identify image file"):
        read_image(tmp_path / "n1.JPEG")
    for kind in ("gif", "bmp", "tiff", "ppm"):
        Image.new("RGB", (4, 4)).save(tmp_path / "n2.JPEG", kind)
        with pytest.raises(DataError, match="cannot identify image file"):
            read_image(tmp_path / "n2.JPEG")
    Image.new("RGB", (4, 4), (9, 8, 7)).save(tmp_path / "n3.JPEG", "png")
    assert read_image(tmp_path / "n3.JPEG").getpixel((3, 3)) == (9, 8, 7)


def png(width: int, height: int) -> bytes:
    """Return a black grey PNG in a few kilobytes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(width + 1)) for _ in range(height)) + rows.flush()
    parts = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@pytest.mark.slow_cases("1-1000000", "10000-10000")
@pytest.mark.parametrize(("width", "height"), [(1, 1_000_000), (1_000_000, 1), (1, 201), (10_000, 10_000)])
def test_images_that_would_take_gigabytes_are_refused(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height))
    expected = rf"\(it is {width:,} x {height:,} pixels, but at most {MOST_PIXELS:,} and 200 times as long as wide"
    with pytest.raises(DataError, match=expected):
        read_image(path)
    path.write_bytes(png(1, 200))
    assert read_image(path).size == (1, 200)


def test_names_that_are_no_utf_8_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "n1"
    folder.mkdir()
    odd = os.fsencode(folder) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(png(8, 8))
    (folder / "ü.png").write_bytes(png(8, 8))
    files = list_images(tmp_path, ("n1",), "training")
    assert [os.fsencode(files.path(index)) for index in (0, 1)] == [odd, os.fsencode(folder / "ü.png")]
    assert [files.label(index) for index in (0, 1)] == ["n1/caf\\xe9.png", "n1/ü.png"]
    data = ImageFiles("made", files, files, ("one",), (0.5,) * 3, (0.5,) * 3, side=8, shorter=8)
    (drawn,) = data.drawn([torch.tensor([0, 1])], ("order", 0), augment=True)
    assert drawn.shape == (2, 3, 8, 8)


def test_what_is_called_like_an_image_and_is_none_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "n1"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(8, 8))
    odd = folder / "b.JPEG"
    for make, remove in (
        (lambda: odd.symlink_to("/nowhere/b.JPEG"), odd.unlink),
        (odd.mkdir, odd.rmdir),
        (lambda: os.mkfifo(odd), odd.unlink),
    ):
        make()
        with pytest.raises(DataError, match=r"b.JPEG' is a folder, a pipe or a link that leads nowhere, but an image"):
            list_images(tmp_path, ("n1",), "training")
        remove()
    odd.symlink_to(folder / "a.png")
    assert len(list_images(tmp_path, ("n1",), "training").labels) == 2
