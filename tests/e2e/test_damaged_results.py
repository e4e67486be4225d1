"""Damage between two runs: what the results show is computed anew, or they say what is missing."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reticket.errors import StoreError
from reticket.experiment import Event, Summary
from reticket.tasks.config import Config
from reticket.tasks.log import Log
from reticket.tasks.running import OutputError, run_experiment
from tests.untimed import untimed

CONFIG = Config.model_validate(
    {
        "title": "A very small experiment",
        "data": {"name": "digits", "train_size": 100, "test_size": 100},
        "model": {"name": "mlp", "params": {"in_features": 64, "hidden": [8], "classes": 10}},
        "dense": {"epochs": 2, "batch_size": 50, "lr": 0.1},
        "sparse": {"lr": 0.1},
        "prune": {"epochs": 1, "lr": 0.02},
        "grid": {
            "seeds": 2,
            "sparsities": [0.6],
            "rewinds": ["1ep"],
            "methods": ["dense", "imp", "lth", "permuted", "naive"],
        },
        "checks": {"diversity_members": 0, "barriers": False, "overlap": False},
    }
)


def run(out: Path, on_event: Callable[[Event], None] = lambda event: None) -> tuple[Summary, dict[str, Any]]:
    summary = run_experiment(CONFIG, out, on_event=on_event)
    return summary, json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    summary, results = run(out)
    assert summary.complete
    assert results["complete"]
    return out


def labels(out: Path) -> dict[str, Path]:
    """Return by label the folders of the results."""
    manifests = (out / "store" / "results").rglob("manifest.json")
    return {json.loads(path.read_text())["provenance"]["task"]["label"]: path.parent for path in manifests}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the values": lambda folder: flip(folder / "values.json"),
    "a bit of the tensors": lambda folder: flip(folder / "tensors.safetensors"),
    "a bit of the manifest": lambda folder: flip(folder / "manifest.json"),
    "values that are a folder": lambda folder: [(folder / "values.json").unlink(), (folder / "values.json").mkdir()],
    "all of it gone": shutil.rmtree,
}


def ends_of_b(out: Path) -> list[Path]:
    """Return the folders of B's trained networks, which only the results compare something with."""
    return [folder for label, folder in sorted(labels(out).items()) if re.fullmatch(r"dense B. to step 4 of 4", label)]


def damage_changes_nothing(finished: Path, out: Path, damage: Callable[[Path], object]) -> None:
    """The law itself: a run over damaged results says what an undamaged one said, and is complete."""
    shutil.copytree(finished, out)
    assert len(ends_of_b(out)) == 2
    for folder in ends_of_b(out):
        damage(folder)
    summary, results = run(out)
    before = json.loads((finished / "results.json").read_text())
    assert untimed(results) == untimed(before)
    assert summary.complete


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_what_only_the_results_read_is_computed_anew(
    damage: Callable[[Path], object], finished: Path, tmp_path: Path
) -> None:
    damage_changes_nothing(finished, tmp_path / "run", damage)


def test_the_law_of_damage_can_fail(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where these networks are no part of the plan, and what cannot be read is passed over."""
    monkeypatch.setattr("reticket.tasks.blueprint.Blueprint.compared", ())
    with pytest.raises(AssertionError):
        damage_changes_nothing(finished, tmp_path / "run", DAMAGE["a bit of the values"])


def test_what_only_the_cost_counts_is_said_to_be_missing(finished: Path, tmp_path: Path) -> None:
    """Two rounds of pruning, which nothing reads any more: no number but the sum of the cost needs them."""
    shutil.copytree(finished, tmp_path / "run")
    for label, folder in labels(tmp_path / "run").items():
        if label.startswith("IMP A") and "round 1" in label:
            flip(folder / "values.json")
    before = {cost["kind"]: cost for cost in json.loads((finished / "results.json").read_text())["cost"]}
    for _ in range(2):
        summary, results = run(tmp_path / "run")
        after = {cost["kind"]: cost for cost in results["cost"]}
        assert (summary.complete, results["complete"], results["failures"]) == (True, True, [])
        assert after["prune-round"]["tasks"] == before["prune-round"]["tasks"] - 2
        assert (after["prune-round"]["missing"], before["prune-round"]["missing"]) == (2, 0)


def test_damage_after_the_run_is_a_failure(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")

    def harm(event: Event) -> None:
        if event.kind == "plan-finished":
            first, second = ends_of_b(tmp_path / "run")
            flip(first / "values.json")
            shutil.rmtree(second)

    summary, results = run(tmp_path / "run", harm)
    assert not summary.complete
    assert results["complete"] is False
    said = {one["label"].split()[1]: one["error"] for one in results["failures"]}
    assert "is damaged (values.json does not match its checksum) and was moved to" in said["B0"]
    assert "is not in the store any more; run again to compute it anew" in said["B1"]
    assert len(said) == 2


def test_what_a_shared_store_holds_besides_decides_nothing(finished: Path, tmp_path: Path) -> None:
    """Results of tasks that this experiment does not plan are not read, whole or damaged."""
    only = CONFIG.model_copy(update={"grid": CONFIG.grid.model_copy(update={"methods": ("dense", "imp")})})
    shutil.copytree(finished / "store", tmp_path / "copy")
    run_experiment(only, tmp_path / "alone")
    run_experiment(only, tmp_path / "beside", store=tmp_path / "copy")
    one, other = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "beside"))
    assert one["exemplars"] == other["exemplars"]
    assert one["per_class"] == other["per_class"]


@pytest.mark.slow
def test_an_output_folder_that_takes_nothing_does_not_end_a_run(tmp_path: Path) -> None:
    """What is computed goes to a store elsewhere; it is said what cannot be written, and another run needs no more."""
    out, events = tmp_path / "out", []
    for name in ("config.toml", "metrics.jsonl"):
        (out / name).mkdir(parents=True)
        (out / name / "in the way").touch()
    with pytest.raises(
        OutputError, match=r"out/config.toml' cannot be written \(.*\); free space there or choose another"
    ):
        run_experiment(CONFIG, out, store=tmp_path / "store", on_event=events.append)
    assert events[-1].kind == "plan-finished"
    notices = [event.text for event in events if event.kind == "notice"]
    assert len(notices) == 1
    assert "metrics.jsonl' cannot be written (it is a folder, but a plain file was expected); the run" in notices[0]
    for name in ("config.toml", "metrics.jsonl"):
        shutil.rmtree(out / name)
    summary = run_experiment(CONFIG, out, store=tmp_path / "store")
    assert (summary.done, summary.complete) == ((), True)


def test_a_log_on_a_full_disk_says_so_once(tmp_path: Path) -> None:
    told: list[Event] = []
    with open("/dev/full", "w", encoding="utf-8") as file:
        log = Log(file, told.append, tmp_path / "metrics.jsonl")
        for kind in ("task-started", "progress", "task-done"):
            log(Event(kind))
        with suppress(OSError):
            file.close()
    assert [event.kind for event in told] == ["notice", "task-started", "progress", "task-done"]
    assert "metrics.jsonl' cannot be written (No space left on device); the run goes on without it" in told[0].text


def test_a_store_that_can_only_be_read_and_has_every_result_is_enough(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    shutil.copytree(finished / "store", tmp_path / "store")
    monkeypatch.setattr("reticket.experiment.register.replace_file", refuse)
    notices: list[str] = []
    summary = run_experiment(
        CONFIG,
        tmp_path / "again",
        store=tmp_path / "store",
        on_event=lambda event: notices.append(event.text) if event.kind == "notice" else None,
    )
    assert summary.complete
    assert not summary.done
    assert len(notices) == 1
    assert re.search(
        r"cannot be written \(Read-only file system\).*; every result is there, so the run goes on", notices[0]
    )
    again, whole = (json.loads((out / "results.json").read_text()) for out in (tmp_path / "again", finished))
    assert untimed(again) == untimed(whole)
    shutil.rmtree(next((tmp_path / "store" / "results").iterdir()))
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\)"):
        run_experiment(CONFIG, tmp_path / "third", store=tmp_path / "store")
