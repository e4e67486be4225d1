"""From a configuration to its tasks: pure planning, which touches no file and no tensor.

One network's training run is a **trajectory**: one task for each position whose weights somebody needs, each of which
resumes the one before. One chain of pruning rounds serves every sparsity, rewind point and method.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from reticket.errors import ConfigError
from reticket.experiment import Task
from reticket.lookup import nearest
from reticket.matching import MATCHERS
from reticket.models import model_params
from reticket.tasks.config import Config
from reticket.tickets.imp import STYLES, chain
from reticket.tickets.methods import Method, get_method
from reticket.training import Recipe, parse_position, steps_per_epoch

MATCHING_COST = 2.0  # in model-epochs, for the remaining-time estimate until a first one has been timed


@dataclass(frozen=True)
class Facts:
    """What planning must know of the data: who it is, how much of it there is, and the shape of one input.

    `model_code` stands for the code of a model that is not this package's own: who edits it gets new keys.
    """

    fingerprint: str
    train_size: int
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    model_code: str = ""


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
        self._common = {
            "data": {**config.data.model_dump(), "fingerprint": facts.fingerprint},
            "model": {
                "name": config.model.name,
                "params": model_params(config.model.name, facts.input_shape, len(facts.classes), **config.model.params),
                "code": facts.model_code,
            },
            "threads": threads,
        }
        self.epoch = steps_per_epoch(facts.train_size, config.dense.batch_size)
        self.end = config.dense.epochs * self.epoch
        for recipe in (config.dense.model_dump(), self._sparse_recipe(), self._round_recipe()):
            Recipe(**recipe)
        if config.matching.method not in MATCHERS:
            known = f"{nearest(config.matching.method, MATCHERS)}; known are {', '.join(MATCHERS)}"
            raise ConfigError(f"matching.method: unknown matcher '{config.matching.method}'{known}")
        self.methods = {name: get_method(name) for name in config.grid.methods}
        self.rewinds = {text: self._position(text, "grid.rewinds") for text in config.grid.rewinds}
        self._prune_rewind = self._position(config.prune.rewind, "prune.rewind")
        self._matched_at = {text: self._place(text, "grid.match_at") for text in config.grid.match_at}
        a_at = config.matching.a_at
        self._a_matched_at = None if a_at == "same" else self._place(a_at, "matching.a_at")
        self._chain = chain_of(config)
        self._trajectory = cache(self._make_trajectory)
        self._pruned = cache(self._make_pruned)
        self._match = cache(self._make_match)

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
        used = checks.barriers or checks.overlap or any("alignment" in m.needs for m in self.methods.values())
        return {at: tuple(self._match(s, s, at) for s in grid.seeds) for at in grid.match_at} if used else {}

    @cached_property
    def barriers(self) -> dict[BarrierCell, tuple[Task, ...]]:
        """Return the curves between networks: A to B, permuted A to B, dense A to IMP A at each sparsity."""
        if not self.config.checks.barriers:
            return {}
        found: dict[BarrierCell, tuple[Task, ...]] = {}
        seeds = self.config.grid.seeds
        for repair in (False, True):
            cells = [BarrierCell("A to B", repair, None)]
            cells += [BarrierCell("permuted A to B", repair, None, at) for at in self.config.grid.match_at]
            cells += [BarrierCell("dense A to IMP A", repair, sparsity) for sparsity in self.config.grid.sparsities]
            found |= {cell: tuple(self._barrier(seed, cell) for seed in seeds) for cell in cells}
        return found

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
                        "mask_a": self._pruned(("A", seed), density_of(sparsity)),
                        "mask_b": self._pruned(("B", seed), density_of(sparsity)),
                        "alignment": self._match(seed, seed, self.config.grid.match_at[0]),
                        "symmetry": self.symmetry,
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
        sparsity, rewind = self.config.checks.diversity_sparsity or max(grid.sparsities), grid.rewinds[-1]
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

    @property
    def targets(self) -> tuple[Task, ...]:
        """Return every task whose result the results file shows."""
        groups: list[Iterable[Task]] = [*self.runs.values(), *self.matchings.values(), *self.barriers.values()]
        groups += [*self.overlaps.values(), *self.members.values()]
        return tuple(task for group in groups for task in group)

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
            return self.dense("A", a)
        if cell.method == "imp":
            return self._pruned(("A", a), density_of(_present(cell.sparsity)))
        method, density = self.methods[cell.method], density_of(_present(cell.sparsity))
        start = self.rewinds[str(cell.rewind)]
        network = ("A", a) if method.network == "A" else ("B", b)
        inputs = self._needs(method, a, b, density, start, cell.match_at)
        spec = {
            **self._common,
            "method": cell.method,
            **self._choices(method, a, b),
            "recipe": self._sparse_recipe(),
            "start": start,
            "end": self.end,
            "order": _order(network, order),
        }
        where = f"{cell.sparsity:.0%}, {cell.rewind}, A{a}" + (f" to B{b}" if network[0] == "B" else "")
        where += _matched_at(cell.match_at)
        return Task(
            kind="sparse",
            version=1,
            spec=spec,
            inputs=inputs,
            label=f"{cell.method} {where}" + (f", order {order}" if order else ""),
            cost=(self.end - start) / self.epoch,
        )

    def _needs(
        self, method: Method, a: int, b: int, density: float, start: int, match_at: str | None
    ) -> dict[str, Task]:
        """Return the tasks that give what `method` needs; the randomness is in the spec."""
        sources: dict[str, Callable[[], dict[str, Task]]] = {
            "ticket": lambda: {"ticket": self._pruned(("A", a), density)},
            "pruned_a": lambda: {"ticket": self._pruned(("A", a), density)},
            "trained_a": lambda: {"trained_a": self._trajectory(("A", a), self.end)},
            "rewound_a": lambda: {"rewound_a": self._trajectory(("A", a), start)},
            "rewound_b": lambda: {"rewound_b": self._trajectory(("B", b), start)},
            "mask_b": lambda: {"mask_b": self._pruned(("B", b), density)},
            "alignment": lambda: {"alignment": self._match(a, b, str(match_at)), "symmetry": self.symmetry},
            "random_alignment": lambda: {"symmetry": self.symmetry},
            "generator": dict,
        }
        return {name: task for need in method.needs for name, task in sources[need]().items()}

    def _choices(self, method: Method, a: int, b: int) -> dict[str, Any]:
        """Return those settings of `method` that decide something for it."""
        choices: dict[str, Any] = {"frame": self.config.grid.frame} if "frame" in method.uses else {}
        if {"generator", "random_alignment"} & set(method.needs):
            choices["random"] = ["method", a, b]
        return choices

    def dense(self, network: str, seed: int) -> Task:
        """Return the end of the dense training of A or B of `seed`."""
        return self._trajectory((network, seed), self.end)

    @cached_property
    def symmetry(self) -> Task:
        """Return the discovery of the model's permutation symmetry."""
        spec = {"model": self._common["model"], "input_shape": list(self.facts.input_shape)}
        return Task(kind="symmetry", version=1, spec=spec, inputs={}, label="symmetry of the model", cost=1.0)

    def _make_trajectory(self, network: tuple[str, int], at: int) -> Task:
        earlier = [p for p in self._positions[network[0]] if p < at]
        before = earlier[-1] if earlier else 0
        spec = {
            **self._common,
            "recipe": self.config.dense.model_dump(),
            "network": list(network),
            "order": _order(network, 0),
            "at": at,
        }
        return Task(
            kind="dense",
            version=1,
            spec=spec,
            inputs={},
            resumes=(self._trajectory(network, before),) if at else (),
            label=f"dense {network[0]}{network[1]} to step {at} of {self.end}",
            cost=(at - before) / self.epoch,
        )

    def _make_pruned(self, network: tuple[str, int], density: float) -> Task:
        plan = self._chain[density]
        task = self._trajectory(network, self.end)
        for number, fraction in enumerate(plan, 1):
            task = self._round(network, task, number, fraction)
        return task

    def _round(self, network: tuple[str, int], previous: Task, number: int, density: float) -> Task:
        prune = self.config.prune.model_dump()
        inputs = {"previous": previous}
        style = STYLES[self.config.prune.style]
        replay = style.schedule == "dense"
        if style.weights == "rewound":
            inputs["rewound"] = self._trajectory(network, self._prune_rewind)
        own = ("epochs", "lr", "momentum", "weight_decay", "schedule", "rewind")
        spec = {
            **self._common,
            "prune": {key: value for key, value in prune.items() if key not in own},
            "recipe": self._round_recipe(),
            "start": self._prune_rewind if replay else 0,
            "density": density,
            "order": [*_order(network, 0), "round", number],
        }
        epochs = (self.end - self._prune_rewind) / self.epoch if replay else prune["epochs"]
        return Task(
            kind="prune-round",
            version=1,
            spec=spec,
            inputs=inputs,
            label=f"IMP {network[0]}{network[1]} round {number}, density {density:.3g}",
            cost=epochs,
        )

    def _sparse_recipe(self) -> dict[str, Any]:
        return {**self.config.dense.model_dump(), **self.config.sparse.model_dump()}

    def _round_recipe(self) -> dict[str, Any]:
        """Return the recipe of a retraining: its own for fine-tuning, the dense run's for either kind of rewinding."""
        dense, prune = self.config.dense.model_dump(), self.config.prune
        if STYLES[prune.style].schedule == "dense":
            return dense
        fields = ("epochs", "lr", "momentum", "weight_decay", "schedule")
        return {**dense, **{name: getattr(prune, name) for name in fields}, "warmup_epochs": 0}

    def _make_match(self, a: int, b: int, match_at: str) -> Task:
        matching = self.config.matching
        at_b = self._matched_at[match_at]
        at_a = at_b if self._a_matched_at is None else self._a_matched_at
        return Task(
            kind="match",
            version=1,
            spec={**self._common, **matching.model_dump(exclude={"a_at"})},
            inputs={
                "a": self._trajectory(("A", a), at_a),
                "b": self._trajectory(("B", b), at_b),
                "symmetry": self.symmetry,
            },
            label=f"matching A{a} to B{b}{_matched_at(match_at)}",
            cost=MATCHING_COST,
        )

    def _barrier(self, seed: int, cell: BarrierCell) -> Task:
        dense = self._trajectory(("A", seed), self.end)
        if cell.sparsity is None:
            inputs = {"a": dense, "b": self._trajectory(("B", seed), self.end)}
        else:
            inputs = {"a": dense, "b": self._pruned(("A", seed), density_of(cell.sparsity))}
        if cell.match_at is not None:
            inputs |= {"alignment": self._match(seed, seed, cell.match_at), "symmetry": self.symmetry}
        checks = self.config.checks
        spec = {
            **self._common,
            "alphas": checks.alphas,
            "repair": cell.repair,
            "samples": checks.barrier_samples,
            "batch_size": self.config.matching.batch_size,
        }
        label = f"barrier {cell.pair}{f' {cell.sparsity:.0%}' if cell.sparsity else ''}{_matched_at(cell.match_at)}"
        label += f"{' with REPAIR' if cell.repair else ''}, seed {seed}"
        return Task(kind="barrier", version=1, spec=spec, inputs=inputs, label=label, cost=checks.alphas * 0.3)

    # ---------------------------------------------------------------- positions

    @cached_property
    def _positions(self) -> dict[str, tuple[int, ...]]:
        """Return by network the positions somebody may need, in order."""
        wanted = {0, self.end, *self.rewinds.values()}
        if STYLES[self.config.prune.style].weights == "rewound":
            wanted.add(self._prune_rewind)
        at_b = set(self._matched_at.values())
        at_a = at_b if self._a_matched_at is None else {self._a_matched_at}
        return {"A": tuple(sorted(wanted | at_a)), "B": tuple(sorted(wanted | at_b))}

    def _place(self, text: str, where: str) -> int:
        """Return the step of a position on a trajectory, its end included."""
        step = self.end if text == "end" else parse_position(text, self.epoch)
        if step > self.end:
            raise ConfigError(
                f"{where}: {text} is step {step}, past the end of training at step {self.end} "
                f"({self.config.dense.epochs} epochs of {self.epoch} steps); choose an earlier one, or 'end'"
            )
        return step

    def _position(self, text: str, where: str) -> int:
        step = parse_position(text, self.epoch)
        if step >= self.end:
            raise ConfigError(
                f"{where}: rewind point {text} is step {step}, at or past the end of training at step {self.end} "
                f"({self.config.dense.epochs} epochs of {self.epoch} steps); choose an earlier one"
            )
        return step


def chain_of(config: Config) -> dict[float, tuple[float, ...]]:
    """Return for every target density the densities of the rounds that lead to it, the target last."""
    plan = chain([density_of(s) for s in config.grid.sparsities], config.prune.rate)
    return {leaf.density: (*plan.densities[1 : leaf.branches_from + 1], leaf.density) for leaf in plan.leaves}


def density_of(sparsity: float) -> float:
    """Return the fraction kept, free of the last bits of 1 - sparsity.

    >>> density_of(0.9)
    0.1
    """
    return round(1 - sparsity, 12)


def member_seeds(seeds: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return `count` seeds for the members of an ensemble: those of the table first, then fresh ones.

    >>> member_seeds((0, 3), 4)
    (0, 3, 4, 5)
    """
    fresh = range(max(seeds) + 1, max(seeds) + 1 + count)
    return (*seeds, *fresh)[:count]


def _matched_at(place: str | None) -> str:
    return "" if place in (None, "end") else f" matched at {place}"


def _order(network: tuple[str, int], order: int) -> list[str | int]:
    return [*network, "order", order]


def _present(sparsity: float | None) -> float:
    if sparsity is None:
        raise ConfigError("a pruned network needs a sparsity")
    return sparsity
