"""The table of an experiment as tasks: pure planning, which touches no file and no tensor.

`networks` has the tasks that make the networks; `blueprint` adds what checks need.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from reticket.errors import ConfigError, InputError
from reticket.experiment import Task
from reticket.models.code import code_outside
from reticket.tasks.config import Config
from reticket.tasks.dynamics import check_dynamics, dynamics_spec
from reticket.tasks.method_inputs import MATCHED, examples_spec
from reticket.tasks.networks import Facts, Networks, density_of, matched_text, rng_label_of
from reticket.tickets.choice import Choice

OLDER = ("signed", "naive-signed")  # than their options: at its defaults their results keep their keys


@dataclass(frozen=True)
class Cell:
    """One cell of the table; a field is None where the method has none.

    Args:
        method: the text of its choice, `str(Choice)`: a name, with options and dynamics where it has any.
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
        ConfigError: for a rewind point past the end, an unknown method, dynamics or option, or a method that stands
            there twice.
    """

    def __init__(self, config: Config, facts: Facts, *, threads: int = 1) -> None:
        self.config = config
        self.facts = facts
        self.networks = Networks(config, facts, threads=threads)
        self.choices = _choices(config)
        self.methods = {text: choice.chosen_method for text, choice in self.choices.items()}
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
            places = grid.match_at if "alignment" in self.choices[name].needs else (None,)
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
        choice, density = self.choices[cell.method], density_of(_present(cell.sparsity))
        start = self.networks.rewinds[str(cell.rewind)]
        network = ("A", a) if choice.chosen_method.network == "A" else ("B", b)
        inputs = self._needs(choice, a, b, density, start, cell.match_at)
        spec = {
            **self.networks.common,
            "method": choice.method,
            **self._decisive(choice, a, b, density),
            **dynamics_spec(choice, density, self.networks.end - start, self.config.prune.scope),
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
        self, choice: Choice, a: int, b: int, density: float, start: int, match_at: str | None
    ) -> dict[str, Task]:
        """Return the tasks that give what a method needs; the randomness is in the spec."""
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
        return {name: task for need in choice.needs for name, task in sources[need]().items()}

    def _decisive(self, choice: Choice, a: int, b: int, density: float) -> dict[str, Any]:
        """Return those settings of a method that decide something for it."""
        method = choice.chosen_method
        choices: dict[str, Any] = {"frame": self.config.grid.frame} if "frame" in method.uses else {}
        if {"generator", "random_alignment"} & set(choice.needs):
            choices["random"] = ["method", a, b]
        if "target" in choice.needs:
            choices["target"] = self.networks.target(density)
        if {"batches", "correlations"} & set(choice.needs):
            choices["examples"] = examples_spec(b)
        if choice.options or (method.options and method.name not in OLDER):
            choices["options"] = method.options.settings(choice.options)
        if code := self._code(method.function):  # of an installed package or a script
            choices["code"] = code
        return choices


def _choices(config: Config) -> dict[str, Choice]:
    """Return the methods of the grid by their one text."""
    found: dict[str, Choice] = {}
    for text in config.grid.methods:
        try:
            choice = Choice.parse(text)
        except InputError as problem:
            raise ConfigError(f"grid.methods: {problem}") from None
        if str(choice) in found:
            raise ConfigError(f"grid.methods: '{text}' is '{choice}', which stands there twice; leave one out")
        check_dynamics(choice, config.dense, config.prune.pattern)
        if choice.chosen_method.single and config.prune.pattern is not None:
            raise ConfigError(
                f"grid.methods: '{choice}' chooses weight by weight, which breaks prune.pattern "
                f"{config.prune.pattern}; leave one of them out"
            )
        found[str(choice)] = choice
    return found


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
