"""A generator of sample run directories that follow the schema of `results.json`, with the numbers of a digits run."""

import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reticket.analysis import paired_difference

METHODS = (
    "dense", "imp", "imp-b", "lth", "permuted", "naive", "random-permutation", "layer-shuffle", "random", "erk",
    "signed", "naive-signed",
)  # fmt: skip
LOSS_AT_98 = {
    "dense": 0.0, "imp": 1.1, "imp-b": 1.0, "lth": 1.2, "permuted": 2.6, "naive": 6.2, "random-permutation": 6.8,
    "layer-shuffle": 8.8, "random": 27.0, "erk": 13.0, "signed": 1.6, "naive-signed": 2.1,
}  # fmt: skip
CONFIG = """title = "A small MLP on scikit-learn's handwritten digits"

[data]
name = "digits"
subset_seed = 0

[model]
name = "mlp"
params = { in_features = 64, hidden = [128, 128], classes = 10 }

[dense]
epochs = 60
batch_size = 64
lr = 0.1
momentum = 0.9
weight_decay = 0.0005
schedule = "cosine"
warmup_epochs = 0

[sparse]
lr = 0.1
weight_decay = 0.0005

[prune]
style = "finetune"
rate = 0.2
epochs = 15
lr = 0.02
momentum = 0.9
weight_decay = 0.0005
schedule = "cosine"
rewind = "0it"
scope = "global"
exclude = ["shortcut"]

[matching]
method = "activation"
cost = "correlation"
batch_size = 500

[grid]
seeds = [0, 1, 2, 3, 4]
sparsities = [0.9, 0.95, 0.98]
rewinds = ["0ep", "5ep"]
methods = [
    "dense", "imp", "imp-b", "lth", "permuted", "naive", "random-permutation", "layer-shuffle", "random", "erk",
    "signed", "naive-signed",
]
frame = "init"

[checks]
barriers = true
alphas = 11
overlap = true
diversity_members = 5
confidence = 0.95
"""
ENVIRONMENT = {
    "reticket": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.9", "platform": "Linux",
    "processor": "Example CPU 2.4 GHz", "cores": 2, "device": "cpu", "jobs": 2, "threads": 1, "executor": "local",
    "date": "2026-01-31 12:00:00",
}  # fmt: skip
PAPER_EXPERIMENT: dict[str, Any] = {
    "data": {"name": "cifar10", "train_size": None, "subset_seed": 0},
    "model": {"name": "resnet20", "params": {"in_channels": 3, "classes": 10, "width": 1}},
    "dense": {"epochs": 200, "batch_size": 128, "lr": 0.08, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine",
              "warmup_epochs": 0},
    "sparse": {"lr": 0.02, "weight_decay": 5e-4},
    "prune": {"style": "finetune", "rate": 0.2, "epochs": 50, "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0,
              "scope": "global", "exclude": ["shortcut"]},
    "matching": {"method": "activation"}, "train_size": 50000, "steps_per_epoch": 391,
}  # fmt: skip


def _differences(sparsity: float, rewind: str, values: dict[str, list[float]]) -> list[dict[str, Any]]:
    place = {"sparsity": sparsity, "rewind": rewind, "match_at": None}
    return [
        {"higher": one, "lower": other, **place, **asdict(paired_difference(values[one], values[other]))}
        for one, other in (("lth", "permuted"), ("permuted", "naive"))
        if one in values and other in values and len(values[one]) > 1
    ]


def stat(values: Sequence[float]) -> dict[str, Any]:
    """Return n, mean, sd and values, as the results hold them."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"n": len(values), "mean": statistics.fmean(values), "sd": sd, "values": list(values)}


def sample_results(
    methods: Sequence[str] = METHODS,
    sparsities: Sequence[float] = (0.9, 0.95, 0.98),
    rewinds: Sequence[str] = ("0ep", "5ep"),
    seeds: int = 5,
    classes: Sequence[str] = tuple("0123456789"),
    groups: Sequence[tuple[str, int]] = (("fc1.weight", 128), ("fc2.weight", 128)),
    true_factor: float = 1.0,
) -> dict[str, Any]:
    """Return the content of a `results.json` whose numbers behave as those of a real run."""
    draw = random.Random(0)
    rows, gaps, differences, diversity, per_class = [], [], [], [], []
    for sparsity in sparsities:
        for rewind in rewinds:
            values = {}
            for method in methods:
                place = _place(method, sparsity, rewind)
                if place is None or (place["rewind"] is None and rewind != rewinds[0]):
                    continue
                if place["sparsity"] == 0 and sparsity != sparsities[0]:
                    continue
                values[method] = _accuracies(draw, method, sparsity, rewind == rewinds[0], seeds)
                for metric, numbers in (
                    ("accuracy", values[method]),
                    ("loss", [(100 - v) / 18 for v in values[method]]),
                ):
                    true = place["sparsity"] * true_factor
                    rows.append(
                        {**place, "true_sparsity": true, "metric": metric} | stat(numbers) | {"keys": _keys(seeds)}
                    )
                diversity += [
                    {**place, **_members(draw, method, values[method], protocol, seeds)}
                    for protocol in ("one ticket", "independent")
                ]
                if method != "dense":
                    per_class += _classes(draw, place, values[method], classes)
            differences += _differences(sparsity, rewind, values)
            gaps += [_gap(method, sparsity, rewind, values, draw) for method in methods if _compared(method, values)]
    return {
        "schema": 1, "title": "A small MLP on scikit-learn's handwritten digits", "preset": "digits", "complete": True,
        "rows": rows, "gap_closed": gaps, "differences": differences,
        "barriers": _barriers(draw, sparsities, seeds),
        "matching": [
            {"group": name, "size": size, "copies": 1, "keys": _keys(seeds),
             "correlation": stat([draw.gauss(0.68 - 0.04 * i % 0.4, 0.02) for _ in range(seeds)]),
             "margin": stat([draw.gauss(0.14, 0.02) for _ in range(seeds)])}
            for i, (name, size) in enumerate(groups)
        ],
        "overlap": _overlaps(draw, sparsities, groups, seeds), "diversity": diversity, "per_class": per_class,
        "cost": [
            {"kind": "dense", "tasks": 2 * seeds, "model_epochs": 60.0 * 2 * seeds, "seconds": 21.4},
            {"kind": "imp-round", "tasks": 18 * seeds, "model_epochs": 270.0 * seeds, "seconds": 38.2},
            {"kind": "match", "tasks": seeds, "model_epochs": 0.0, "seconds": 1.1},
            {"kind": "sparse", "tasks": 66 * seeds, "model_epochs": 3800.0 * seeds, "seconds": 142.7},
            {"kind": "barrier", "tasks": 10 * seeds, "model_epochs": 0.0, "seconds": 9.3},
        ],
        "exemplars": [_exemplars(draw, place, classes) for place in _sparse_places(methods, sparsities, rewinds)],
        "failures": [], "environment": ENVIRONMENT,
    }  # fmt: skip


def write_run(folder: Path, results: dict[str, Any] | None = None, config: str = CONFIG) -> Path:
    """Write a run directory and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(sample_results() if results is None else results), "utf-8")
    (folder / "config.toml").write_text(config, "utf-8")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), "utf-8")
    return folder


def _place(method: str, sparsity: float, rewind: str) -> dict[str, Any] | None:
    if method == "dense":
        return {"method": method, "sparsity": 0.0, "rewind": None}
    return {"method": method, "sparsity": sparsity, "rewind": None if method == "imp" else rewind}


def _accuracies(draw: random.Random, method: str, sparsity: float, early: bool, seeds: int) -> list[float]:
    fall = LOSS_AT_98.get(method, 4.0 + len(method) % 5) * ((sparsity - 0.8) / 0.18) ** 2
    fall *= 1.7 if early and method not in ("lth", "imp", "dense") else 1.0
    return [97.9 - fall + draw.gauss(0, 0.25 + 0.06 * fall) for _ in range(seeds)]


def _keys(count: int) -> list[str]:
    return [f"{index:064x}" for index in range(count)]


def _compared(method: str, values: dict[str, list[float]]) -> bool:
    return {"lth", "naive", method} <= set(values) and method not in ("lth", "naive", "dense", "imp")


def _gap(
    method: str, sparsity: float, rewind: str, values: dict[str, list[float]], draw: random.Random
) -> dict[str, Any]:
    lth, naive, other = (statistics.fmean(values[name]) for name in ("lth", "naive", method))
    share = 100 * (other - naive) / (lth - naive)
    half = 200 / (lth - naive) / len(values[method]) ** 0.5 * draw.uniform(0.5, 1.0)
    return {
        "method": method, "sparsity": sparsity, "rewind": rewind, "n": len(values[method]), "share": share,
        "low": share - half, "high": share + half, "gap": lth - naive, "gap_low": lth - naive - 0.8,
        "gap_high": lth - naive + 0.8, "left": lth - other, "confidence": 0.95,
    }  # fmt: skip


def _members(draw: random.Random, method: str, values: Sequence[float], protocol: str, seeds: int) -> dict[str, Any]:
    mean = statistics.fmean(values)
    differ = (
        (0.2 if method == "lth" and protocol == "one ticket" else 1.0) * (101 - mean) / 100 * draw.uniform(0.7, 1.0)
    )
    if "signed" in method and protocol == "one ticket":
        differ *= 0.6
    return {
        "protocol": protocol, "members": max(2, seeds), "mean_accuracy": mean, "ensemble_accuracy": mean + 32 * differ,
        "disagreement": differ, "kl": 3.1 * differ, "js": 0.8 * differ, "keys": _keys(seeds),
    }  # fmt: skip


def _classes(
    draw: random.Random, place: dict[str, Any], values: Sequence[float], classes: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for index, name in enumerate(classes):
        dense = [min(100.0, draw.gauss(98, 0.8)) for _ in values]
        sparse = [max(0.0, value - draw.gauss(1.0 + 2.0 * (index in (1, 8)), 0.7)) for value in values]
        change = [after - before for before, after in zip(dense, sparse, strict=True)]
        rows.append({**place, "class": name, "dense": stat(dense), "sparse": stat(sparse), "change": stat(change)})
    return rows


def _sparse_places(methods: Sequence[str], sparsities: Sequence[float], rewinds: Sequence[str]) -> list[dict[str, Any]]:
    places = [_place(m, s, k) for m in methods for s in sparsities for k in rewinds if m != "dense"]
    kept = [place for place in places if place is not None]
    return [place for index, place in enumerate(kept) if place not in kept[:index]]


def _exemplars(draw: random.Random, place: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    counts = [draw.randrange(5) for _ in classes]
    return {
        **place, "dense_networks": 5, "sparse_networks": 5, "images": 36 * len(classes), "found": sum(counts),
        "undecided": 2, "stable": sum(counts) // 2, "noise": len(classes) // 2,
        "dense_on_exemplars": stat([60.0, 62.0, 64.0]), "sparse_on_exemplars": stat([30.0, 35.0, 31.0]),
        "dense_on_rest": stat([98.0, 98.5, 99.0]), "sparse_on_rest": stat([97.0, 97.5, 98.0]),
        "classes": [{"class": name, "found": n, "images": 36} for name, n in zip(classes, counts, strict=True)],
    }  # fmt: skip


def _barriers(draw: random.Random, sparsities: Sequence[float], seeds: int) -> list[dict[str, Any]]:
    alphas = [index / 10 for index in range(11)]
    pairs: list[tuple[str, float | None, float]] = [("permuted A to B", None, 9.0), ("A to B", None, 55.0)]
    pairs += [("dense A to IMP A", sparsity, 60 * (sparsity - 0.8)) for sparsity in sparsities]
    rows = []
    for pair, sparsity, height in pairs:
        for repair in (False, True):
            peaks = [draw.gauss(height, height / 9) * (0.35 if repair else 1.0) for _ in range(seeds)]
            accuracy = [[97.8 - peak * math.sin(math.pi * a) ** 2 for a in alphas] for peak in peaks]
            loss = [[0.09 + peak / 32 * math.sin(math.pi * a) ** 2 for a in alphas] for peak in peaks]
            rows.append(
                {"pair": pair, "repair": repair, "sparsity": sparsity, "n": seeds, "alphas": alphas, "loss": loss,
                 "accuracy": accuracy, "loss_barrier": stat([peak / 32 for peak in peaks]),
                 "accuracy_barrier": stat(peaks), "keys": _keys(seeds)}
            )  # fmt: skip
    return rows


def _overlaps(
    draw: random.Random, sparsities: Sequence[float], groups: Sequence[tuple[str, int]], seeds: int
) -> list[dict[str, Any]]:
    rows = []
    for sparsity in sparsities:
        for mask in ("permuted", "naive"):
            for layer in (None, *(name for name, _ in groups), "fc3.weight"):
                chance = 100 * (1 - sparsity) * (2.5 if layer == "fc3.weight" else 1.2)
                shared = chance * (2.1 if mask == "permuted" else 1.05)
                rows.append(
                    {"sparsity": sparsity, "layer": layer, "mask": mask,
                     "overlap": stat([draw.gauss(shared, 0.6) for _ in range(seeds)]),
                     "chance": stat([chance] * seeds)}
                )  # fmt: skip
    return rows
