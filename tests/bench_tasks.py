"""Tasks of TicketBench with made-up numbers, as a run would have recorded them."""

from collections.abc import Mapping, Sequence
from typing import Any

from reticket.bench import BenchTask, claims_of
from reticket.bench.record import task_of
from reticket.tasks.config import GridConfig
from reticket.tasks.results import Results

GRID = GridConfig(
    seeds=(0, 1, 2, 3),
    sparsities=(0.9,),
    rewinds=("0ep", "2ep"),
    match_at=("2ep", "end"),
    methods=("dense", "imp", "lth", "permuted", "naive"),
)
COSTS: Mapping[str, tuple[float, float]] = {
    "dense": (10.0, 0.0), "imp": (30.0, 0.0), "lth": (38.0, 0.0), "permuted": (10.0, 30.0), "naive": (10.0, 30.0),
}  # fmt: skip
MEANS: Mapping[str, float] = {"dense": 96.0, "imp": 95.0, "lth": 95.0, "permuted": 93.0, "naive": 90.0}
NOISE = (0.0, 0.4, -0.2, 0.3)


def row(method: str, mean: float, rewind: str | None, at: str | None, seeds: Sequence[int]) -> dict[str, Any]:
    values = [mean + NOISE[(seed * (1 + len(method))) % 4] for seed in seeds]
    own, shared = COSTS[method]
    n = len(values)
    centre = sum(values) / n
    sd = (sum((value - centre) ** 2 for value in values) / (n - 1)) ** 0.5 if n > 1 else None
    return {
        "method": method, "sparsity": 0.0 if method == "dense" else 0.9, "rewind": rewind, "match_at": at, "n": n,
        "mean": centre, "sd": sd, "values": values, "seeds": list(seeds), "keys": ["f" * 64] * n,
        "own_epochs": own, "shared_epochs": shared, "own_seconds": 2 * own, "shared_seconds": 2 * shared,
    }  # fmt: skip


def ensemble(method: str, protocol: str, accuracy: float, disagreement: float, at: str | None = None) -> dict[str, Any]:
    own, shared = COSTS[method]
    return {
        "method": method, "sparsity": 0.9, "rewind": None if method == "imp" else "2ep", "match_at": at,
        "protocol": protocol, "members": 5, "mean_accuracy": accuracy - 1, "ensemble_accuracy": accuracy,
        "disagreement": disagreement, "kl": 0.2, "js": 0.05, "own_epochs": 5 * own, "shared_epochs": shared,
    }  # fmt: skip


def results(means: Mapping[str, float] = MEANS, seeds: Sequence[int] = (0, 1, 2, 3), **sections: Any) -> Results:
    """Return results of a task of which so many seeds are there."""
    rows = [row("dense", means["dense"], None, None, seeds), row("imp", means["imp"], None, None, seeds)]
    for rewind in ("0ep", "2ep"):
        rows += [row(method, means[method], rewind, None, seeds) for method in ("lth", "naive")]
        rows += [row("permuted", means["permuted"], rewind, at, seeds) for at in ("2ep", "end")]
    values = {
        "schema": 1, "title": "A task", "preset": "ticketbench-made-up", "rows": rows,
        "environment": {"processor": "a processor", "cores": 2, "device": "cpu", "jobs": 2, "threads": 1,
                        "torch": "2.13", "date": "2026-11-28 04:00:00"},
        "cost": [{"kind": "sparse", "tasks": 9, "model_epochs": 9.0, "seconds": 90.0}],
    }  # fmt: skip
    return Results.of_json({**values, **sections})


def bench_task(name: str = "made-up", seeds: Sequence[int] = (0, 1, 2, 3), **changes: Any) -> BenchTask:
    """Return a task as `reticket bench` records it."""
    found = results(seeds=seeds, **changes)
    return task_of(name, len(GRID.seeds), found, claims_of(found, GRID))
