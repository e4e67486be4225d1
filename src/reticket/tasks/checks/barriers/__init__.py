"""Loss and accuracy along the straight line between two networks, with and without REPAIR."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from reticket.experiment import Result, Task
from reticket.figures.columns import MATCHED, SPARSITY, N
from reticket.figures.finding import Finding
from reticket.figures.table import column, measured
from reticket.tasks.cells import Runs
from reticket.tasks.check import Check, register, settings_in
from reticket.tasks.checks.barriers.figure import WORDS, barriers
from reticket.tasks.checks.barriers.line import Barrier, run_barrier
from reticket.tasks.declared import CheckSettings
from reticket.tasks.networks import density_of, matched_text, sparsity_of
from reticket.tasks.results import Results
from reticket.tasks.stored import Stored, stat_of
from reticket.tasks.work import Sizes, Work

Pair = Literal["A to B", "permuted A to B", "dense A to IMP A"]


class BarrierSettings(CheckSettings):
    """Which lines are walked, and how finely."""

    barriers: bool | tuple[Pair, ...] = Field(default=True, description="the pairs of networks, all of them, or none")
    rounds: bool = Field(
        default=False, description="dense A to IMP A after every round of pruning, not at the targets alone"
    )
    alphas: int = Field(default=11, ge=3, le=1001, description="points on a line, both ends included")
    barrier_samples: int | None = Field(default=None, ge=1, description="images of each part of the data; null for all")

    @property
    def pairs(self) -> tuple[str, ...]:
        """Return the pairs of networks between which barriers are measured."""
        return get_args(Pair) if self.barriers is True else self.barriers or ()


@dataclass(frozen=True)
class BarrierCell:
    """One curve: which pair of networks, at which sparsity, with or without REPAIR, with which alignment."""

    pair: str
    repair: bool
    sparsity: float | None
    match_at: str | None = None


@register
class Barriers(Check):
    """Barriers between networks: A to B, permuted A to B, dense A to IMP A at each sparsity or round."""

    name = "barriers"
    place = 10
    settings = BarrierSettings
    sections: ClassVar = {"barriers": Barrier}
    runners: ClassVar = {"barrier": run_barrier}
    title = "Barriers along the straight line"
    about = "If the permutation is right, the two networks lie in one basin, and mixing them costs little."
    columns: ClassVar = {
        "barriers": (
            column("pair", "pair", lambda pair: str(WORDS.get(pair, pair))),
            SPARSITY,
            MATCHED,
            column("repair", "REPAIR", lambda repaired: "yes" if repaired else "no"),
            measured("loss_barrier", "loss barrier (nats)", 3),
            replace(
                measured("accuracy_barrier", "accuracy barrier (points)", 2),
                shown=lambda rows: any(row.accuracy_barrier.mean is not None for row in rows),
            ),
            N,
        )
    }

    def tasks(self, plan: Runs) -> Mapping[BarrierCell, tuple[Task, ...]]:
        """Return the curves, one task a seed."""
        grid, settings = plan.config.grid, settings_in(plan, BarrierSettings)
        rounds = {sparsity_of(density) for density in plan.networks.rounds} if settings.rounds else set()
        places: dict[str, list[tuple[float | None, str | None]]] = {
            "A to B": [(None, None)],
            "permuted A to B": [(None, at) for at in grid.match_at],
            "dense A to IMP A": [(sparsity, None) for sparsity in sorted(rounds | set(grid.sparsities))],
        }
        cells = [
            BarrierCell(pair, repair, *place)
            for repair in (False, True)
            for pair in settings.pairs
            for place in places[pair]
        ]
        return {cell: tuple(_task(plan, settings, seed, cell) for seed in grid.seeds) for cell in cells}

    def work(self, task: Task, sizes: Sizes) -> Work:
        """Return its evaluations; REPAIR passes over its images once at every alpha and once at both ends."""
        return _work(task.spec, sizes)

    def results(self, found: Stored, tasks: Mapping[BarrierCell, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return every curve between two networks, one line a seed."""
        known = [(cell, results) for cell, mine in tasks.items() if (results := found.present(mine))]
        return {"barriers": [_row(cell, results) for cell, results in known]}

    def finding(self, results: Results) -> Finding | None:
        """Return the curves: the dense pairs together, each pair that has sparsities at its highest, and its way."""
        return barriers(results)


def _task(plan: Runs, settings: BarrierSettings, seed: int, cell: BarrierCell) -> Task:
    networks = plan.networks
    end = networks.dense("B", seed) if cell.sparsity is None else _pruned_or_round(plan, seed, cell.sparsity)
    inputs = {"a": networks.dense("A", seed), "b": end}
    if cell.match_at is not None:
        inputs |= {"alignment": networks.match(seed, seed, cell.match_at), "symmetry": networks.symmetry}
    spec = {
        **networks.common,
        "alphas": settings.alphas,
        "repair": cell.repair,
        "samples": settings.barrier_samples,
        "batch_size": plan.config.matching.batch_size,
    }
    label = f"barrier {cell.pair}{f' {cell.sparsity:.0%}' if cell.sparsity else ''}{matched_text(cell.match_at)}"
    label += f"{' with REPAIR' if cell.repair else ''}, seed {seed}"
    version = 3 if cell.repair else 2  # REPAIR meets its targets since 3
    cost = _work(spec, plan.facts.sizes).cost(plan.facts.train_size)
    return Task(kind="barrier", version=version, spec=spec, inputs=inputs, label=label, cost=cost)


def _work(spec: Mapping[str, Any], sizes: Sizes) -> Work:
    train, test = (min(spec["samples"] or size, size) for size in (sizes.train, sizes.test))
    return Work(evaluated=spec["alphas"] * test + ((spec["alphas"] + 2) * train if spec["repair"] else 0))


def _pruned_or_round(plan: Runs, seed: int, sparsity: float) -> Task:
    if sparsity in plan.config.grid.sparsities:
        return plan.networks.pruned(("A", seed), density_of(sparsity))
    number = [sparsity_of(density) for density in plan.networks.rounds].index(sparsity) + 1
    return plan.networks.round(("A", seed), number)


def _row(cell: BarrierCell, results: Sequence[Result]) -> Barrier:
    return Barrier(
        pair=cell.pair,
        repair=cell.repair,
        sparsity=cell.sparsity,
        match_at=cell.match_at,
        n=len(results),
        alphas=results[0].values["alphas"],
        loss=tuple(r.values["loss"] for r in results),
        accuracy=tuple(r.values["accuracy"] for r in results if "accuracy" in r.values),
        loss_barrier=stat_of([r.values["loss_barrier"] for r in results]),
        accuracy_barrier=stat_of([r.values["accuracy_barrier"] for r in results if "accuracy_barrier" in r.values]),
        keys=tuple(r.key for r in results),
    )
