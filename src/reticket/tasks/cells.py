"""The table of an experiment as tasks: pure planning, which touches no file and no tensor.

`networks` has the tasks that make the networks; `blueprint` adds what checks need.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from reticket.errors import ConfigError
from reticket.experiment import Task
from reticket.models.code import code_outside
from reticket.tasks.config import Config
from reticket.tasks.method_inputs import MATCHED, examples_spec
from reticket.tasks.networks import Facts, Networks, density_of, matched_text, rng_label_of
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


class Runs:
    """The cells of the table with the task of every seed; what a check may ask for when it plans its own.

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
        self._code = cache(code_outside)

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

    def planned(self, *, but: str) -> Iterable[Task]:
        """Return the tasks whose results are wanted for anything else than the check named `but`."""
        return (task for tasks in self.runs.values() for task in tasks)

    # ---------------------------------------------------------------- single tasks

    def run(self, cell: Cell, a: int, b: int, repeat: int = 0) -> Task:
        """Return the task that gives `cell`'s accuracy for the pair of networks (A of seed `a`, B of seed `b`).

        Args:
            cell: which method, where.
            a: the seed whose A the ticket comes from.
            b: the seed whose B is trained.
            repeat: 0 for the network's own order of the data; other numbers are fresh orders.
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
            **self._choices(method, a, b, density),
            "recipe": self.networks.recipe(self.config.sparse_recipe),
            "start": start,
            "end": self.networks.end,
            "order": rng_label_of(network, repeat),
        }
        where = f"{cell.sparsity:.0%}, {cell.rewind}, A{a}" + (f" to B{b}" if network[0] == "B" else "")
        where += matched_text(cell.match_at)
        return Task(
            kind="sparse",
            version=self.networks.training_version(self.config.sparse_recipe, start),
            spec=spec,
            inputs=inputs,
            label=f"{cell.method} {where}" + (f", order {repeat}" if repeat else ""),
            cost=self.networks.training_cost((self.networks.end - start) / self.networks.epoch),
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
            "trained_b": lambda: {"trained_b": self.networks.at(("B", b), self.networks.end)},
            "mask_b": lambda: {"mask_b": self.networks.pruned(("B", b), density)},
            "alignment": lambda: {
                "alignment": self.networks.match(a, b, str(match_at), (density, start)),
                "symmetry": self.networks.symmetry,
            },
            "random_alignment": lambda: {"symmetry": self.networks.symmetry},
            "correlations": lambda: {
                MATCHED + name: task
                for name, task in self.networks.match(a, b, str(match_at), (density, start)).inputs.items()
                if name not in ("symmetry", "start", "ticket", "rewound_b")
            },
            **dict.fromkeys(("generator", "target", "model", "batches", "example_inputs"), dict),
        }
        return {name: task for need in method.needs for name, task in sources[need]().items()}

    def _choices(self, method: Method, a: int, b: int, density: float) -> dict[str, Any]:
        """Return those settings of `method` that decide something for it."""
        choices: dict[str, Any] = {"frame": self.config.grid.frame} if "frame" in method.uses else {}
        if {"generator", "random_alignment"} & set(method.needs):
            choices["random"] = ["method", a, b]
        if "target" in method.needs:
            choices["target"] = self.networks.target(density)
        if {"batches", "correlations"} & set(method.needs):
            choices["examples"] = examples_spec(b)
        if code := self._code(method.function):  # of an installed package or a script
            choices["code"] = code
        return choices


def _present(sparsity: float | None) -> float:
    if sparsity is None:
        raise ConfigError("a pruned network needs a sparsity")
    return sparsity
