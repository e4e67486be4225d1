"""From a configuration to its tasks: pure planning, which touches no file and no tensor.

Every task stands under the role it plays in the results; `networks` has the tasks that make the networks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reticket.errors import ConfigError
from reticket.experiment import Task
from reticket.experiment.task import closure
from reticket.models.code import code_outside
from reticket.tasks.config import Config
from reticket.tasks.networks import Facts, Networks, density_of, matched_text, order_of, sparsity_of
from reticket.tickets.methods import Method, get_method


@dataclass(frozen=True)
class Cell:
    """One cell of the table; a field is None where the method has none.

    Args:
        method: its name.
        sparsity: fraction pruned.
        rewind: the position from which the sparse network is trained.
        match_at: for methods that use the alignment, the position of B's training at which it was found.
    """

    method: str
    sparsity: float | None
    rewind: str | None
    match_at: str | None = None


@dataclass(frozen=True)
class BarrierCell:
    """One curve: which pair of networks, at which sparsity, with or without REPAIR, with which alignment."""

    pair: str
    repair: bool
    sparsity: float | None
    match_at: str | None = None


class Blueprint:
    """Every task of an experiment under the role it plays in the results.

    Args:
        config: the checked configuration.
        facts: what the data are.
        threads: the threads a task computes with; part of every key, because it changes bits.

    Raises:
        ConfigError: for a rewind point past the end or an unknown method.
    """

    def __init__(self, config: Config, facts: Facts, *, threads: int = 1) -> None:
        self.config = config
        self.facts = facts
        self.networks = Networks(config, facts, threads=threads)
        self.methods = {name: get_method(name) for name in config.grid.methods}

    # ---------------------------------------------------------------- the roles

    @cached_property
    def runs(self) -> dict[Cell, tuple[Task, ...]]:
        """Return for every cell of the table one task a seed."""
        return {cell: tuple(self.run(cell, seed, seed) for seed in self.config.grid.seeds) for cell in self.cells}

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return the table's cells: `dense` once, `imp` once a sparsity, the others at every rewind point too.

        Methods that use the alignment have one cell for each position at which it is found.
        """
        grid, cells = self.config.grid, []
        for name, method in self.methods.items():
            sparsities = grid.sparsities if method.sparse else (None,)
            rewinds = grid.rewinds if method.trains else (None,)
            places = grid.match_at if "alignment" in method.needs else (None,)
            cells += [Cell(name, s, rewind, at) for s in sparsities for rewind in rewinds for at in places]
        return tuple(cells)

    @cached_property
    def matchings(self) -> dict[str, tuple[Task, ...]]:
        """Return by position of B the matching of A onto B, one task a seed, where anything uses it."""
        grid, checks = self.config.grid, self.config.checks
        used = (
            "permuted A to B" in checks.pairs
            or checks.overlap
            or any("alignment" in m.needs for m in self.methods.values())
        )
        return {at: tuple(self.networks.match(s, s, at) for s in grid.seeds) for at in grid.match_at} if used else {}

    @cached_property
    def barriers(self) -> dict[BarrierCell, tuple[Task, ...]]:
        """Return the curves between networks: A to B, permuted A to B, dense A to IMP A at each sparsity or round."""
        grid, checks = self.config.grid, self.config.checks
        pruned: list[float] = sorted(self._rounds | set(grid.sparsities))
        places: dict[str, list[tuple[float | None, str | None]]] = {
            "A to B": [(None, None)],
            "permuted A to B": [(None, at) for at in grid.match_at],
            "dense A to IMP A": [(sparsity, None) for sparsity in pruned],
        }
        cells = [
            BarrierCell(pair, repair, *place)
            for repair in (False, True)
            for pair in checks.pairs
            for place in places[pair]
        ]
        return {cell: tuple(self._barrier(seed, cell) for seed in grid.seeds) for cell in cells}

    @property
    def _rounds(self) -> set[float]:
        """Return the sparsities of the pruning rounds, where the lines to them are wanted."""
        return {sparsity_of(density) for density in self.networks.rounds} if self.config.checks.rounds else set()

    @cached_property
    def overlaps(self) -> dict[float, tuple[Task, ...]]:
        """Return the comparison of A's mask, moved and unmoved, with B's own mask, by sparsity."""
        if not self.config.checks.overlap:
            return {}
        return {
            sparsity: tuple(
                Task(
                    kind="overlap",
                    version=1,
                    spec={},
                    inputs={
                        "mask_a": self.networks.pruned(("A", seed), density_of(sparsity)),
                        "mask_b": self.networks.pruned(("B", seed), density_of(sparsity)),
                        "alignment": self.networks.match(seed, seed, self.config.grid.match_at[0]),
                        "symmetry": self.networks.symmetry,
                    },
                    label=f"overlap of masks at {sparsity:.0%}, seed {seed}",
                    cost=0.05,
                )
                for seed in self.config.grid.seeds
            )
            for sparsity in self.config.grid.sparsities
        }

    @cached_property
    def members(self) -> dict[Cell, tuple[Task, ...]]:
        """Return the ensembles of the paper's protocol: one ticket, several networks.

        Member j trains A's first ticket on the j-th B. LTH has one initialisation only: its members differ by the order
        of the data. `dense` and `imp` have no ticket to share; their members are independent runs.
        """
        count, grid = self.config.checks.diversity_members, self.config.grid
        if count < 2:
            return {}
        first, others = grid.seeds[0], member_seeds(grid.seeds, count)
        sparsity, rewind = self._diversity_at
        found: dict[Cell, tuple[Task, ...]] = {}
        for name, method in self.methods.items():
            if method.trains and method.network == "A":
                cell = Cell(name, sparsity, rewind)
                found[cell] = tuple(self.run(cell, first, first, order=member) for member in range(count))
            elif method.trains and name != "imp-b":
                places = grid.match_at if "alignment" in method.needs else (None,)
                for cell in (Cell(name, sparsity, rewind, at) for at in places):
                    found[cell] = tuple(self.run(cell, first, other) for other in others)
        return found

    @cached_property
    def independent(self) -> dict[Cell, tuple[Task, ...]]:
        """Return the ensemble of independent runs of `imp`, where it has a number of members of its own."""
        count, sparsity = self.config.checks.independent_members, self._diversity_at[0]
        if count < 2 or "imp" not in self.methods:
            return {}
        cell = Cell("imp", sparsity, None)
        return {cell: tuple(self.run(cell, seed, seed) for seed in member_seeds(self.config.grid.seeds, count))}

    @property
    def _diversity_at(self) -> tuple[float, str]:
        grid, checks = self.config.grid, self.config.checks
        return checks.diversity_sparsity or max(grid.sparsities), checks.diversity_rewind or grid.rewinds[-1]

    @property
    def targets(self) -> tuple[Task, ...]:
        """Return every task whose result the results file shows."""
        groups: list[Iterable[Task]] = [*self.runs.values(), *self.matchings.values(), *self.barriers.values()]
        groups += [*self.overlaps.values(), *self.members.values(), *self.independent.values()]
        return tuple(task for group in groups for task in group)

    @property
    def compared(self) -> tuple[Task, ...]:
        """Return the dense networks that the results hold others against, as far as a target needs them.

        They are no targets of their own: what does not need them trains none. But where they are there, the results
        read them, so a run has to see that they are whole.
        """
        planned = {task.key for task in closure(self.targets)}
        both = (self.networks.dense(side, seed) for side in ("A", "B") for seed in self.config.grid.seeds)
        return tuple(task for task in both if task.key in planned)

    # ---------------------------------------------------------------- single tasks

    def run(self, cell: Cell, a: int, b: int, order: int = 0) -> Task:
        """Return the task that gives `cell`'s accuracy for the pair of networks (A of seed `a`, B of seed `b`).

        Args:
            cell: which method, where.
            a: the seed whose A the ticket comes from.
            b: the seed whose B is trained.
            order: 0 for the network's own order of the data; other numbers are fresh orders.
        """
        if cell.method == "dense":
            return self.networks.dense("A", a)
        if cell.method == "imp":
            return self.networks.pruned(("A", a), density_of(_present(cell.sparsity)))
        method, density = self.methods[cell.method], density_of(_present(cell.sparsity))
        start = self.networks.rewinds[str(cell.rewind)]
        network = ("A", a) if method.network == "A" else ("B", b)
        inputs = self._needs(method, a, b, density, start, cell.match_at)
        spec = {
            **self.networks.common,
            "method": cell.method,
            **self._choices(method, a, b),
            "recipe": self.networks.sparse_recipe,
            "start": start,
            "end": self.networks.end,
            "order": order_of(network, order),
        }
        where = f"{cell.sparsity:.0%}, {cell.rewind}, A{a}" + (f" to B{b}" if network[0] == "B" else "")
        where += matched_text(cell.match_at)
        return Task(
            kind="sparse",
            version=self.networks.training_version(self.networks.sparse_recipe, start),
            spec=spec,
            inputs=inputs,
            label=f"{cell.method} {where}" + (f", order {order}" if order else ""),
            cost=(self.networks.end - start) / self.networks.epoch,
        )

    def _needs(
        self, method: Method, a: int, b: int, density: float, start: int, match_at: str | None
    ) -> dict[str, Task]:
        """Return the tasks that give what `method` needs; the randomness is in the spec."""
        sources: dict[str, Callable[[], dict[str, Task]]] = {
            "ticket": lambda: {"ticket": self.networks.pruned(("A", a), density)},
            "pruned_a": lambda: {"ticket": self.networks.pruned(("A", a), density)},
            "trained_a": lambda: {"trained_a": self.networks.at(("A", a), self.networks.end)},
            "rewound_a": lambda: {"rewound_a": self.networks.at(("A", a), start)},
            "rewound_b": lambda: {"rewound_b": self.networks.at(("B", b), start)},
            "mask_b": lambda: {"mask_b": self.networks.pruned(("B", b), density)},
            "alignment": lambda: {
                "alignment": self.networks.match(a, b, str(match_at)),
                "symmetry": self.networks.symmetry,
            },
            "random_alignment": lambda: {"symmetry": self.networks.symmetry},
            "generator": dict,
        }
        return {name: task for need in method.needs for name, task in sources[need]().items()}

    def _choices(self, method: Method, a: int, b: int) -> dict[str, Any]:
        """Return those settings of `method` that decide something for it."""
        choices: dict[str, Any] = {"frame": self.config.grid.frame} if "frame" in method.uses else {}
        if {"generator", "random_alignment"} & set(method.needs):
            choices["random"] = ["method", a, b]
        if code := code_outside(method.function):  # of an installed package or a script
            choices["code"] = code
        return choices

    def _pruned_or_round(self, network: tuple[str, int], sparsity: float) -> Task:
        if sparsity in self.config.grid.sparsities:
            return self.networks.pruned(network, density_of(sparsity))
        number = [sparsity_of(density) for density in self.networks.rounds].index(sparsity) + 1
        return self.networks.round(network, number)

    def _barrier(self, seed: int, cell: BarrierCell) -> Task:
        dense = self.networks.at(("A", seed), self.networks.end)
        if cell.sparsity is None:
            inputs = {"a": dense, "b": self.networks.at(("B", seed), self.networks.end)}
        else:
            inputs = {"a": dense, "b": self._pruned_or_round(("A", seed), cell.sparsity)}
        if cell.match_at is not None:
            inputs |= {"alignment": self.networks.match(seed, seed, cell.match_at), "symmetry": self.networks.symmetry}
        checks = self.config.checks
        spec = {
            **self.networks.common,
            "alphas": checks.alphas,
            "repair": cell.repair,
            "samples": checks.barrier_samples,
            "batch_size": self.config.matching.batch_size,
        }
        label = f"barrier {cell.pair}{f' {cell.sparsity:.0%}' if cell.sparsity else ''}{matched_text(cell.match_at)}"
        label += f"{' with REPAIR' if cell.repair else ''}, seed {seed}"
        version = 3 if cell.repair else 2  # REPAIR meets its targets since 3
        return Task(kind="barrier", version=version, spec=spec, inputs=inputs, label=label, cost=checks.alphas * 0.3)


def member_seeds(seeds: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return `count` seeds for the members of an ensemble: those of the table first, then fresh ones.

    >>> member_seeds((0, 3), 4)
    (0, 3, 4, 5)
    """
    fresh = range(max(seeds) + 1, max(seeds) + 1 + count)
    return (*seeds, *fresh)[:count]


def _present(sparsity: float | None) -> float:
    if sparsity is None:
        raise ConfigError("a pruned network needs a sparsity")
    return sparsity
