"""Bias in the report: how many classes changed beyond chance, exemplars, and the contact sheet in the page itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reticket.errors import InputError
from reticket.report import build_report
from reticket.tasks.checks.exemplars.sheet import contact_sheet
from reticket.tasks.checks.per_class import per_class
from reticket.tasks.pictures import png
from reticket.tasks.results import Results
from tests.e2e.test_report import OUTSIDE, Page
from tests.sample_results import sample_results, stat, write_run

PLACE = {"method": "permuted", "sparsity": 0.9, "rewind": "5ep"}


def with_sheet(count: int = 3, **changes: Any) -> dict[str, Any]:
    results = sample_results(("lth", "permuted", "naive"), (0.9,), ("0it", "5ep"), 3, ("cat & dog", "ship"))
    kept = {name: results[name] for name in ("schema", "per_class", "exemplars")}
    for row in kept["exemplars"]:
        row.update(changes)
    images = [
        {"index": i, "file": f"exemplars/{i:06d}.png", "label": "ship", "dense": "ship", "dense_votes": 5,
         "sparse": "cat & dog", "sparse_votes": 3, "stable": i > 0}
        for i in range(count)
    ]  # fmt: skip
    return kept | {"contact_sheet": {**PLACE, "images": images}}


def write_pictures(folder: Path, count: int = 3) -> None:
    (folder / "exemplars").mkdir(exist_ok=True)
    for i in range(count):
        pixels = torch.full((3, 4, 4), 60 * i, dtype=torch.uint8)
        (folder / "exemplars" / f"{i:06d}.png").write_bytes(png(pixels))


def test_the_sheet_stands_in_the_page_and_needs_no_file(tmp_path: Path) -> None:
    write_run(tmp_path, with_sheet())
    write_pictures(tmp_path)
    text = build_report(tmp_path).read_text("utf-8")
    page = Page(text)
    assert page.tags.count("img") == 3
    assert OUTSIDE.search(text) is None
    assert text.count('class="unstable"') == 1
    assert "cat & dog (3/5)" in page.text
    assert 'alt="Test image 0: ship; dense networks say ship (5/5), sparse ones cat &amp; dog (3/5)."' in text
    assert "stay exemplars whichever single network is left out" in page.text


def test_inputs_that_are_no_images_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    write_run(tmp_path, with_sheet())
    page = Page(build_report(tmp_path).read_text("utf-8"))
    assert "img" not in page.tags
    assert "the inputs are no images, so none are shown" in page.text


def test_without_exemplars_there_is_nothing_to_show(tmp_path: Path) -> None:
    none: dict[str, Any] = {"found": 0, "stable": 0, "dense_on_exemplars": None, "sparse_on_exemplars": None}
    results = with_sheet(0, **none)
    for row in results["exemplars"]:
        row["classes"] = [{**one, "found": 0} for one in row["classes"]]
    text = Page(build_report(write_run(tmp_path, results)).read_text("utf-8")).text
    assert "there are no exemplars to show" in text
    assert "makes 0 exemplars" in text


def test_one_network_has_no_majority(tmp_path: Path) -> None:
    results = with_sheet(dense_networks=1, sparse_networks=1, stable=0, noise=None)
    text = Page(build_report(write_run(tmp_path, results)).read_text("utf-8")).text
    assert "of one network there is no majority" in text


def test_a_picture_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "exemplars").mkdir()
    (tmp_path / "exemplars" / "000000.png").write_bytes(b"<svg/>")
    with pytest.raises(InputError, match=r"000000\.png: is no PNG picture"):
        contact_sheet(Results.of_json(with_sheet(1)), tmp_path)


def test_a_picture_is_only_looked_for_in_the_run_itself(tmp_path: Path) -> None:
    results = with_sheet(1)
    results["contact_sheet"]["images"][0]["file"] = "../../000009.png"
    (tmp_path.parent / "000009.png").write_bytes(b"x")
    sheet = contact_sheet(Results.of_json(results), tmp_path)
    assert sheet is not None
    assert sheet.pictures == ()


def changes(values: dict[str, list[float]]) -> Results:
    rows = [{**PLACE, "class": name, "dense": stat([90.0]), "change": stat(v)} for name, v in values.items()]
    return Results.of_json({"schema": 1, "per_class": rows})


def test_classes_that_change_beyond_chance_are_counted() -> None:
    finding = per_class(changes({"a": [-9.0, -9.1, -8.9], "b": [1.0, -1.5, 0.4], "c": [-0.3, 0.9, -0.5]}))
    assert finding is not None
    assert finding.says[-1] == ("Beyond chance (n = 3), permuted changes 1 of 3 classes (1 unlike the average class).")
    assert "95\u00a0% t intervals" in finding.caption
    assert "Holm" in finding.caption


def test_one_seed_is_not_tested() -> None:
    finding = per_class(changes({"a": [-9.0], "b": [1.0]}))
    assert finding is not None
    assert not any("Beyond chance" in text for text in finding.says)
    assert "One seed, so no spread is shown" in finding.caption
