"""Run every preset to its report at one epoch and 256 images of made-up data, and check what came out.

`python -m tests.presets FOLDER [NAME ...]` makes networks narrow and grids short, as `make test-all` does with all and
`make test` with three; with `--whole` (`make test-presets`) nothing but epochs and images is changed, and what a dry
run says takes longer than RETICKET_PRESET_MINUTES (30) on this machine is left out and named. One process runs them
all, and results are shared where presets overlap, so that this stays affordable.
"""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from reticket.cli import main as reticket
from reticket.tasks.config import Config
from reticket.tasks.presets import list_presets, load_config
from reticket.tasks.sweep import variants
from reticket.tickets.choice import Choice
from tests.generated_data import generate, make_small
from tests.pdfs import empty_pdfs
from tests.zoo.torchvision_operators import named_operators

SCALED = ("--epochs", "1", "--subset", "256")
WIDTH = "model.params.width"
OPERATORS = named_operators()  # timm imports torchvision
TEXT = "reticket.data.text:load_text"
UNITS = {"d": 1440.0, "h": 60.0, "min": 1.0, "s": 1 / 60}


def call(*arguments: str | Path) -> tuple[int, str]:
    """Call the command line and return its exit code and what it printed."""
    said = io.StringIO()
    sys.argv = ["reticket", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            reticket()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


def shrunk(config: Config) -> list[str]:
    """Return settings that make an experiment quick and keep every part of it."""
    checks, model = config.checks, config.model.name
    settings = ["grid.seeds=1", f"grid.sparsities=[{checks.diversity_sparsity or config.grid.sparsities[-1]}]"]
    settings += ["prune.rate=0.6", "checks.alphas=3", "matching.batch_size=256", "checks.barrier_samples=64"]
    settings += [f"checks.{name}=2" for name in ("diversity_members", "independent_members") if getattr(checks, name)]
    settings += ["checks.diversity_tickets=1"] * (checks.diversity_tickets > 1)
    if WIDTH in config.sweep:
        settings.append(f"sweep.{WIDTH}=[0.125, 0.25]")
    elif model in ("airbench", "resnet20", "resnet50", "vgg11"):
        settings.append(f"{WIDTH}=0.125")
    settings += ["model.params.hidden=[8]"] * (model == "mlp")
    settings += ["model.params.widths=[4, 4, 4, 4]"] * (model == "conv-small")
    settings += ["data.params.side=32"] * (config.data.name == "imagenet")
    if config.data.name == TEXT:
        settings += ["model.params.width=16", "model.params.depth=1", "model.params.heads=2", "data.params.context=16"]
    return [text for setting in settings for text in ("--set", setting)]


def essence(name: str) -> str:
    """Return all that decides the results of a preset once it is narrow: presets of several widths become one."""
    settings = shrunk(load_config(name)[1])[1::2]
    return load_config(name, settings)[1].model_dump_json(exclude={"title", "reference"})


def plan_without_data(name: str, empty: Path) -> None:
    """Check that a preset is planned and timed where its data are not."""
    config = load_config(name)[1]
    os.environ["RETICKET_DATA"] = str(empty)
    code, said = call("run", name, *shrunk(config), "--dry-run", "--out", empty / "none")
    words = " ".join(said.split())
    assert code == 0, said
    for text in (f"data: {config.data.name}, ", "About ", "model-epochs", "Timed just now, "):
        assert text in words, (name, text)
    assert not (empty / "none").exists(), "a dry run wrote something"
    if config.data.name not in ("digits", "fashion-mnist", TEXT):  # which may lie where the system has them
        assert "as published: they could not be opened here" in words, name


def run(name: str, folder: Path, *, whole: bool = False) -> str:
    """Run a preset, check its results and return a word on it."""
    preset, out = load_config(name)[1], folder / name
    settings = [] if whole else shrunk(preset)
    data = folder / "data" / preset.data.name
    if not data.exists():
        generate(preset.data.name, data)
    where = ("--data", data, "--out", out, "--store", folder / "store")
    if whole and (reason := _too_long(call("run", name, *SCALED, *where, "--dry-run")[1])):
        return reason
    code, said = call("run", name, *SCALED, *settings, *where)
    assert code == 0, f"{name}: {said}"
    config = load_config(out / "config.toml")[1]
    for variant in variants(config):
        _check(variant.config, json.loads((out / variant.folder / "results.json").read_text()))
        assert (out / variant.folder / "report.html").stat().st_size > 10_000
    if config.sweep:
        folders = [one["folder"] for one in json.loads((out / "sweep.json").read_text())["variants"]]
        assert len(folders) == len(config.sweep[WIDTH]) == len(set(folders))
        assert (out / "report.html").stat().st_size > 10_000
    return "done"


def _check(config: Config, results: dict[str, Any]) -> None:
    """Assert that the results hold all that the experiment asks for."""
    grid, checks = config.grid, config.checks
    assert results["complete"] is True
    assert results["scale"]["epochs"][1] == config.dense.epochs == 1
    assert results["scale"]["train"][1] == results["experiment"]["train_size"] == 256
    cells = {(row["method"], row["sparsity"], row["rewind"], row["match_at"]) for row in results["rows"]}
    for sparsity in grid.sparsities:
        for method in set(grid.methods) - {"dense", "imp"}:
            places = grid.match_at if "alignment" in Choice.parse(method).needs else (None,)
            assert cells >= {(method, sparsity, rewind, at) for rewind in grid.rewinds for at in places}
    assert {curve["pair"] for curve in results["barriers"]} == set(checks.pairs)
    lines = {curve["sparsity"] for curve in results["barriers"] if curve["pair"] == "dense A to IMP A"}
    assert len(lines) > len(grid.sparsities) if checks.rounds else lines <= set(grid.sparsities)
    members = {(one["method"], one["protocol"]): one["members"] for one in results["diversity"]}
    if checks.diversity_members:
        assert members["permuted", "one ticket"] == members["lth", "one ticket"] == checks.diversity_members
    if checks.independent_members:
        assert members["imp", "independent"] == checks.independent_members


def _too_long(dry_run: str) -> str:
    """Return why a preset is left out, or nothing."""
    allowed = float(os.environ.get("RETICKET_PRESET_MINUTES", "30"))
    words = dry_run.partition("About ")[2].partition(" on this machine")[0].split()
    minutes = sum(float(n.replace(",", "")) * UNITS[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    return f"left out: would take {' '.join(words)} here" if minutes > allowed else ""


def main() -> None:
    """Run those that are named, or all; stops at the first that is not right."""
    folder, whole = Path(sys.argv[1]), "--whole" in sys.argv
    names = [name for name in sys.argv[2:] if name != "--whole"] or list_presets()
    make_small(pytest.MonkeyPatch())
    with contextlib.nullcontext() if whole else empty_pdfs():
        _run_each(names, folder, whole)


def _run_each(names: Iterable[str], folder: Path, whole: bool) -> None:
    empty = folder / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    ran: dict[str, str] = {}
    for name in names:
        started = time.process_time()
        if not whole:
            plan_without_data(name, empty)
        same = ran.setdefault(name if whole else essence(name), name)
        word = run(name, folder, whole=whole) if same == name else f"done with {same}, which is the same when narrow"
        print(f"{name}: {word}, {time.process_time() - started:.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
