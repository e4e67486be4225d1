"""The paper's row as an ordinary experiment in an ordinary store, cut where the budget ends; and what is taken home."""

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lease.schedule import Chosen, row_config, stages
from reticket.experiment import Event, ExecutionConfig, FolderStore, Result, Store, Task, Until
from reticket.report import build_report
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.networks import Facts
from reticket.tasks.planning import Planned, plan_experiment
from reticket.tasks.running import run_experiment
from reticket.tickets import Mask

PRESET = "lease"
LARGEST = 15 * 2**20  # bytes of the archive


def run_row(
    chosen: Chosen, folder: Path, execution: ExecutionConfig, until: Until, on_event: Callable[[Event], None]
) -> dict[str, Any]:
    """Run what is missing of the row until it is time, and return its figures, one line a seed."""
    begun = time.monotonic()
    summary = run_experiment(
        chosen.config, folder, preset=PRESET, execution=execution, on_event=on_event, until=until, stages=_staged
    )
    return {
        **plan_of(chosen, execution),
        "seconds": time.monotonic() - begun,
        "stopped": bool(summary.unfinished),
        "left": len(summary.unfinished),
        "failures": [{"label": label, "error": error} for label, error in summary.failed.values()],
        **figures(_blueprint(chosen, execution), FolderStore(folder / "store")),
    }


def plan_of(chosen: Chosen, execution: ExecutionConfig) -> dict[str, Any]:
    """Return what was planned, for the answers."""
    config = chosen.config
    return {
        "epochs": config.dense.epochs,
        "retraining": config.prune.epochs,
        "rewind": config.grid.rewinds[0],
        "precision": chosen.precision,
        "matched_on": config.matching.samples,
        "executor": execution.executor,
        "jobs": execution.jobs,
        "pairs": list(config.grid.seeds),
        "sparsities": list(config.grid.sparsities),
        "imp_b": "imp-b" in config.grid.methods,
        "predicted_s": chosen.seconds[-1],
        "stages_s": list(chosen.seconds),
        "sentence": chosen.sentence,
    }


def chosen_before(plan: Mapping[str, Any], facts: Facts, settings: Sequence[str]) -> Chosen:
    """Return the schedule that `plan_of` wrote down."""
    config = row_config(
        plan["epochs"],
        plan["pairs"],
        plan["sparsities"],
        plan["precision"],
        plan["imp_b"],
        facts.train_size,
        settings,
    )
    order = stages(Blueprint(config, facts))
    predicted = tuple(plan["stages_s"])
    return Chosen(plan["epochs"], plan["jobs"], plan["precision"], config, order, predicted, plan["sentence"])


def _staged(planned: Sequence[Planned]) -> Iterable[Iterable[Task]]:
    return stages(planned[0].blueprint)


def _blueprint(chosen: Chosen, execution: ExecutionConfig) -> Blueprint:
    return plan_experiment(chosen.config, folder=execution.folder, threads=execution.threads)[0].blueprint


def figures(blueprint: Blueprint, store: Store) -> dict[str, Any]:
    """Return what is there of the row: accuracies, barriers and correlations, one line a seed."""
    rows = [
        {
            "method": cell.method,
            "sparsity": cell.sparsity or 0.0,
            "true_sparsity": result.values["true_sparsity"],
            "match_at": cell.match_at,
            "seed": seed,
            "accuracy": result.values["accuracy"],
            "loss": result.values["loss"],
        }
        for cell, tasks in blueprint.runs.items()
        for seed, result in _there(blueprint, store, tasks)
    ]
    barriers = [
        {"pair": cell.pair, "repair": cell.repair, "sparsity": cell.sparsity, "match_at": cell.match_at, "seed": seed}
        | {name: result.values[name] for name in ("loss_barrier", "accuracy_barrier")}
        for cell, tasks in blueprint.of("barriers").items()
        for seed, result in _there(blueprint, store, tasks)
    ]
    matching = [
        {"match_at": at, "seed": seed, "group": group, "correlation": found["correlation"]}
        for at, tasks in blueprint.of("matching").items()
        for seed, result in _there(blueprint, store, tasks)
        for group, found in result.values["groups"].items()
    ]
    return {"rows": rows, "barriers": barriers, "matching": matching}


def _there(blueprint: Blueprint, store: Store, tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
    for seed, task in zip(blueprint.config.grid.seeds, tasks, strict=True):
        if store.has(task.key):
            yield seed, store.get(task.key)


def take_home(chosen: Chosen, folder: Path, execution: ExecutionConfig, out: Path) -> list[str]:
    """Write report, results and one archive (configuration, environment, events, results, curves, masks) into `out`.

    Returns:
        What was left out of the archive, because it would have been too large.
    """
    report = build_report(folder)
    (out / "report.html").write_bytes(report.read_bytes())
    (out / "results.json").write_bytes((folder / "results.json").read_bytes())
    left: list[str] = []
    names = ("config.toml", "environment.json", "results.json", "metrics.jsonl")
    content = [(name, (folder / name).read_bytes()) for name in names if (folder / name).exists()]
    content += [(f"tables/{path.name}", path.read_bytes()) for path in sorted((folder / "tables").glob("*.csv"))]
    content += list(_curves(_blueprint(chosen, execution), FolderStore(folder / "store")))
    content += list(_masks(_blueprint(chosen, execution), FolderStore(folder / "store"), folder))
    packed = out / ".archive.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        for name, data in content:
            if packed.stat().st_size + len(data) > LARGEST:
                left.append(name)
                continue
            entry = tarfile.TarInfo(f"lease/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    packed.replace(out / "lease.tar.gz")
    return left


def _curves(blueprint: Blueprint, store: Store) -> Iterator[tuple[str, bytes]]:
    """Yield the training curves of the dense networks: loss and learning rate by epoch."""
    for side in "AB":
        for seed in blueprint.config.grid.seeds:
            task = blueprint.networks.dense(side, seed)
            if store.has(task.key):
                history = store.get(task.key).values["state"]["history"]
                yield f"curves/dense-{side}{seed}.json", (json.dumps(history, indent=1) + "\n").encode()


def _masks(blueprint: Blueprint, store: Store, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the masks of the pruned networks, one bit a weight."""
    for cell, tasks in blueprint.runs.items():
        if cell.method != "imp":
            continue
        for seed, result in _there(blueprint, store, tasks):
            path = folder / f"mask-A{seed}-{cell.sparsity:.0%}.safetensors"
            named = {name.removeprefix("mask/"): result.tensors[name] for name in result.tensors if "mask/" in name}
            Mask(named).save(path)
            yield f"masks/{path.name}", path.read_bytes()
