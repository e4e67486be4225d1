"""Pruning-identified exemplars of a cell as `results.json` holds them, and the images of the contact sheet as files."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from reticket.analysis import Exemplars, Stat, accuracy_on, exemplars
from reticket.data.source import DataSource
from reticket.errors import ConfigError
from reticket.files import replace_file
from reticket.tasks.blueprint import Cell

SHEET = 24  # images
LARGEST = 96  # pixels of a side; larger images are averaged down
FOLDER = "exemplars"


@dataclass(frozen=True)
class Population:
    """The predictions that decide a cell's exemplars.

    Args:
        dense: of the dense networks.
        sparse: of the sparse ones.
        pair: of the dense networks A and of the dense networks B, whose exemplars are noise; None without B.
    """

    dense: Int64[Tensor, "dense_networks n"]
    sparse: Int64[Tensor, "sparse_networks n"]
    pair: tuple[Tensor, Tensor] | None

    @cached_property
    def _classes(self) -> int:
        every = (self.dense, self.sparse, *(self.pair or ()))
        return 1 + max(int(one.max()) for one in every)

    @cached_property
    def found(self) -> Exemplars:
        """The exemplars."""
        return exemplars(self.dense, self.sparse, self._classes)

    def as_dict(self, labels: Int64[Tensor, " n"], names: Sequence[str]) -> dict[str, Any]:
        """Return counts, the accuracy on exemplars and on the rest, and the exemplars by true class."""
        found, noise = self.found, exemplars(*self.pair, self._classes) if self.pair else None
        all_of = torch.bincount(labels, minlength=len(names)).tolist()
        mine = torch.bincount(labels[found.found], minlength=len(names)).tolist()
        return {
            "dense_networks": len(self.dense),
            "sparse_networks": len(self.sparse),
            "images": len(labels),
            "found": int(found.found.sum()),
            "undecided": int(found.undecided.sum()),
            "stable": int(found.stable.sum()),
            "noise": None if noise is None else int(noise.found.sum()),
            **{
                f"{side}_on_{part}": _stat(accuracy_on(predictions, labels, where))
                for side, predictions in (("dense", self.dense), ("sparse", self.sparse))
                for part, where in (("exemplars", found.found), ("rest", ~found.found))
            },
            "classes": [
                {"class": name, "found": count, "images": total}
                for name, count, total in zip(names, mine, all_of, strict=True)
            ],
        }

    def surest(self, labels: Int64[Tensor, " n"], names: Sequence[str], most: int = SHEET) -> list[dict[str, Any]]:
        """Return the exemplars with the clearest modes, by index where they are equally clear."""
        dense, sparse = self.found.dense, self.found.sparse
        where = self.found.found.nonzero().flatten().tolist()
        where.sort(key=lambda index: (-int(dense.margin[index] + sparse.margin[index]), index))
        return [
            {
                "index": index,
                "file": f"{FOLDER}/{index:06d}.png",
                "label": names[int(labels[index])],
                "dense": names[int(dense.mode[index])],
                "dense_votes": int(dense.votes[index]),
                "sparse": names[int(sparse.mode[index])],
                "sparse_votes": int(sparse.votes[index]),
                "stable": bool(self.found.stable[index]),
            }
            for index in where[:most]
        ]


def _stat(values: Sequence[float]) -> dict[str, Any] | None:
    return Stat.of(values).as_dict() if values else None


def sheet_cell(cells: Iterable[Cell], match_at: Sequence[str]) -> Cell | None:
    """Return the cell whose exemplars are shown: permuted where there is one, at the highest sparsity, rewound latest.

    Args:
        cells: of the table, in its order.
        match_at: the positions of matching; the end is taken where it is one, else the last.
    """
    latest = "end" if "end" in match_at else match_at[-1]
    known = [cell for cell in cells if cell.sparsity is not None and cell.match_at in (None, latest)]
    for method in ("permuted", *dict.fromkeys(cell.method for cell in known if cell.rewind is not None), "imp"):
        mine = [cell for cell in known if cell.method == method]
        if mine:
            highest = max(cell.sparsity or 0.0 for cell in mine)
            return [cell for cell in mine if cell.sparsity == highest][-1]
    return None


def write_pictures(folder: Path, dataset: DataSource, sheet: Mapping[str, Any]) -> None:
    """Write the images of a contact sheet into `folder/exemplars`, and remove those of an earlier one.

    Features that make no square, and images of neither one nor three channels, are no pictures: none are written.

    Raises:
        ConfigError: when the folder cannot be written.
    """
    place, files = folder / FOLDER, {one["index"]: folder / one["file"] for one in sheet.get("images", ())}
    try:
        for old in place.glob("*.png") if place.is_dir() else ():
            old.unlink()
        if not files:
            return
        inputs = torch.cat([x for x, _ in dataset.stored("test", 64, torch.tensor(list(files), device="cpu"))])
        pixels = as_pixels(inputs)
        if pixels is None:
            return
        place.mkdir(parents=True, exist_ok=True)
        for path, picture in zip(files.values(), pixels, strict=True):
            replace_file(path, png(picture))
    except OSError as error:
        raise ConfigError(f"'{place}' cannot be written ({error.strerror}); choose another folder with --out") from None


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
    if inputs.shape[1] not in (1, 3):
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
