"""How much of B's own mask the carried ticket hits, moved through the alignment and as it is."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from reticket.analysis import overlap as overlap_of
from reticket.experiment import Context, Output, Result, Task
from reticket.figures.chart import (
    Dot,
    dot_of,
    few_ticks,
    labelled_dots,
    name_room,
    row_height,
    sparsity_axis,
    sparsity_places,
)
from reticket.figures.columns import SPARSITY
from reticket.figures.finding import Finding
from reticket.figures.looks import PALETTE, SOFT
from reticket.figures.marks import tell_line
from reticket.figures.spec import Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.table import column, measured
from reticket.figures.text import number, percent, spread_note
from reticket.records import Measured, Record, Stat
from reticket.tasks.cells import Runs
from reticket.tasks.check import Check, register, settings_in
from reticket.tasks.declared import CheckSettings
from reticket.tasks.inputs import alignment_of, required_mask
from reticket.tasks.networks import density_of
from reticket.tasks.results import Results
from reticket.tasks.rows import KEYS
from reticket.tasks.rows import SPARSITY as SPARSITY_TEXT
from reticket.tasks.stored import Stored, stat_of

MOST_LAYERS = 48
MASKS = {"permuted": ("permuted", "D"), "naive": ("naive", "s")}


class OverlapSettings(CheckSettings):
    """Whether masks are compared."""

    overlap: bool = Field(
        default=True, description="whether A's mask is held against B's own, for which B is pruned too"
    )


class Overlap(Record):
    """Percent of a mask's kept weights that B's own mask keeps too."""

    sparsity: float = Field(description=SPARSITY_TEXT)
    layer: str | None = Field(default=None, description="name of the weight; null for the whole network")
    mask: str = Field(description="A's mask as it is ('naive') or moved ('permuted')")
    overlap: Measured = Field(default=Stat(), description="percent of its kept weights that B's own mask keeps")
    chance: Measured = Field(default=Stat(), description="percent expected of masks with the same layer densities")
    keys: tuple[str, ...] = Field(default=(), description=KEYS)


def run_overlap(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Compare A's mask, moved and unmoved, with B's own; the whole network stands under the empty name."""
    mask_a, mask_b = required_mask(inputs["mask_a"]), required_mask(inputs["mask_b"])
    values: dict[str, Any] = {}
    for name, mask in (("permuted", alignment_of(inputs).whole().apply(mask_a)), ("naive", mask_a)):
        found = overlap_of(mask, mask_b)
        layers = {"": found.total, **found.layers}
        values[name] = {layer: {"overlap": o.share, "chance": o.chance} for layer, o in layers.items()}
    return Output(values)


@register
class Overlaps(Check):
    """Overlap of A's mask, moved and unmoved, with B's own."""

    name = "overlap"
    place = 30
    settings = OverlapSettings
    sections: ClassVar = {"overlap": Overlap}
    runners: ClassVar = {"overlap": run_overlap}
    title = "Overlap with B's own mask"
    about = "Does the carried mask keep the weights that pruning B itself would keep?"
    columns: ClassVar = {
        "overlap": (
            SPARSITY,
            column("layer", "layer", lambda layer: layer or "whole network"),
            column("mask", "mask"),
            measured("overlap", "shared with B's mask (%)"),
            measured("chance", "chance (%)", spread=False),
            column("n", "n", get="overlap.n"),
        )
    }

    def tasks(self, plan: Runs) -> Mapping[float, tuple[Task, ...]]:
        """Return the comparison of A's mask, moved and unmoved, with B's own mask, by sparsity."""
        grid = plan.config.grid
        if not settings_in(plan, OverlapSettings).overlap:
            return {}
        return {sparsity: tuple(_task(plan, sparsity, seed) for seed in grid.seeds) for sparsity in grid.sparsities}

    def results(self, found: Stored, tasks: Mapping[float, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return the share of B's own mask that A's mask hits, moved and unmoved, against chance (percent)."""
        return {
            "overlap": [row for sparsity, mine in tasks.items() for row in _overlaps(sparsity, found.present(mine))]
        }

    def finding(self, results: Results) -> Finding | None:
        """Return the overlap of the whole network by sparsity, and of each layer."""
        return overlap(results)


def _task(plan: Runs, sparsity: float, seed: int) -> Task:
    networks, density = plan.networks, density_of(sparsity)
    ticket = (density, next(iter(networks.rewinds.values())))
    return Task(
        kind="overlap",
        version=1,
        spec={},
        inputs={
            "mask_a": networks.pruned(("A", seed), density),
            "mask_b": networks.pruned(("B", seed), density),
            "alignment": networks.match(seed, seed, plan.config.grid.match_at[0], ticket),
            "symmetry": networks.symmetry,
        },
        label=f"overlap of masks at {sparsity:.0%}, seed {seed}",
        cost=0.05,
    )


def _overlaps(sparsity: float, results: Sequence[Result]) -> list[Overlap]:
    rows = []
    layers = results[0].values["permuted"] if results else {}
    for mask in ("permuted", "naive"):
        for layer in layers:
            shares = [r.values[mask][layer] for r in results]
            whole = [share for share in shares if share["overlap"] is not None]  # a layer may lose every weight
            if whole:
                shared, chance = (stat_of([share[name] for share in whole]) for name in ("overlap", "chance"))
                keys = tuple(r.key for r in results)
                rows.append(
                    Overlap(sparsity=sparsity, layer=layer or None, mask=mask, overlap=shared, chance=chance, keys=keys)
                )
    return rows


# ---------------------------------------------------------------- the figure


def overlap(results: Results) -> Finding | None:
    """Return the overlap of the carried mask with B's own: of the whole network by sparsity, and of each layer."""
    known = [record for record in results.of(Overlap) if record.overlap.mean is not None]
    if not known:
        return None
    whole = [record for record in known if record.layer is None]
    layered = [record for record in known if record.layer is not None]
    panels = []
    says = _overlap_says(whole or known)
    if len({record.sparsity for record in whole}) > 1:
        alt = f"Overlap with B's own mask against sparsity. {says}"
        panels.append(
            Panel(
                partial(_draw_levels, known=whole), "whole network", "shared with B's own mask (% of kept)", alt, 170.0
            )
        )
    elif whole:
        panels.append(_rows(whole, ["whole network"], f"{percent(whole[0].sparsity)} sparsity", says))
    if layered:
        top = max(record.sparsity for record in layered)
        mine = [record for record in layered if record.sparsity == top]
        layers = list(dict.fromkeys(record.layer or "" for record in mine))[:MOST_LAYERS]
        panels.append(_rows(mine, layers, f"each layer, {percent(top)} sparsity", says))
    legend = [LegendEntry(f"{name} mask of A", PALETTE[colour][0], marker) for name, (colour, marker) in MASKS.items()]
    legend.append(LegendEntry("chance", SOFT, "|", (1.2, 1.4), 1.0))
    caption = (
        "Percent of the kept weights that B's own mask at that sparsity keeps too, against what masks of the same "
        f"layer densities share by chance. {spread_note('Bands and whiskers', (record.overlap.n for record in known))}"
    )
    return Finding(FigureSpec("overlap", tuple(panels), tuple(legend)), (says,), caption)


def _mask_look(mask: str) -> tuple[str, str]:
    colour, marker = MASKS.get(mask, ("other-1", "o"))
    return PALETTE[colour][0], marker


def _rows(known: Sequence[Overlap], layers: Sequence[str], title: str, says: str) -> Panel:
    points: list[Dot] = []
    for row, layer in enumerate(layers):
        for record in known:
            if record.layer not in (layer, None):
                continue
            colour, marker = _mask_look(record.mask)
            found = (dot_of(row, record.overlap, colour, marker), dot_of(row, Stat(mean=record.chance.mean), SOFT, "|"))
            points += [dot for dot in found if dot is not None]
    draw = partial(labelled_dots, names=layers, points=points, unit="shared with B's own mask (% of kept)", limits=None)
    return Panel(
        draw,
        title,
        "layer",
        f"Overlap with B's own mask, {title}. {says}",
        row_height(len(layers), 18.0),
        name_room(layers),
    )


def _draw_levels(axes: Axes, known: Sequence[Overlap]) -> None:
    levels = sorted({record.sparsity for record in known})
    chance: dict[float, float] = {}
    for mask in dict.fromkeys(record.mask for record in known):
        mine = sorted((record for record in known if record.mask == mask), key=lambda record: record.sparsity)
        colour, marker = _mask_look(mask)
        x = sparsity_places([record.sparsity for record in mine])
        mean = np.array([record.overlap.mean for record in mine], dtype=float)
        sd = np.array([record.overlap.sd or 0.0 for record in mine], dtype=float)
        axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.14, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.7, marker=marker, markersize=4.5, markeredgewidth=0)
        tell_line(axes, x, mean.tolist(), f"{mask} mask of A")
        chance |= {record.sparsity: record.chance.mean for record in mine if record.chance.mean is not None}
    if chance:
        x = sparsity_places(list(chance))
        axes.plot(
            x, list(chance.values()), color=SOFT, linewidth=1.0, linestyle=(0, (1.2, 1.4)), marker="|", markersize=5
        )
        tell_line(axes, x, list(chance.values()), "chance")
    sparsity_axis(axes, levels)
    axes.set_ylim(bottom=0)
    few_ticks(axes.yaxis, 5)


def _overlap_says(known: Sequence[Overlap]) -> str:
    top = max(record.sparsity for record in known)
    parts = [
        f"{number(record.overlap.mean)}{chr(160)}% ({record.mask} mask)"
        for record in known
        if record.sparsity == top and record.mask in MASKS
    ]
    chance = next(
        (record.chance.mean for record in known if record.sparsity == top and record.chance.mean is not None), None
    )
    against = f", chance {number(chance)}{chr(160)}%" if chance is not None else ""
    return f"At {percent(top)} sparsity, B's own mask keeps {' and '.join(parts[:2])} of A's kept weights{against}."
