"""What the report says when a run directory cannot be read or written."""

import json
from pathlib import Path

import pytest

from reticket.errors import InputError
from reticket.report import build_report
from tests.sample_results import write_run


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such directory; give the directory that `reticket run` wrote"):
        build_report(tmp_path / "nowhere")


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results\.json; run `reticket run` into it first"):
        build_report(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1, "rows": [', r"results\.json: is not JSON \(line 1: .*\); run it again"),
        ("[1, 2]", r"results\.json: expected a table at the top, saw list"),
        ('{"rows": []}', r"has schema None, this version reads schema 1"),
        ('{"schema": 2}', r"has schema 2, this version reads schema 1"),
        ('{"schema": 1, "rows": 3}', r"damaged at 'rows' "),
        ('{"schema": 1, "rows": [{"method": "lth"}]}', r"damaged at 'rows\.0\.sparsity' \(Field required\)"),
        ('{"schema": 1, "cost": [{"kind": "a", "seconds": "x"}]}', r"damaged at 'cost\.0\.seconds' "),
    ],
)
def test_damaged_results(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        build_report(tmp_path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_results_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"results\.json' cannot be read \(.*byte 0xff.*\); run it again"):
        build_report(tmp_path)


def test_damaged_configuration(tmp_path: Path) -> None:
    write_run(tmp_path, {"schema": 1}, config="title = ")
    with pytest.raises(InputError, match=r"config\.toml: is not TOML"):
        build_report(tmp_path)


def test_results_that_are_cut_off_are_never_half_a_report(tmp_path: Path) -> None:
    write_run(tmp_path)
    text = (tmp_path / "results.json").read_text()
    (tmp_path / "results.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="is not JSON"):
        build_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"schema": 1, "cost": [{"kind": "a"}]}))
    (tmp_path / "tables").write_text("a file where a folder must be")
    with pytest.raises(
        InputError, match=r"tables/cost\.csv' cannot be written \(.*\); make the run directory writable"
    ):
        build_report(tmp_path)
