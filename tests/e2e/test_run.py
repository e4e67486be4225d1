"""A whole experiment through the command line: its files, its numbers, running it again."""

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import reticket as rt
from reticket.cli import main
from reticket.errors import InputError
from reticket.experiment import FolderStore
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment
from tests.untimed import untimed

TINY = Path(__file__).with_name("tiny.toml")


def reticket(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        assert reticket(patch, "run", TINY, "--out", out, "--log", "csv", "--log", "csv") == 0
    return out


def read(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def row(results: dict[str, Any], method: str, sparsity: float, rewind: str | None) -> dict[str, Any]:
    found = [
        r
        for r in results["rows"]
        if (r["method"], r["sparsity"], r["rewind"], r["metric"]) == (method, sparsity, rewind, "accuracy")
    ]
    assert len(found) == 1
    return found[0]


def test_the_run_directory_is_whole(finished: Path) -> None:
    for name in ("config.toml", "environment.json", "metrics.jsonl", "results.json", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    events = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert events[0]["kind"] == "plan-started"
    assert events[-1]["kind"] == "plan-finished"
    told = [f"{event['label']} {event['step']} {one}" for event in events for one in event.get("metrics", ())]
    with (finished / "logs" / "metrics.csv").open() as file:
        assert [f"{row['training']} {row['step']} {row['metric']}" for row in csv.DictReader(file)] == told
    assert list((finished / "figures").glob("*.svg"))
    assert list((finished / "tables").glob("*.csv"))


def test_the_store_knows_what_the_run_needs(finished: Path) -> None:
    store = FolderStore(finished / "store")
    assert store.runs() == {str(finished.resolve()): tuple(store.keys())}
    assert store.knows_all_runs


def test_every_cell_has_its_row_with_n_sd_and_keys(finished: Path) -> None:
    results = read(finished)
    assert results["schema"] == 1
    assert results["complete"] is True
    assert row(results, "dense", 0.0, None)["n"] == 2
    trained = ("imp-b", "lth", "permuted", "naive", "random-permutation", "layer-shuffle", "random", "erk", "signed")
    for method in (*trained, "naive-signed"):
        for sparsity in (0.4, 0.7):
            for rewind in ("0it", "1ep"):
                found = row(results, method, sparsity, rewind)
                assert found["n"] == len(found["values"]) == len(found["keys"]) == 2
                assert 0 <= found["mean"] <= 100
                assert found["true_sparsity"] == pytest.approx(sparsity, abs=1e-3)
    assert row(results, "imp", 0.7, None)["n"] == 2


def test_controls_keep_exactly_as_many_weights(finished: Path) -> None:
    kept: dict[float, set[int]] = {}
    for path in (finished / "store" / "results").glob("*/*/manifest.json"):
        task = json.loads(path.read_text())["provenance"]["task"]
        if task["kind"] == "sparse":
            values = json.loads((path.parent / "values.json").read_text())
            sparsity = round(values["true_sparsity"], 1)
            kept.setdefault(sparsity, set()).add(values["kept"])
    total = 64 * 16 + 16 * 10
    assert kept == {0.4: {round(0.6 * total)}, 0.7: {round(0.3 * total)}}


def test_checks_of_the_theory_are_there(finished: Path) -> None:
    results = read(finished)
    pairs = {(b["pair"], b["repair"], b["sparsity"]) for b in results["barriers"]}
    assert pairs == {
        (pair, repair, sparsity)
        for repair in (False, True)
        for pair, sparsity in (
            ("A to B", None),
            ("permuted A to B", None),
            ("dense A to IMP A", 0.4),
            ("dense A to IMP A", 0.7),
        )
    }
    assert {m["group"] for m in results["matching"]}
    assert all(m["correlation"]["n"] == 2 for m in results["matching"])
    assert {o["mask"] for o in results["overlap"]} == {"permuted", "naive"}
    assert {d["protocol"] for d in results["diversity"]} == {"independent", "one ticket"}
    one = {d["method"]: d for d in results["diversity"] if d["protocol"] == "one ticket"}
    assert one["permuted"]["members"] == one["lth"]["members"] == 3
    assert {p["class"] for p in results["per_class"]} == set("0123456789")
    assert {g["method"] for g in results["gap_closed"]} >= {"permuted", "signed", "random"}
    accuracy = {
        (r["method"], r["sparsity"], r["rewind"]): r["values"] for r in results["rows"] if r["metric"] == "accuracy"
    }
    assert len(results["differences"]) == 2 * len({(g["sparsity"], g["rewind"]) for g in results["gap_closed"]})
    for one in results["differences"]:
        higher, lower = (accuracy[one[which], one["sparsity"], one["rewind"]] for which in ("higher", "lower"))
        assert one["values"] == [a - b for a, b in zip(higher, lower, strict=True)]
        assert one["low"] <= one["mean"] <= one["high"]
    assert {c["kind"] for c in results["cost"]} >= {"dense", "prune-round", "match", "sparse"}


def test_the_networks_behind_a_cell_are_given_back(finished: Path) -> None:
    results = rt.Results.load(finished)
    for seed in (0, 1):
        place = {"sparsity": 0.7, "seed": seed}
        mask = results.mask(method="permuted", rewind="1ep", **place)
        moved = results.alignment(method="permuted", rewind="1ep", **place).apply(results.mask(method="imp", **place))
        assert all(torch.equal(mask[name], moved[name]) for name in mask)
        weights = results.weights(method="permuted", rewind="1ep", **place)
        assert all(bool((weights[name][~mask[name]] == 0).all()) for name in mask)
        stored = results.result(method="permuted", rewind="1ep", **place).values["accuracy"]
        assert row(read(finished), "permuted", 0.7, "1ep")["values"][seed] == stored


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"method": "permuted", "sparsity": 0.7}, "the table has 2 cells .*; give rewind, one of 0it, 1ep"),
        ({"method": "permutd"}, "has no cell .*, did you mean 'permuted'?; its methods are dense, imp,"),
        ({"method": "permuted", "sparsity": 0.3}, "its sparsity is one of 0.4, 0.7 for 'permuted'"),
        ({"method": "imp", "sparsity": 0.7, "seed": 7}, "has no seed 7; it has 0, 1"),
        ({"method": "dense"}, "dense A0 to step 24 of 24: a dense network has no mask"),
    ],
)
def test_a_network_that_is_not_there_is_named(finished: Path, place: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        rt.Results.load(finished).mask(**place)
    with pytest.raises(InputError, match="uses no alignment; name one that does"):
        rt.Results.load(finished).alignment(method="imp", sparsity=0.7)


@pytest.mark.slow
def test_running_again_computes_nothing_and_changes_no_row(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read(finished)
    assert reticket(monkeypatch, "run", TINY, "--out", finished) == 0
    said = capsys.readouterr().out
    assert "0 tasks computed" in said
    assert read(finished)["rows"] == before["rows"]
    permuted = row(before, "permuted", 0.4, "0it")
    assert re.search(rf"^permuted +{permuted['mean']:.1f} ± {permuted['sd']:.1f} ", said, re.MULTILINE), said
    assert "gap closed" in said.splitlines()[-2], "the table is the last that a run prints"


@pytest.mark.slow
def test_two_processes_from_an_empty_store_give_the_same_numbers(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert reticket(monkeypatch, "run", TINY, "--set", "seeds=1", "--out", tmp_path / "again", "--jobs", "2") == 0
    summary = run_experiment(load_config(TINY, ["seeds=1"])[1], tmp_path / "first", store=finished / "store")
    assert summary.done == (), "one process has computed them all"
    first, second = read(tmp_path / "first"), read(tmp_path / "again")
    assert len(first["rows"]) == len(read(finished)["rows"])
    for part in ("rows", "gap_closed", "barriers", "matching", "overlap", "diversity", "per_class"):
        assert untimed(first[part]) == untimed(second[part]), part


@pytest.mark.slow
def test_a_run_that_diverges_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "diverged"
    only = ("--set", "sparse.lr=1e30", "--set", "checks.diversity_members=0", "--set", "checks.barriers=false")
    assert reticket(monkeypatch, "run", TINY, "--out", out, *only) == 1
    said = capsys.readouterr().err
    assert "training diverged; lower lr" in said
    results = read(out)
    assert results["complete"] is False
    assert {f["label"].split()[0] for f in results["failures"]} >= {"lth", "naive", "permuted"}
    assert row(results, "dense", 0.0, None)["n"] == 2
    assert "diverged" in (out / "report.html").read_text()


def test_the_weights_of_one_network_are_written_as_a_file(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, place = tmp_path / "b.safetensors", ("--method", "permuted", "--sparsity", "0.7", "--rewind", "1ep")
    assert reticket(monkeypatch, "weights", finished, *place, "--seed", "1", "-o", file) == 0
    wanted = rt.Results.load(finished).weights(method="permuted", sparsity=0.7, rewind="1ep", seed=1)
    found = load_file(file)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert "tensors" in capsys.readouterr().out
    assert reticket(monkeypatch, "weights", finished, *place, "-o", tmp_path / "b.pt") == 2
    assert "weights are written as .safetensors" in capsys.readouterr().err
    assert reticket(monkeypatch, "weights", finished, "--method", "permutted", "-o", file) == 2
    assert "permutted" in capsys.readouterr().err
