"""What `results.json` holds of exemplars, which cell the contact sheet shows, and its pictures."""

import io
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from reticket.data import load_dataset
from reticket.files import replace_file
from reticket.tasks.cells import Cell
from reticket.tasks.checks.exemplars.counts import row_of
from reticket.tasks.checks.exemplars.sheet import images_of, sheet_cell
from reticket.tasks.pictures import LARGEST, as_pixels, png, write_pictures
from reticket.tasks.votes import Votes

NAMES = ("a", "b", "c")
LABELS = torch.tensor([0, 0, 1, 1, 2])
DENSE = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [0, 1, 1, 1, 0]])
SPARSE = torch.tensor([[1, 1, 1, 2, 2], [1, 1, 1, 0, 2], [1, 0, 1, 1, 2]])


def written(found: Votes) -> dict[str, Any]:
    row = row_of(Cell("permuted", 0.9, "5ep", "end"), found, LABELS, NAMES)
    return row.model_dump(mode="json", by_alias=True)


def test_counts_by_hand() -> None:
    found = written(Votes(DENSE, SPARSE, (DENSE, DENSE)))
    assert (found["found"], found["undecided"], found["stable"], found["noise"], found["images"]) == (2, 1, 1, 0, 5)
    assert [(one["class"], one["found"], one["images"]) for one in found["classes"]] == [
        ("a", 2, 2), ("b", 0, 2), ("c", 0, 1),
    ]  # fmt: skip
    assert found["dense_on_exemplars"]["values"] == [100, 100, 50]
    assert found["sparse_on_exemplars"]["values"] == [0, 0, 50]
    assert found["sparse_on_rest"]["mean"] == pytest.approx(100 * (2 + 2 + 3) / 9)


def test_the_surest_come_first_and_without_exemplars_there_are_none() -> None:
    first, second = images_of(Votes(DENSE, SPARSE, None), LABELS, NAMES)
    assert (first.index, first.dense, first.dense_votes, first.sparse, first.sparse_votes) == (
        0, "a", 3, "b", 3,
    )  # fmt: skip
    assert (second.index, second.stable) == (1, False)
    none = written(Votes(DENSE, DENSE, None))
    assert (none["found"], none["noise"], none["dense_on_exemplars"]) == (0, None, None)


def test_the_sheet_shows_permuted_at_the_highest_sparsity_and_latest_rewind() -> None:
    cells = [Cell("dense", None, None), Cell("imp", 0.95, None), Cell("lth", 0.95, "0it")]
    permuted = [Cell("permuted", s, k, at) for s in (0.95, 0.9) for k in ("0it", "5ep") for at in ("5ep", "end")]
    assert sheet_cell([*cells, *permuted], ("5ep", "end")) == Cell("permuted", 0.95, "5ep", "end")
    assert sheet_cell(cells, ("end",)) == cells[2]
    assert sheet_cell(cells[:2], ("end",)) == cells[1]
    assert sheet_cell(cells[:1], ("end",)) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_read_back_as_it_was(channels: int) -> None:
    pixels = torch.randint(256, (channels, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    read = matplotlib.image.imread(io.BytesIO(png(pixels)), format="png")
    expected = pixels.permute(1, 2, 0).numpy().squeeze(-1) if channels == 1 else pixels.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.rint(255 * read), expected)
    assert png(pixels) == png(pixels.clone())


def test_features_are_a_picture_where_they_make_a_square() -> None:
    square = as_pixels(torch.arange(9.0).repeat(2, 1))
    assert square is not None
    assert (square.shape, int(square.min()), int(square.max())) == ((2, 1, 3, 3), 0, 255)
    assert as_pixels(torch.zeros(2, 8)) is None
    assert as_pixels(torch.zeros(1, 2, 4, 4, dtype=torch.uint8)) is None


def test_large_pictures_are_averaged_down() -> None:
    large = as_pixels(torch.full((1, 3, 224, 112), 200, dtype=torch.uint8))
    assert large is not None
    assert large.shape == (1, 3, LARGEST, LARGEST // 2)
    assert bool((large == 200).all())


def test_pictures_stand_under_the_names_of_the_sheet_and_old_ones_go(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    (tmp_path / "exemplars").mkdir()
    (tmp_path / "exemplars" / "000001.png").write_bytes(b"old")
    write_pictures(tmp_path / "exemplars", digits, {index: f"{index:06d}.png" for index in (7, 3)})
    assert sorted(path.name for path in (tmp_path / "exemplars").iterdir()) == ["000003.png", "000007.png"]
    read = matplotlib.image.imread(tmp_path / "exemplars" / "000007.png")
    image = next(iter(digits.stored("test", 1, torch.tensor([7]))))[0].view(8, 8)
    assert np.corrcoef(read.ravel(), image.numpy().ravel())[0, 1] > 0.999
    write_pictures(tmp_path / "exemplars", digits, {})
    assert list((tmp_path / "exemplars").iterdir()) == []


def test_pictures_of_an_earlier_run_are_there_until_those_of_this_one_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads them meanwhile, for a report of their own, finds every one; others may have taken the rest away."""
    digits, place = load_dataset("digits"), tmp_path / "exemplars"
    write_pictures(place, digits, {index: f"{index:06d}.png" for index in (1, 2, 3)})

    def replace(path: Path, content: bytes) -> None:
        assert len(list(place.glob("*.png"))) >= 3
        replace_file(path, content)
        (place / "000001.png").unlink(missing_ok=True)  # as another process that writes the same

    monkeypatch.setattr("reticket.tasks.pictures.replace_file", replace)
    write_pictures(place, digits, {3: "000003.png"})
    assert [path.name for path in place.iterdir()] == ["000003.png"]
