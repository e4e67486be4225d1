"""What sparse networks give as an ensemble, and how differently its members predict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field

from reticket.analysis import diversity as diversity_of
from reticket.experiment import Task
from reticket.figures.chart import few_ticks
from reticket.figures.columns import PLACE, decimals
from reticket.figures.finding import MOST_PANELS, Finding
from reticket.figures.labels import label_offsets
from reticket.figures.looks import Look, label, looks
from reticket.figures.marks import Mark, belongs, tell
from reticket.figures.spec import SIZE, Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.table import Table, column
from reticket.figures.text import PERCENT, counts, listed, number, percent, rewind_order, rewound
from reticket.records import Number
from reticket.tasks.cells import Cell, Runs
from reticket.tasks.check import Check, register, settings_in
from reticket.tasks.costs import mean_cost, network_cost
from reticket.tasks.declared import CheckSettings
from reticket.tasks.results import Results
from reticket.tasks.rows import KEYS, CellRecord, Priced
from reticket.tasks.section import Fraction, Position
from reticket.tasks.stored import Stored, place_of

PROTOCOLS = {"one ticket": "runs of one ticket", "independent": "independent runs"}
GridPoint = tuple[float, str | None]


class DiversitySettings(CheckSettings):
    """Which ensembles are trained besides those that the table's seeds make.

    An ensemble of `diversity_members` from one ticket costs one sparse run less than that a method.
    """

    diversity_members: int = Field(
        default=0, ge=0, le=1000, description="members that share one ticket; below 2 none are trained"
    )
    diversity_sparsity: Fraction | None = Field(default=None, description="one of the table's; null for the highest")
    diversity_rewind: Position | None = Field(default=None, description="one of the table's; null for the last")
    independent_members: int = Field(
        default=0, ge=0, le=1000, description="runs of imp, each with a network of its own; 0: the seeds"
    )


class Diversity(CellRecord, Priced):
    """What an ensemble of members gains, and how much its members differ; its cost is that of all members together."""

    protocol: str = Field(default="", description="'one ticket' on several networks, or 'independent' runs")
    members: int = Field(default=0, description="networks of the ensemble")
    mean_accuracy: Number = Field(default=None, description="mean test accuracy of the members (percent)")
    ensemble_accuracy: Number = Field(
        default=None, description="of the mean of their predicted probabilities (percent)"
    )
    disagreement: Number = Field(
        default=None, description="share of test images on which two members differ, in [0, 1]"
    )
    kl: Number = Field(
        default=None, description="Kullback-Leibler divergence of two members, both ways (nats an image)"
    )
    js: Number = Field(default=None, description="Jensen-Shannon divergence of two members (nats an image)")
    keys: tuple[str, ...] = Field(default=(), description=KEYS)

    @property
    def gain(self) -> float | None:
        """Ensemble accuracy less the members' mean accuracy, in points."""
        if self.ensemble_accuracy is None or self.mean_accuracy is None:
            return None
        return self.ensemble_accuracy - self.mean_accuracy


class Ensemble(NamedTuple):
    """One ensemble that is trained for this check: how its members come about, and the cell they stand for."""

    protocol: str
    cell: Cell


@register
class Ensembles(Check):
    """Diversity of ensembles by the paper's protocol: one ticket, several networks; beside them independent runs."""

    name = "diversity"
    place = 40
    settings = DiversitySettings
    rewinds = ("diversity_rewind",)
    sections: ClassVar = {"diversity": Diversity}
    of_classes = True
    title = "Diversity of an ensemble"
    about = "Members that err differently gain as an ensemble; what a start hands over, it takes from diversity."
    columns: ClassVar = {
        "diversity": (
            *PLACE,
            column("protocol", "protocol"),
            column("members", "members"),
            decimals("mean_accuracy", "mean (%)", 2),
            decimals("ensemble_accuracy", "ensemble (%)", 2),
            decimals("gain", "gain (points)", 2, sign=True),
            decimals("disagreement", "disagreement", 3),
            decimals("kl", "KL (nats)", 3),
            decimals("js", "JS (nats)", 3),
        )
    }

    def fits(self, settings: DiversitySettings, sparsities: Sequence[float], rewinds: Sequence[str]) -> None:
        """Refuse a sparsity or a rewind point that the table does not have."""
        for field, known in (("diversity_sparsity", sparsities), ("diversity_rewind", rewinds)):
            wanted = getattr(settings, field)
            if wanted is not None and wanted not in known:
                raise ValueError(f"checks.{field} is {wanted}, which is none of {list(known)}")

    def tasks(self, plan: Runs) -> Mapping[Ensemble, tuple[Task, ...]]:
        """Return the members of every ensemble."""
        return {**_one_ticket(plan), **_independent(plan)}

    def results(self, found: Stored, tasks: Mapping[Ensemble, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return how different the members of an ensemble are: independent runs, and one ticket on several networks."""
        independent = {Ensemble("independent", cell): found.plan.runs[cell] for cell, _ in found.cells()}
        independent |= {ensemble: mine for ensemble, mine in tasks.items() if ensemble.protocol == "independent"}
        sharing = {ensemble: mine for ensemble, mine in tasks.items() if ensemble.protocol == "one ticket"}
        return {
            "diversity": [
                _row(ensemble, members, found)
                for ensemble, mine in {**independent, **sharing}.items()
                if len(members := [task for task in mine if found.get(task)]) > 1
            ]
        }

    def finding(self, results: Results) -> Finding | None:
        """Return the gain of the ensemble against the disagreement of its members at the highest sparsity."""
        return diversity(results)

    def opened(self, results: Results) -> tuple[tuple[str, Table], ...]:
        """Return the part of the table that stands open: the setting that the text speaks of."""
        place = diversity_point(results)
        if place is None:
            return ()
        kept = [
            record
            for record in results.of(Diversity)
            if record.sparsity == place[0] and record.rewind in (place[1], None)
        ]
        table = Table.of("diversity", kept, self.columns["diversity"])
        return ((f"Diversity at {percent(place[0])} sparsity, {rewound(place[1])}", table),)


def _row(ensemble: Ensemble, members: Sequence[Task], found: Stored) -> Diversity:
    results, sizes = found.present(members), found.plan.facts.sizes
    cost = network_cost(members, found.get, sizes, reused=ensemble.protocol == "one ticket")
    measured = diversity_of(torch.stack([r.tensors["logits"] for r in results]), found.labels)
    keys = tuple(r.key for r in results)
    place = {**place_of(ensemble.cell), **mean_cost([cost])}
    return Diversity(**place, protocol=ensemble.protocol, **asdict(measured), keys=keys)


def _one_ticket(plan: Runs) -> dict[Ensemble, tuple[Task, ...]]:
    """Return the ensembles of the paper's protocol.

    Member j trains A's first ticket on the j-th B. LTH has one initialisation only: its members differ by the order
    of the data. `dense` and `imp` have no ticket to share; their members are independent runs.
    """
    count, grid = settings_in(plan, DiversitySettings).diversity_members, plan.config.grid
    if count < 2:
        return {}
    first, others = grid.seeds[0], member_seeds(grid.seeds, count)
    sparsity, rewind = _where(plan)
    found: dict[Ensemble, tuple[Task, ...]] = {}
    for name, method in plan.methods.items():
        if method.trains and method.network == "A":
            cell = Cell(name, sparsity, rewind)
            found[Ensemble("one ticket", cell)] = tuple(
                plan.run(cell, first, first, repeat=member) for member in range(count)
            )
        elif method.trains and name != "imp-b":
            places = grid.match_at if "alignment" in method.needs else (None,)
            for cell in (Cell(name, sparsity, rewind, at) for at in places):
                found[Ensemble("one ticket", cell)] = tuple(plan.run(cell, first, other) for other in others)
    return found


def _independent(plan: Runs) -> dict[Ensemble, tuple[Task, ...]]:
    """Return the ensemble of independent runs of `imp`, where it has a number of members of its own."""
    count = settings_in(plan, DiversitySettings).independent_members
    if count < 2 or "imp" not in plan.methods:
        return {}
    cell = Cell("imp", _where(plan)[0], None)
    seeds = member_seeds(plan.config.grid.seeds, count)
    return {Ensemble("independent", cell): tuple(plan.run(cell, seed, seed) for seed in seeds)}


def _where(plan: Runs) -> tuple[float, str]:
    settings, grid = settings_in(plan, DiversitySettings), plan.config.grid
    return settings.diversity_sparsity or max(grid.sparsities), settings.diversity_rewind or grid.rewinds[-1]


def member_seeds(seeds: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return `count` seeds for the members of an ensemble: those of the table first, then fresh ones.

    >>> member_seeds((0, 3), 4)
    (0, 3, 4, 5)
    """
    fresh = range(max(seeds) + 1, max(seeds) + 1 + count)
    return (*seeds, *fresh)[:count]


# ---------------------------------------------------------------- the figure


def diversity(results: Results) -> Finding | None:
    """Return the gain of the ensemble against the disagreement of its members at the highest sparsity."""
    known = [record for record in results.of(Diversity) if record.gain is not None and record.disagreement is not None]
    place = diversity_point(results)
    if place is None or not known:
        return None
    top = [record for record in known if record.sparsity == place[0]]
    rewinds: list[str | None] = [*rewind_order(record.rewind for record in top)] or [None]
    rewinds_drawn = rewinds[-MOST_PANELS:]
    styles = looks(record.method for record in top)
    panels = []
    for rewind in rewinds_drawn:
        mine = [record for record in top if record.rewind in (rewind, None)]
        alt = f"Ensemble gain against disagreement, {rewound(rewind)}. {' '.join(_diversity_says(mine))}"
        draw = partial(_scatter, known=mine, styles=styles, limits=_ranges(top, styles))
        panels.append(Panel(draw, rewound(rewind), "ensemble gain (points)", alt, 190.0))
    members = counts(record.members for record in top).replace("n = ", "")
    caption = (
        f"At {percent(place[0])} sparsity: accuracy of the ensemble of {members} members less their mean accuracy, "
        "against the share of test images on which two members differ. Filled: one ticket, many runs; open: "
        "independent runs. Arrows point to what lies outside the axes."
    )
    says = _diversity_says([record for record in top if record.rewind in (rewinds_drawn[-1], None)])
    legend = tuple(LegendEntry(look.label, look.hex, look.mark, width=0.0) for look in styles.values())
    return Finding(FigureSpec("diversity", tuple(panels), legend), tuple(says), caption)


def diversity_point(results: Results) -> GridPoint | None:
    """Return the setting that speaks most plainly: the highest sparsity, and its latest rewind point."""
    levels = [record.sparsity for record in results.of(Diversity)]
    if not levels:
        return None
    rewinds = rewind_order(record.rewind for record in results.of(Diversity) if record.sparsity == max(levels))
    return max(levels), rewinds[-1] if rewinds else None


Ranges = tuple[tuple[float, float], tuple[float, float]]


def _ranges(known: Sequence[Diversity], styles: dict[str, Look]) -> Ranges:
    """Return the ranges of disagreement and gain, without the controls where these would crowd the rest."""
    chosen = [record for record in known if styles[record.method].role != "control"] or list(known)
    x = [record.disagreement or 0.0 for record in chosen]
    y = [record.gain or 0.0 for record in chosen]
    low = min(0.0, *y) if len(y) > 1 else min(0.0, y[0])
    return (0.0, 1.12 * max(x) or 1.0), (low, low + 1.12 * (max(y) - low) or 1.0)


def _scatter(axes: Axes, known: Sequence[Diversity], styles: dict[str, Look], limits: Ranges) -> None:
    (left, right), (low, high) = limits
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    bare = all(record.protocol == "independent" for record in known)
    places, names = list[tuple[float, float]](), list[str]()
    for record in known:
        look, filled = styles[record.method], record.protocol != "independent"
        x, y = record.disagreement or 0.0, record.gain or 0.0
        outside = not (left <= x <= right and low <= y <= high)
        places.append((min(x, right), min(max(y, low), high)))
        names.append(look.label if look.role == "key" and (filled or bare) and not outside else "")
        drawn = axes.plot(
            *places[-1],
            linestyle="",
            marker=(">" if x > right else "^") if outside else look.mark,
            color=look.hex,
            markersize=4 if outside else 7 if look.role == "key" else 5.5,
            markerfacecolor=look.hex if filled else "none",
            markeredgewidth=0 if filled else 1.1,
            zorder=4 if look.role == "key" else 3,
            clip_on=False,
        )
        belongs(record.method, *drawn)
        tell(axes, [Mark(*places[-1], _member_words(record), record.method)])
    for record, place, name, offset in zip(known, places, names, label_offsets(axes, places, names), strict=True):
        if name:
            at = {"textcoords": "offset points", "ha": offset.ha, "va": "center", "annotation_clip": False}
            words = axes.annotate(
                name,
                place,
                (offset.dx, offset.dy),
                color=styles[record.method].hex,
                size=SIZE,
                weight="bold",
                zorder=5,
                **at,
            )
            belongs(record.method, words)
    few_ticks(axes.xaxis, 5)
    few_ticks(axes.yaxis, 5)
    axes.set_xlabel("disagreement of two members (share of test images)")


def _member_words(record: Diversity) -> str:
    protocol = f", {PROTOCOLS.get(record.protocol, record.protocol)}" if record.protocol else ""
    share, gain = number(100 * (record.disagreement or 0.0)), number(record.gain, 1, sign=True)
    return f"{label(record.method)}{protocol}: {gain} points, members differ on {share}{PERCENT}"


def _diversity_says(known: Sequence[Diversity]) -> list[str]:
    """Say which ensemble is best, and what permuted and LTH gain and differ by under the same protocol."""
    if not known:
        return []
    best = max(known, key=lambda record: record.ensemble_accuracy or 0.0)
    accuracy, gain = f"{number(best.ensemble_accuracy)}{PERCENT}", number(best.gain, 1, sign=True)
    protocol = f" ({PROTOCOLS.get(best.protocol, best.protocol)})" if best.protocol else ""
    result = [
        f"The best ensemble is that of {label(best.method)}{protocol}: {accuracy}, {gain} points over its members."
    ]
    found = {(record.protocol, record.method): record for record in known}
    for protocol in dict.fromkeys(record.protocol for record in known):
        mine = [found[protocol, method] for method in ("permuted", "naive", "lth") if (protocol, method) in found]
        if len(mine) > 1:
            runs = PROTOCOLS.get(protocol, protocol or "of these runs")
            result.append(f"Two {runs} differ on {listed(map(_member_says, mine))}.")
            break
    return result


def _member_says(record: Diversity) -> str:
    share = f"{number(100 * (record.disagreement or 0.0))}{PERCENT} of the test images for {label(record.method)}"
    return f"{share} (ensemble gain {number(record.gain, 1, sign=True)} points)"
