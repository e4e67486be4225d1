"""`--epochs`, `--subset` and `--dry-run` through the command line."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from reticket.cli import main
from reticket.experiment import EXECUTORS, ExecutionConfig, FolderStore, Output, Task, executor
from reticket.experiment.compute import provenance_of
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config

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
    assert reticket(monkeypatch, "run", TINY, "--dry-run", *LITTLE, "--price", "0.05", "--out", out) == 0
    said = " ".join(capsys.readouterr().out.split())
    for text in (
        "tiny: A tiny experiment",
        "300 training and 500 test",
        "prune-round",
        "model-epochs",
        "Timed just now",
        "1 job for",
        "euro at 0.05 euro a job-hour",
    ):
        assert text in said, text
    assert not out.exists()
    assert reticket(monkeypatch, "run", TINY, "--price", "0.05", "--out", out) == 2
    assert "--price is for --dry-run" in capsys.readouterr().err


def test_a_dry_run_times_what_takes_images_of_another_side(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without the data: all that a preset with parameters of its data takes, not the search of symmetry alone."""
    monkeypatch.delenv("RETICKET_DATA", raising=False)
    dry = ("run", "ticketbench-resnet20", "--dry-run", "--set", "model.params.width=0.125", "--out", tmp_path / "none")
    assert reticket(monkeypatch, *dry) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Timed just now, resnet20 of width 0.125" in said
    assert "About 10 s" not in said
    assert " 640 0 s " not in said, "the sparse runs take some time"


def test_a_dry_run_on_a_store_goes_by_what_its_results_took_and_times_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One result of the model is there, computed at a pace of 36 s an epoch; of the rest each epoch takes as long."""
    config = load_config(TINY, ["seeds=1", 'methods=["dense"]', "barriers=false", "overlap=false"])[1]
    (planned,) = plan_experiment(config)
    (dense,) = planned.blueprint.targets
    rest = sum(task.cost for task in planned.blueprint.targets)
    store = FolderStore(tmp_path)
    spec = {"model": dense.spec["model"], "recipe": dense.spec["recipe"], "another": 1}
    other = Task("dense", 1, spec, cost=2.0)
    store.put(other.key, Output({}), provenance_of(other, ExecutionConfig(), 2.0 * 36.0))
    dry = ("run", TINY, *(f"--set={text}" for text in ("seeds=1", 'methods=["dense"]', "barriers=false")), "--dry-run")
    assert reticket(monkeypatch, *dry, "--set=overlap=false", "--store", tmp_path, "--price", "100") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing was timed: such tasks took as long in 1 results of the store" in said
    assert f"{rest * 36 / 3600 * 100:,.2f} euro at 100 euro a job-hour" in said


def test_a_dry_run_for_machines_elsewhere_says_what_they_cost_or_that_nobody_can_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(EXECUTORS, "_members", dict(EXECUTORS._members))
    executor("far", elsewhere=True)(lambda schedule, store, runners, execution: None)
    dry = ("run", TINY, "--dry-run", *LITTLE, "--executor", "far", "--jobs", "40", "--out", tmp_path / "none")
    assert reticket(monkeypatch, *dry, "--price", "0.5") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "with --executor far with --jobs 40" in said
    assert "40 jobs for" in said
    assert "euro at 0.5 euro a job-hour" in said
    assert "the machines that compute are as fast as this one" in said
    assert reticket(monkeypatch, *dry, "--device", "cuda:99") == 0
    assert "How long it takes cannot be said: there is no 'cuda:99' here" in " ".join(capsys.readouterr().out.split())


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
