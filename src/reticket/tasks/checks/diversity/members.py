"""Which ensembles there are, and whose networks are their members: of one ticket, of several, of independent runs."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pydantic import Field

from reticket.errors import ConfigError
from reticket.experiment import Task
from reticket.tasks.cells import Cell, Runs, member_seeds
from reticket.tasks.check import settings_in
from reticket.tasks.declared import CheckSettings
from reticket.tasks.section import Fraction, Position


class DiversitySettings(CheckSettings):
    """Which ensembles are trained besides those that the table's seeds make.

    An ensemble of `diversity_members` from one ticket costs one sparse run less than that a method. With several
    tickets the seeds of the table fall into as many groups of that size: each group has its first seed's ticket, and
    its independent runs are an ensemble of their own.
    """

    diversity_members: int = Field(
        default=0, ge=0, le=1000, description="members that share one ticket; below 2 none are trained"
    )
    diversity_tickets: int = Field(
        default=1, ge=1, le=1000, description="tickets, each with an ensemble of its own, of seeds that no other has"
    )
    diversity_sparsity: Fraction | None = Field(default=None, description="one of the table's; null for the highest")
    diversity_rewind: Position | None = Field(default=None, description="one of the table's; null for the last")
    independent_members: int = Field(
        default=0, ge=0, le=1000, description="runs of imp, each with a network of its own; 0: the seeds"
    )


class Ensemble(NamedTuple):
    """One ensemble that is trained for this check: how its members come about, and the cell they stand for."""

    protocol: str
    cell: Cell


def ensembles(plan: Runs) -> dict[Ensemble, tuple[Task, ...]]:
    """Return the members of every ensemble that is trained for this check, those of one ticket after the other.

    Args:
        plan: the table of the experiment, and the networks it is made of.

    Raises:
        ConfigError: when the table has too few seeds for the tickets.
    """
    return {**_one_ticket(plan), **_independent(plan)}


def groups_of(members: Sequence[Task], settings: DiversitySettings) -> tuple[tuple[Task, ...], ...]:
    """Return the members of each ticket: all of them where there is one, else as many groups as tickets.

    Args:
        members: of an ensemble, or the runs of the table, by seed.
        settings: of the check.
    """
    size, count = settings.diversity_members, settings.diversity_tickets
    return _cut(tuple(members), size, count) if count > 1 else (tuple(members),)


T = TypeVar("T")


def _cut(items: tuple[T, ...], size: int, count: int) -> tuple[tuple[T, ...], ...]:
    return tuple(items[start : start + size] for start in range(0, size * count, size))


def _one_ticket(plan: Runs) -> dict[Ensemble, tuple[Task, ...]]:
    """Return the ensembles of the paper's protocol.

    Member j trains A's ticket, of the first seed of a group, on the j-th B of the group. LTH has one initialisation
    only: its members differ by the order of the data. `dense`, `imp` and what needs no ticket, as `one-shot`, have none
    to share; their members are independent runs.
    """
    settings, grid = settings_in(plan, DiversitySettings), plan.config.grid
    if settings.diversity_members < 2:
        return {}
    sparsity, rewind = _where(plan)
    groups = _seed_groups(settings, grid.seeds)
    found: dict[Ensemble, tuple[Task, ...]] = {}
    for name, method in plan.methods.items():
        if method.trains and method.network == "A":
            cell = Cell(name, sparsity, rewind)
            found[Ensemble("one ticket", cell)] = tuple(
                plan.run(cell, group[0], group[0], repeat=member) for group in groups for member in range(len(group))
            )
        elif method.trains and "ticket" in plan.choices[name].needs:
            places = grid.match_at if "alignment" in plan.choices[name].needs else (None,)
            for cell in (Cell(name, sparsity, rewind, at) for at in places):
                found[Ensemble("one ticket", cell)] = tuple(
                    plan.run(cell, group[0], other) for group in groups for other in group
                )
    return found


def _independent(plan: Runs) -> dict[Ensemble, tuple[Task, ...]]:
    """Return the ensemble of independent runs of `imp`, where it has a number of members of its own."""
    settings, grid = settings_in(plan, DiversitySettings), plan.config.grid
    count = settings.independent_members
    if count < 2 or "imp" not in plan.methods or settings.diversity_tickets > 1:
        return {}
    cell = Cell("imp", _where(plan)[0], None)
    return {Ensemble("independent", cell): tuple(plan.run(cell, one, one) for one in member_seeds(grid.seeds, count))}


def _seed_groups(settings: DiversitySettings, seeds: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the seeds of every ticket's members, that of the ticket first; only one ticket's may be fresh ones."""
    size, count = settings.diversity_members, settings.diversity_tickets
    if count == 1:
        return (member_seeds(seeds, size),)
    if len(seeds) < size * count:
        raise ConfigError(
            f"checks.diversity_tickets: {count} tickets of {size} members each need {size * count} seeds, but "
            f"grid.seeds has {len(seeds)}; give more seeds, or fewer tickets or members"
        )
    return _cut(seeds, size, count)


def _where(plan: Runs) -> tuple[float, str]:
    settings, grid = settings_in(plan, DiversitySettings), plan.config.grid
    return settings.diversity_sparsity or max(grid.sparsities), settings.diversity_rewind or grid.rewinds[-1]
