"""The figure of the barriers: the curves along the lines, and how barriers grow along pruning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from reticket.figures import published
from reticket.figures.chart import few_ticks, sparsity_axis, sparsity_places
from reticket.figures.finding import Finding
from reticket.figures.looks import PALETTE
from reticket.figures.marks import tell_line
from reticket.figures.spec import Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.text import number, percent, spread_note
from reticket.records import Stat
from reticket.tasks.checks.barriers.line import Barrier
from reticket.tasks.results import Results

Metric = Literal["loss", "accuracy"]
UNITS: dict[Metric, str] = {"loss": "test loss (nats)", "accuracy": "test accuracy (%)"}
BARRIER_UNITS: dict[Metric, str] = {"loss": "loss barrier (nats)", "accuracy": "accuracy barrier (points)"}
WORDS = {"permuted A to B": "π(A) to B", "A to B": "A to B", "dense A to IMP A": "dense A to IMP A"}
COLOURS = {"permuted A to B": "permuted", "A to B": "naive", "dense A to IMP A": "lth"}
REPAIR_DASH = (3.5, 1.6)


@dataclass(frozen=True)
class Curve:
    """Mean and sd over seeds along the line."""

    alphas: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    colour: str
    repair: bool
    name: str


def barriers(results: Results) -> Finding | None:
    """Return the curves: the dense pairs together, each pair that has sparsities at its highest, and its way there."""
    known = [
        record
        for record in results.of(Barrier)
        if _values(record, "loss") is not None or _values(record, "accuracy") is not None
    ]
    if not known:
        return None
    panels = _dense_panels([record for record in known if record.sparsity is None])
    for pair in dict.fromkeys(record.pair for record in known if record.sparsity is not None):
        panels += _pair_panels([record for record in known if record.pair == pair and record.sparsity is not None])
    panels = [_in_loss_unit(panel, results.experiment.metric.loss_unit) for panel in panels]
    panels.sort(key=lambda panel: "loss" not in panel.unit)  # losses in one row, accuracies in the next
    pairs = list(dict.fromkeys(record.pair for record in known))
    legend = [LegendEntry(WORDS.get(pair, pair), _colour(pair, pairs)) for pair in pairs]
    if any(record.repair for record in known):
        legend += [
            LegendEntry("as it is", PALETTE["soft"][0]),
            LegendEntry("with REPAIR", PALETTE["soft"][0], dash=REPAIR_DASH),
        ]
    caption = (
        f"Networks (1 − α) · first + α · second. {spread_note('Bands', (record.n for record in known))} "
        "REPAIR recomputes the statistics of the mixed network's activations."
    )
    if _growth_says(results):
        caption += f" Published: {published.source()}, over its rounds of pruning; for which network is not known here."
    says = (*_says(known), *_growth_says(results))
    return Finding(FigureSpec("barriers", tuple(panels), tuple(legend)), says, caption)


def _in_loss_unit(panel: Panel, unit: str) -> Panel:
    """Return a panel whose losses are called by their unit in this run, which may be none."""
    words = f" ({unit})" if unit else ""
    return replace(panel, unit=panel.unit.replace(" (nats)", words), alt=panel.alt.replace(" (nats)", words))


def _colour(pair: str, pairs: Sequence[str]) -> str:
    others = [pair for pair in pairs if pair not in COLOURS]
    name = COLOURS.get(pair) or f"other-{others.index(pair) % 6 + 1}"
    return PALETTE[name][0]


def _values(record: Barrier, metric: Metric) -> np.ndarray | None:
    """Return (seeds, alphas), or None where a curve is missing or of another length."""
    curves = record.loss if metric == "loss" else record.accuracy
    if not curves or any(len(curve) != len(record.alphas) for curve in curves):
        return None
    values = np.array([[math.nan if value is None else value for value in curve] for curve in curves], dtype=float)
    return values if np.isfinite(values).all() else None


def _curve(record: Barrier, metric: Metric, colour: str) -> Curve | None:
    values = _values(record, metric)
    if values is None:
        return None
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    name = WORDS.get(record.pair, record.pair) + (", with REPAIR" if record.repair else "")
    return Curve(record.alphas, tuple(values.mean(axis=0).tolist()), tuple(sd.tolist()), colour, record.repair, name)


def _dense_panels(known: Sequence[Barrier]) -> list[Panel]:
    if not known:
        return []
    pairs = list(dict.fromkeys(record.pair for record in known))
    title = " and ".join(WORDS.get(pair, pair) for pair in pairs) if len(pairs) < 3 else "dense pairs"
    return _curve_panels(known, pairs, title)


def _pair_panels(known: Sequence[Barrier]) -> list[Panel]:
    levels = sorted({record.sparsity for record in known if record.sparsity is not None})
    pair = known[0].pair
    title = f"{WORDS.get(pair, pair)}, {percent(levels[-1])} sparsity"
    panels = _curve_panels([record for record in known if record.sparsity == levels[-1]], [pair], title)
    if len(levels) < 2:
        return panels
    for metric, unit in BARRIER_UNITS.items():
        stats = [
            (level, record.repair, _barrier(record, metric))
            for level in levels
            for record in known
            if record.sparsity == level
        ]
        if all(stat.mean is None for _, _, stat in stats):
            continue
        draw = partial(_draw_growth, stats=stats, levels=levels, colour=_colour(pair, [pair]))
        alt = f"{unit} of {WORDS.get(pair, pair)} against sparsity, with and without REPAIR."
        panels.append(Panel(draw, f"{WORDS.get(pair, pair)}, along pruning", unit, alt, 150.0))
    return panels


def _curve_panels(known: Sequence[Barrier], pairs: Sequence[str], title: str) -> list[Panel]:
    panels = []
    for metric, unit in UNITS.items():
        found = [_curve(record, metric, _colour(record.pair, pairs)) for record in known]
        curves = [curve for curve in found if curve is not None]
        if curves:
            alt = f"{unit} along the line, {title}. {' '.join(_pair_says(known, pairs))}"
            panels.append(Panel(partial(_draw_curves, curves=curves), title, unit, alt, 150.0))
    return panels


def _barrier(record: Barrier, metric: Metric) -> Stat:
    return record.loss_barrier if metric == "loss" else record.accuracy_barrier


def _draw_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    for curve in curves:
        x, mean, sd = (np.array(values) for values in (curve.alphas, curve.mean, curve.sd))
        style = (0, REPAIR_DASH) if curve.repair else "-"
        if sd.any():
            axes.fill_between(x, mean - sd, mean + sd, color=curve.colour, alpha=0.1, linewidth=0)
        axes.plot(x, mean, color=curve.colour, linewidth=1.7, linestyle=style)
        tell_line(axes, curve.alphas, curve.mean, curve.name, 3)
    axes.set_xlim(0, 1)
    few_ticks(axes.yaxis, 5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
    axes.set_xlabel("α (0 is the first network, 1 the second)")


def _draw_growth(axes: Axes, stats: Sequence[tuple[float, bool, Stat]], levels: Sequence[float], colour: str) -> None:
    for repair in (False, True):
        points = [(level, stat) for level, has, stat in stats if has == repair and stat.mean is not None]
        if not points:
            continue
        x = sparsity_places([level for level, _ in points])
        mean = np.array([stat.mean for _, stat in points], dtype=float)
        sd = np.array([stat.sd or 0.0 for _, stat in points], dtype=float)
        axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.1, linewidth=0)
        style = (0, REPAIR_DASH) if repair else "-"
        axes.plot(x, mean, color=colour, linewidth=1.7, linestyle=style, marker="o", markersize=4, markeredgewidth=0)
        tell_line(axes, x, mean.tolist(), "with REPAIR" if repair else "as it is", 3)
    sparsity_axis(axes, levels)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    few_ticks(axes.yaxis, 5)


def _says(known: Sequence[Barrier]) -> tuple[str, ...]:
    pairs = list(dict.fromkeys(record.pair for record in known))
    return tuple(_pair_says(known, pairs))


def _pair_says(known: Sequence[Barrier], pairs: Sequence[str]) -> list[str]:
    """Say each pair's barrier, at its highest sparsity, without and with REPAIR."""
    result = []
    for pair in pairs:
        mine = [record for record in known if record.pair == pair]
        top = max((record.sparsity or 0.0 for record in mine), default=0.0)
        parts = []
        for repair, words in ((False, ""), (True, " with REPAIR")):
            record = next(
                (record for record in mine if record.repair == repair and (record.sparsity or 0.0) == top), None
            )
            if record is not None and (size := _size(record)):
                parts.append(f"{size}{words}")
        if parts:
            where = f" at {percent(top)} sparsity" if top else ""
            result.append(f"From {WORDS.get(pair, pair)}{where} the barrier is {' and '.join(parts)}.")
    return result


def _size(record: Barrier) -> str:
    """Return a barrier in words, of the accuracy where it is known; empty where nothing is."""
    loss, accuracy = record.loss_barrier.mean, record.accuracy_barrier.mean
    if accuracy is None:
        return "" if loss is None else f"{loss:.3g} of the loss"
    return f"{number(accuracy)} points" + ("" if loss is None else f" ({number(loss, 2)} nats)")


def _growth_says(results: Results) -> list[str]:
    """Say how the barrier to the pruned network grows over the rounds, here and in the paper."""
    mine = [
        record for record in results.of(Barrier) if record.pair == "dense A to IMP A" and record.sparsity is not None
    ]
    levels = sorted({record.sparsity for record in mine if record.sparsity is not None})
    parts = []
    for there in published.collapses() if len(levels) > 1 else ():
        stats = {record.sparsity: record.accuracy_barrier for record in mine if record.repair == there.repair}
        first, last = (stats[level].mean if level in stats else None for level in (levels[0], levels[-1]))
        if first is not None and last is not None:
            words = "with" if there.repair else "without"
            paper = f"published {number(there.first)} to {number(there.last)}"
            parts.append(f"from {number(first)} to {number(last)} points {words} REPAIR ({paper})")
    if not parts or published.settings(results.experiment.dataset, results.experiment.network) is None:
        return []
    ends_at = f"From {percent(levels[0])} to {percent(levels[-1])} sparsity"
    return [f"{ends_at} the accuracy barrier between dense A and IMP A goes {' and '.join(parts)}."]
