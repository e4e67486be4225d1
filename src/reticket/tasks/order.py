"""The order of work: what decides the promised order of the methods first, seed by seed."""

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from reticket.experiment import Task
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.results_builder import ORDER

DECISIVE = frozenset(chain.from_iterable(ORDER))


def by_seed(blueprints: Sequence[Blueprint]) -> list[list[Task]]:
    """Return the targets of experiments in stages, as `Plan.of` takes them.

    First LTH, permuted and naive of the first seed, then those of the second, and so on; then the rest of the table,
    seed by seed; then the checks. A run that is cut short so has fewer seeds of every cell that decides something, not
    cells without any. Stages only rank what could start: while a seed has nothing that may start, the next one goes on.

    Args:
        blueprints: of the experiments, which go side by side.
    """
    decisive = [_seeds_of(blueprint, DECISIVE) for blueprint in blueprints]
    table = [_seeds_of(blueprint, blueprint.methods) for blueprint in blueprints]
    stages = [
        [*chain.from_iterable(seeds)] for found in (decisive, table) for seeds in zip_longest(*found, fillvalue=())
    ]
    return [*stages, [task for blueprint in blueprints for task in blueprint.targets]]


def _seeds_of(blueprint: Blueprint, methods: Iterable[str]) -> list[tuple[Task, ...]]:
    """Return by seed the runs of some methods in every cell that they have."""
    chosen = set(methods)
    return list(zip(*(tasks for cell, tasks in blueprint.runs.items() if cell.method in chosen), strict=True))
