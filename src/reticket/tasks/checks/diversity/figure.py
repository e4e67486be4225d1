"""The figure of ensembles: what one gains against how much its members differ."""

from collections.abc import Sequence
from functools import partial

from reticket.figures.chart import few_ticks
from reticket.figures.finding import MOST_PANELS, Finding
from reticket.figures.labels import label_offsets
from reticket.figures.looks import Look, label, looks
from reticket.figures.marks import Mark, belongs, tell
from reticket.figures.spec import SIZE, Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.text import PERCENT, counts, listed, number, percent, plus_minus, rewind_order, rewound
from reticket.records import Stat
from reticket.tasks.checks.diversity.record import Diversity
from reticket.tasks.results import Results

PROTOCOLS = {"one ticket": "runs of one ticket", "independent": "independent runs"}
GridPoint = tuple[float, str | None]


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
        f"independent runs. Arrows point to what lies outside the axes.{_spread_note(top)}"
    )
    says = _diversity_says([record for record in top if record.rewind in (rewinds_drawn[-1], None)])
    legend = tuple(LegendEntry(look.label, look.hex, look.mark, width=0.0) for look in styles.values())
    return Finding(FigureSpec("diversity", tuple(panels), legend), tuple(says), caption)


def _spread_note(known: Sequence[Diversity]) -> str:
    """Say over what the spread is, where there are several tickets."""
    several = [record.n for record in known if record.over_tickets is not None]
    if not several:
        return ""
    return (
        f" Numbers are means over tickets ({counts(several)}), each with an ensemble of seeds that no other has; "
        "independent runs are ensembles of the same seeds. Bars, and what stands after ±, are one sd over them."
    )


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
    x = [end for record in chosen for end in _ends(record, "disagreement")]
    y = [end for record in chosen for end in _ends(record, "gain")]
    low = min(0.0, *y) if len(y) > 1 else min(0.0, y[0])
    return (0.0, 1.12 * max(x) or 1.0), (low, low + 1.12 * (max(y) - low) or 1.0)


def _ends(record: Diversity, name: str) -> tuple[float, float]:
    """Return a number of an ensemble less and plus one sd over tickets; twice itself where no spread is known."""
    mean = getattr(record, name) or 0.0
    sd = getattr(record.over_tickets, name).sd or 0.0 if record.over_tickets else 0.0
    return mean - sd, mean + sd


def _bars(axes: Axes, record: Diversity, place: tuple[float, float], look: Look) -> None:
    """Draw one sd over tickets, both ways."""
    look_of = {"colors": look.hex, "linewidth": 1.1, "alpha": 0.7, "zorder": 2}
    belongs(record.method, axes.hlines([place[1]], *_ends(record, "disagreement"), **look_of))
    belongs(record.method, axes.vlines([place[0]], *_ends(record, "gain"), **look_of))


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
        if record.over_tickets is not None and not outside:
            _bars(axes, record, places[-1], look)
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
    n = f" (n = {record.n})" if record.over_tickets else ""
    return f"{label(record.method)}{protocol}: {_gain(record)} points, members differ on {_share(record)}{PERCENT}{n}"


def _gain(record: Diversity) -> str:
    """Return what the ensemble gains, with its spread over tickets."""
    sd = record.over_tickets.gain.sd if record.over_tickets else None
    return f"{number(record.gain, 1, sign=True)}{'' if sd is None else f' ± {number(sd)}'}"


def _share(record: Diversity) -> str:
    """Return the percent of images on which two members differ, with its spread over tickets."""
    sd = record.over_tickets.disagreement.sd if record.over_tickets else None
    return plus_minus(Stat(mean=100 * (record.disagreement or 0.0), sd=None if sd is None else 100 * sd))


def _diversity_says(known: Sequence[Diversity]) -> list[str]:
    """Say which ensemble is best, and what permuted and LTH gain and differ by under the same protocol."""
    if not known:
        return []
    best = max(known, key=lambda record: record.ensemble_accuracy or 0.0)
    accuracy, gain = f"{number(best.ensemble_accuracy)}{PERCENT}", _gain(best)
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
    share = f"{_share(record)}{PERCENT} of the test images for {label(record.method)}"
    return f"{share} (ensemble gain {_gain(record)} points)"
