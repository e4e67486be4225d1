"""How well units were matched, and how much of B's own mask the carried ticket hits."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reticket.report.chart import STEPS, Dot, dot_of, dots, name_room, row_height, sparsity_axis, sparsity_places
from reticket.report.exhibit import Exhibit, left_out
from reticket.report.methods import PALETTE, SOFT
from reticket.report.plate import Key, Panel, Plate
from reticket.report.schema import Match, Overlap, Results, Stat
from reticket.report.text import number, percent, plural, shortened, spread_note

MOST_GROUPS = 48
MASKS = {"permuted": ("permuted", "D"), "naive": ("naive", "s")}


def matching(results: Results) -> Exhibit | None:
    """Return matched correlation and margin of each group."""
    known = [one for one in results.matching if one.correlation.mean is not None]
    if not known:
        return None
    shown = known[:MOST_GROUPS]
    names = [f"{shortened(name, 20)} ({one.size})" for name, one in zip(_distinct(shown), shown, strict=True)]
    room, height = name_room(names), row_height(len(names))
    colour = PALETTE["permuted"][0]
    points = [dot for row, one in enumerate(shown) if (dot := dot_of(row, one.correlation, colour, "D"))]
    says = _matching_says([(one.group, one.correlation.mean or 0.0) for one in known])
    low = min(0.0, *(one.correlation.mean or 0.0 for one in shown)) - 0.02
    draw = partial(_draw, names=names, points=points, unit="matched correlation", limits=(low, 1.02))
    panels = [
        Panel(draw, "matched correlation", "group (units)", f"Matched correlation of each group. {says}", height, room)
    ]
    margins = [dot for row, one in enumerate(shown) if (dot := dot_of(row, one.margin, colour, "o"))]
    if margins:
        draw = partial(_draw, names=names, points=margins, unit="margin of correlation", limits=None)
        panels.append(
            Panel(
                draw,
                "margin to the runner-up",
                "group (units)",
                "Margin of each group to the best other unit.",
                height,
                room,
            )
        )
    caption = (
        "Left: mean correlation of A's units with the units of B they were matched to; 1 is a perfect match. Right: "
        "how far the matched partner is ahead of the best other one; below 0 another unit alone would fit better, but "
        "the assignment as a whole would not. "
        f"{spread_note('Whiskers', (one.correlation.n for one in known))}"
    )
    return Exhibit(
        Plate("matching", tuple(panels)), (says,), caption + left_out(len(shown), len(known), "groups", "matching")
    )


def _distinct(shown: Sequence[Match]) -> list[str]:
    """Return the groups' names without the last part that all share, ".weight" as a rule."""
    names = [one.group for one in shown]
    shared = len({name.rpartition(".")[2] for name in names}) == 1 and all("." in name for name in names)
    return [name.rpartition(".")[0] for name in names] if shared else names


def _matching_says(pairs: Sequence[tuple[str, float]]) -> str:
    mean = number(sum(value for _, value in pairs) / len(pairs), 2)
    if len(pairs) == 1:
        return f"The one group, {pairs[0][0]}, is matched at a correlation of {mean}."
    best, worst = (end(pairs, key=lambda pair: pair[1]) for end in (max, min))
    return (
        f"Over {plural(len(pairs), 'group')} the matched correlation is {mean} on average, "
        f"from {number(worst[1], 2)} ({worst[0]}) to {number(best[1], 2)} ({best[0]})."
    )


def _draw(
    axes: Axes, names: Sequence[str], points: Sequence[Dot], unit: str, limits: tuple[float, float] | None
) -> None:
    dots(axes, names, points, limits)
    if limits is None:
        low, high = axes.get_xlim()
        axes.set_xlim(min(0.0, low), max(0.0, high))
    axes.set_xlabel(unit)


def overlap(results: Results) -> Exhibit | None:
    """Return the overlap of the carried mask with B's own: of the whole network by sparsity, and of each layer."""
    known = [one for one in results.overlap if one.overlap.mean is not None]
    if not known:
        return None
    whole = [one for one in known if one.layer is None]
    layered = [one for one in known if one.layer is not None]
    panels = []
    says = _overlap_says(whole or known)
    if len({one.sparsity for one in whole}) > 1:
        alt = f"Overlap with B's own mask against sparsity. {says}"
        panels.append(
            Panel(
                partial(_draw_levels, known=whole), "whole network", "shared with B's own mask (% of kept)", alt, 170.0
            )
        )
    elif whole:
        panels.append(_rows(whole, ["whole network"], f"{percent(whole[0].sparsity)} sparsity", says))
    if layered:
        top = max(one.sparsity for one in layered)
        mine = [one for one in layered if one.sparsity == top]
        layers = list(dict.fromkeys(one.layer or "" for one in mine))[:MOST_GROUPS]
        panels.append(_rows(mine, layers, f"each layer, {percent(top)} sparsity", says))
    legend = [Key(f"{name} mask of A", PALETTE[colour][0], marker) for name, (colour, marker) in MASKS.items()]
    legend.append(Key("chance", SOFT, "|", (1.2, 1.4), 1.0))
    caption = (
        "Percent of the kept weights that B's own mask at that sparsity keeps too, against what masks of the same "
        f"layer densities share by chance. {spread_note('Bands and whiskers', (one.overlap.n for one in known))}"
    )
    return Exhibit(Plate("overlap", tuple(panels), tuple(legend)), (says,), caption)


def _mask_look(mask: str) -> tuple[str, str]:
    colour, marker = MASKS.get(mask, ("other-1", "o"))
    return PALETTE[colour][0], marker


def _rows(known: Sequence[Overlap], layers: Sequence[str], title: str, says: str) -> Panel:
    points: list[Dot] = []
    for row, layer in enumerate(layers):
        for one in known:
            if one.layer not in (layer, None):
                continue
            colour, marker = _mask_look(one.mask)
            found = (dot_of(row, one.overlap, colour, marker), dot_of(row, Stat(mean=one.chance.mean), SOFT, "|"))
            points += [dot for dot in found if dot is not None]
    draw = partial(_draw, names=layers, points=points, unit="shared with B's own mask (% of kept)", limits=None)
    return Panel(
        draw,
        title,
        "layer",
        f"Overlap with B's own mask, {title}. {says}",
        row_height(len(layers), 18.0),
        name_room(layers),
    )


def _draw_levels(axes: Axes, known: Sequence[Overlap]) -> None:
    levels = sorted({one.sparsity for one in known})
    chance: dict[float, float] = {}
    for mask in dict.fromkeys(one.mask for one in known):
        mine = sorted((one for one in known if one.mask == mask), key=lambda one: one.sparsity)
        colour, marker = _mask_look(mask)
        x = sparsity_places([one.sparsity for one in mine])
        mean = np.array([one.overlap.mean for one in mine], dtype=float)
        sd = np.array([one.overlap.sd or 0.0 for one in mine], dtype=float)
        axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.14, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.7, marker=marker, markersize=4.5, markeredgewidth=0)
        chance |= {one.sparsity: one.chance.mean for one in mine if one.chance.mean is not None}
    if chance:
        x = sparsity_places(list(chance))
        axes.plot(
            x, list(chance.values()), color=SOFT, linewidth=1.0, linestyle=(0, (1.2, 1.4)), marker="|", markersize=5
        )
    sparsity_axis(axes, levels)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))


def _overlap_says(known: Sequence[Overlap]) -> str:
    top = max(one.sparsity for one in known)
    parts = [
        f"{number(one.overlap.mean)}{chr(160)}% ({one.mask} mask)"
        for one in known
        if one.sparsity == top and one.mask in MASKS
    ]
    chance = next((one.chance.mean for one in known if one.sparsity == top and one.chance.mean is not None), None)
    against = f", chance {number(chance)}{chr(160)}%" if chance is not None else ""
    return f"At {percent(top)} sparsity, B's own mask keeps {' and '.join(parts[:2])} of A's kept weights{against}."
