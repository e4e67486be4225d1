"""Runs of one ticket on several networks, carried back to the ticket's frame and averaged: one sparse network again."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field

from reticket.analysis import diversity as diversity_of
from reticket.connectivity import soup
from reticket.errors import ConfigError
from reticket.experiment import Context, Output, Result, Task
from reticket.figures.chart import Dot, dot_of, labelled_dots, name_room, row_height
from reticket.figures.columns import PLACE, N
from reticket.figures.finding import Finding
from reticket.figures.looks import PALETTE, label
from reticket.figures.spec import FigureSpec, LegendEntry, Panel
from reticket.figures.table import column, measured
from reticket.figures.text import PERCENT, number, percent, position, rewound
from reticket.records import Measured, Stat
from reticket.tasks.cells import Cell, Runs, member_seeds
from reticket.tasks.check import Check, register, settings_in
from reticket.tasks.declared import CheckSettings
from reticket.tasks.inputs import alignment_of, dataset_for, model_for, reading_for, required_mask
from reticket.tasks.networks import density_of
from reticket.tasks.results import Results
from reticket.tasks.rows import KEYS, CellRecord
from reticket.tasks.section import Fraction, Position
from reticket.tasks.stored import Stored, place_of, stat_of
from reticket.tasks.tensors import MASK, WEIGHTS, named, stripped
from reticket.tasks.work import Sizes, Work
from reticket.training import evaluate

FIELDS = {  # of the figure: what is said of each, its colour and its mark
    "mean_accuracy": ("mean of the members", "soft", "o"),
    "soup_accuracy": ("soup", "naive", "s"),
    "repaired_accuracy": ("soup with REPAIR", "permuted", "D"),
    "ensemble_accuracy": ("ensemble", "lth", "^"),
}
KEEPING = ("lth", "permuted", "signed", "naive", "naive-signed")
"""Methods whose runs all have A's mask, up to the alignment, unless dynamics change it."""


class SoupSettings(CheckSettings):
    """Which runs are averaged."""

    soup_members: int = Field(
        default=0, ge=0, le=1000, description="runs of one ticket that are averaged, 2 or more; 0 for no soups"
    )
    soup_tickets: int = Field(default=1, ge=1, description="tickets of which a soup is made, those of the first seeds")
    soup_sparsity: Fraction | None = Field(default=None, description="one of the table's; null for the highest")
    soup_rewind: Position | None = Field(default=None, description="one of the table's; null for the last")
    soup_samples: int | None = Field(default=None, ge=2, description="training images for REPAIR; null for all")


class Soup(CellRecord):
    """What the average of several runs of one ticket is worth, as sparse as the ticket."""

    members: int = Field(default=0, description="runs that are averaged")
    n: int = Field(default=0, description="tickets")
    mean_accuracy: Measured = Field(default=Stat(), description="mean test accuracy of the members (percent)")
    soup_accuracy: Measured = Field(default=Stat(), description="of the mean of their weights (percent)")
    repaired_accuracy: Measured = Field(default=Stat(), description="of that mean after REPAIR (percent)")
    ensemble_accuracy: Measured = Field(
        default=Stat(), description="of the mean of their predicted probabilities (percent)"
    )
    soup_loss: Measured = Field(default=Stat(), description="test loss of the mean of their weights (nats)")
    repaired_loss: Measured = Field(default=Stat(), description="test loss of that mean after REPAIR (nats)")
    keys: tuple[str, ...] = Field(default=(), description=KEYS)


def run_soup(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Average the members in the ticket's frame, and judge the mean as it is and after REPAIR."""
    dataset, mask = dataset_for(task, context), required_mask(inputs["ticket"])
    model = model_for(task, "structure").to(context.device)
    names = [name for name in inputs if name.startswith("member")]
    members = [stripped(inputs[name].tensors, WEIGHTS) for name in names]
    moved = "alignment0" in inputs
    alignments = [alignment_of(inputs, f"alignment{number}") for number in range(len(members))] if moved else None
    train = reading_for(task, dataset, "train", context)
    plain, repaired = (soup(model, members, mask, alignments, batches) for batches in (None, train))
    judged = {
        name: evaluate(model, dataset, weights=weights, device=context.device)
        for name, weights in (("soup", plain), ("repaired", repaired))
    }
    values = {f"{name}_accuracy": found.accuracy for name, found in judged.items()}
    values |= {f"{name}_loss": found.loss for name, found in judged.items()}
    kept = {name: tensor.cpu() for name, tensor in repaired.items()}
    return Output(values, named(WEIGHTS, kept) | named(MASK, mask))


@register
class Soups(Check):
    """The average of runs of one ticket, in the ticket's frame: as sparse as it, with and without REPAIR."""

    name = "soups"
    place = 45
    settings = SoupSettings
    rewinds = ("soup_rewind",)
    sections: ClassVar = {"soups": Soup}
    runners: ClassVar = {"soup": run_soup}
    of_classes = True
    title = "Soups of one ticket"
    about = "Runs that share a mask can be averaged into one network as sparse as each of them, if they share a basin."
    columns: ClassVar = {
        "soups": (
            *PLACE,
            column("members", "members"),
            measured("mean_accuracy", "members (%)", 2),
            measured("soup_accuracy", "soup (%)", 2),
            measured("repaired_accuracy", "soup with REPAIR (%)", 2),
            measured("ensemble_accuracy", "ensemble (%)", 2),
            N,
        )
    }

    def fits(self, settings: SoupSettings, sparsities: Sequence[float], rewinds: Sequence[str]) -> None:
        """Refuse a sparsity or a rewind point that the table does not have, and soups of too few members."""
        for field, known in (("soup_sparsity", sparsities), ("soup_rewind", rewinds)):
            wanted = getattr(settings, field)
            if wanted is not None and wanted not in known:
                raise ValueError(f"checks.{field} is {wanted}, which is none of {list(known)}")
        members, tickets = settings.soup_members, settings.soup_tickets
        if members == 1:
            raise ValueError("checks.soup_members is 1, but a soup is of 2 members at least; give more, or 0 for none")
        if tickets > 1 and members == 0:
            raise ValueError(
                f"checks.soup_tickets is {tickets}, but a soup has 0 members; give soup_members, or leave it out"
            )

    def tasks(self, plan: Runs) -> Mapping[Cell, tuple[Task, ...]]:
        """Return by cell of the table one soup a ticket; its members are runs of the table and of `diversity`."""
        settings, grid = settings_in(plan, SoupSettings), plan.config.grid
        if settings.soup_members < 2:
            return {}
        sparsity, rewind = settings.soup_sparsity or max(grid.sparsities), settings.soup_rewind or grid.rewinds[-1]
        cells = [
            Cell(name, sparsity, rewind, at)
            for name, choice in plan.choices.items()
            if choice.method in KEEPING and choice.dynamics is None
            for at in (grid.match_at if "alignment" in choice.needs else (None,))
        ]
        if not cells:
            raise ConfigError(
                f"checks.soup_members is {settings.soup_members}, but grid.methods {list(grid.methods)} has none whose "
                f"runs keep the mask of A's ticket, {', '.join(KEEPING)}; add one, or leave it out"
            )
        tickets = grid.seeds[: settings.soup_tickets]
        if len(tickets) < settings.soup_tickets:
            raise ConfigError(
                f"checks.soup_tickets is {settings.soup_tickets}, but grid.seeds has {len(tickets)}; give more seeds, "
                "or fewer tickets"
            )
        return {cell: tuple(_task(plan, settings, seed, cell) for seed in tickets) for cell in cells}

    def work(self, task: Task, sizes: Sizes) -> Work:
        """Return its evaluations: of every member and of the mean for REPAIR, and of both soups."""
        return _work(task.spec, len(_members(task)), sizes)

    def results(self, found: Stored, tasks: Mapping[Cell, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return what each soup is worth, beside its members and their ensemble."""
        return {"soups": [row for cell, mine in tasks.items() if (row := _row(cell, mine, found)) is not None]}

    def finding(self, results: Results) -> Finding | None:
        """Return members, soups and ensembles of each method."""
        return soups(results)


def _task(plan: Runs, settings: SoupSettings, seed: int, cell: Cell) -> Task:
    """Return the soup of A's ticket of a seed."""
    networks, choice, count = plan.networks, plan.choices[cell.method], settings.soup_members
    if choice.chosen_method.network == "A":
        runs = [plan.run(cell, seed, seed, repeat=member) for member in range(count)]
    else:
        runs = [plan.run(cell, seed, other) for other in member_seeds(plan.config.grid.seeds, count)]
    inputs = {f"member{number}": run for number, run in enumerate(runs)}
    assert cell.sparsity is not None
    inputs["ticket"] = networks.pruned(("A", seed), density_of(cell.sparsity))
    if "alignment" in choice.needs and plan.config.grid.frame == "init":  # in A's frame they are there already
        inputs |= {f"alignment{number}": run.inputs["alignment"] for number, run in enumerate(runs)}
        inputs["symmetry"] = networks.symmetry
    spec = {**networks.common, "samples": settings.soup_samples, "batch_size": plan.config.matching.batch_size}
    cost = _work(spec, count, plan.facts.sizes).cost(plan.facts.train_size)
    at = f", matched at {cell.match_at}" if cell.match_at not in (None, "end") else ""
    label = f"soup of {count} runs of {cell.method} {cell.sparsity:.0%}, {cell.rewind}, A{seed}{at}"
    return Task("soup", 1, spec, inputs, label=label, cost=cost)


def _members(task: Task) -> list[Task]:
    return [one for name, one in task.inputs.items() if name.startswith("member")]


def _work(spec: Mapping[str, Any], members: int, sizes: Sizes) -> Work:
    return Work(evaluated=(members + 1) * min(spec["samples"] or sizes.train, sizes.train) + 2 * sizes.test)


def _row(cell: Cell, tasks: Sequence[Task], found: Stored) -> Soup | None:
    """Return the row of the tickets whose soup and members are all there."""
    seen = [(found.get(task), found.present(_members(task)), len(_members(task))) for task in tasks]
    whole = [(made, members) for made, members, count in seen if made is not None and len(members) == count]
    if not whole:
        return None
    beside = [
        diversity_of(torch.stack([one.tensors["logits"] for one in members]), found.labels) for _, members in whole
    ]

    def over(field: str) -> Stat:
        return stat_of([made.values[field] for made, _ in whole])

    return Soup(
        **place_of(cell),
        members=len(whole[0][1]),
        n=len(whole),
        mean_accuracy=stat_of([one.mean_accuracy for one in beside if one.mean_accuracy is not None]),
        soup_accuracy=over("soup_accuracy"),
        repaired_accuracy=over("repaired_accuracy"),
        ensemble_accuracy=stat_of([one.ensemble_accuracy for one in beside if one.ensemble_accuracy is not None]),
        soup_loss=over("soup_loss"),
        repaired_loss=over("repaired_loss"),
        keys=tuple(made.key for made, _ in whole),
    )


# ---------------------------------------------------------------- the figure


def soups(results: Results) -> Finding | None:
    """Return members, soups and ensembles of each method."""
    known = results.of(Soup)
    if not known:
        return None
    several = len({record.match_at for record in known} - {None}) > 1
    names = [
        label(record.method) + (f", {position(record.match_at)}" if several and record.match_at else "")
        for record in known
    ]
    dots = [
        dot_of(row, getattr(record, field), PALETTE[colour][0], marker)
        for field, (_, colour, marker) in FIELDS.items()
        for row, record in enumerate(known)
    ]
    points = [dot for dot in dots if dot is not None]
    says = tuple(_says(record, name) for record, name in zip(known, names, strict=True))
    draw = partial(labelled_dots, names=names, points=points, unit="test accuracy (%)", limits=_limits(points))
    alt = f"Accuracy of members, soups and ensembles. {' '.join(says)}"
    panel = Panel(draw, "test accuracy (%)", "method", alt, row_height(len(names)), name_room(names))
    legend = tuple(LegendEntry(text, PALETTE[colour][0], marker) for text, colour, marker in FIELDS.values())
    place = known[0]
    caption = (
        f"{place.members} runs of one ticket at {percent(place.sparsity)} sparsity, {rewound(place.rewind)}, carried "
        "to the ticket's order of units and averaged, so that the mean is as sparse as each. Of LTH the runs differ "
        "by the order of the data; of the others each begins from a network of its own. REPAIR takes training images. "
        f"Means over tickets, n = {place.n}. A soup costs as much training as its members together."
    )
    return Finding(FigureSpec("soups", (panel,), legend), says, caption)


def _limits(points: Sequence[Dot]) -> tuple[float, float]:
    values = [value for dot in points for value in (dot.value, dot.low, dot.high) if value is not None]
    room = 0.06 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room


def _says(record: Soup, name: str) -> str:
    soup_at, mean = record.repaired_accuracy.mean, record.mean_accuracy.mean
    gain = number(None if soup_at is None or mean is None else soup_at - mean, sign=True)
    return (
        f"{name}: {number(soup_at)}{PERCENT} for the soup with REPAIR ({number(record.soup_accuracy.mean)}{PERCENT} "
        f"without), {gain} points against its members; their ensemble has "
        f"{number(record.ensemble_accuracy.mean)}{PERCENT}."
    )
