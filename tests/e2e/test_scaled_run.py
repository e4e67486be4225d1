"""`--epochs`, `--subset` and `--dry-run` through the command line."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from reticket.cli import main

TINY = Path(__file__).with_name("tiny.toml")
LITTLE = ("--set", "seeds=1", "--set", 'methods=["lth", "permuted", "naive"]', "--set", "diversity_members=0")


def reticket(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.slow
def test_a_scaled_run_says_so_in_every_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scaled = ("--epochs", "2", "--subset", "100", *LITTLE)
    assert reticket(monkeypatch, "run", TINY, *scaled, "--out", tmp_path) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "tiny: scaled down: 4 dense epochs to 2; 300 training images to 100; 500 test images to 100" in said
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["scale"] == {"epochs": [4, 2], "train": [300, 100], "test": [500, 100]}
    assert results["experiment"]["train_size"] == 100
    assert {row["rewind"] for row in results["rows"]} == {"0ep", "1it"}
    config = tomllib.loads((tmp_path / "config.toml").read_text())
    assert config["scale"] == results["scale"]
    assert (config["dense"]["epochs"], config["data"]["test_size"]) == (2, 100)
    assert reticket(monkeypatch, "run", tmp_path / "config.toml", "--out", tmp_path) == 0
    assert "0 tasks computed" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["scale"] == results["scale"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "none"
    assert reticket(monkeypatch, "run", TINY, "--dry-run", *LITTLE, "--out", out) == 0
    said = " ".join(capsys.readouterr().out.split())
    for text in (
        "tiny: A tiny experiment",
        "300 training and 500 test",
        "prune-round",
        "model-epochs",
        "Timed just now",
    ):
        assert text in said, text
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--epochs", "5"), "--epochs 5: expected 1 to 4"),
        (("--epochs", "0"), "--epochs 0: expected 1 to 4"),
        (("--subset", "1"), "--subset 1: expected at least 2"),
        (("--subset", "many"), "Invalid value for '--subset'"),
    ],
)
def test_bad_numbers_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: tuple[str, ...], said: str
) -> None:
    assert reticket(monkeypatch, "run", TINY, *option) == 2
    assert said in capsys.readouterr().err
