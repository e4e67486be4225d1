"""The share of the LTH - naive gap that a method closes, with its interval over seeds."""

from collections.abc import Sequence
from functools import partial

from reticket.figures.chart import Dot, dots, name_room, row_height
from reticket.figures.finding import MOST_PANELS, Finding, left_out
from reticket.figures.looks import INK, RULE, SOFT, label, looks
from reticket.figures.spec import SIZE, Axes, FigureSpec, Panel
from reticket.figures.text import PERCENT, counts, listed, number, percent, rewind_order, rewound
from reticket.report.metric_words import MetricWords
from reticket.tasks.results import Results
from reticket.tasks.rows import Gap

MOST_ROWS = 36
FEW = 5  # seeds


def open_gap(gap: Gap) -> bool:
    """Return whether the LTH - naive gap is clearly above 0; a share of nothing means nothing."""
    return gap.gap is not None and gap.gap > 0 and (gap.gap_low is None or gap.gap_low > 0)


def leading(results: Results, method: str = "permuted") -> list[Gap]:
    """Return a method's gaps at the highest sparsity, latest rewind point first."""
    mine = [gap for gap in results.gap_closed if gap.method == method]
    highest = max((gap.sparsity for gap in mine), default=None)
    order: list[str | None] = [*rewind_order(gap.rewind for gap in mine), None]
    return sorted((gap for gap in mine if gap.sparsity == highest), key=lambda gap: -order.index(gap.rewind))


def sentence(gap: Gap, words: MetricWords) -> str:
    """Say in one sentence what a method closes, or that there is no gap to close."""
    where = f"At {percent(gap.sparsity)} sparsity, {rewound(gap.rewind)}"
    if not open_gap(gap) or gap.share is None:
        bounds = "" if gap.gap_low is None else f" [{words.number(gap.gap_low)}, {words.number(gap.gap_high)}]"
        size = "unknown" if gap.gap is None else f"{words.number(gap.gap)}{words.points}{bounds}"
        gap_words = f"the gap between naive and LTH ({size}, n = {gap.n})"
        return f"{where}, {gap_words} is not clearly above 0, so no share of it is claimed."
    name = "the permuted ticket" if gap.method == "permuted" else label(gap.method)
    bare = ", so without an interval" if gap.low is None else ""
    return f"{where}, {name} closes {interval(gap)} of the gap between naive and LTH (n = {gap.n}{bare})."


def interval(gap: Gap) -> str:
    """Return a share with its interval, "82 % [61, 104]"."""
    text = number(gap.share, 0) + PERCENT
    if gap.low is None or gap.high is None:
        return text
    return f"{text} [{number(gap.low, 0)}, {number(gap.high, 0)}]"


def gap_closed(results: Results) -> Finding | None:
    """Return the share of the gap closed: a panel for each rewind point, rows by sparsity and method."""
    known, words = [gap for gap in results.gap_closed if gap.share is not None], MetricWords.of(results)
    if not known:
        return None
    rewinds: list[str | None] = [*rewind_order(gap.rewind for gap in known)] or [None]
    shown = rewinds[:MOST_PANELS]
    levels = sorted({gap.sparsity for gap in known})
    methods = list(looks(gap.method for gap in known))
    drawn = methods[: max(1, MOST_ROWS // len(levels))]
    limits = _limits([gap for gap in known if gap.method in drawn])
    panels = tuple(
        _panel([gap for gap in known if gap.rewind == rewind], levels, drawn, (rewind, limits), words)
        for rewind in shown
    )
    confidence = next((gap.confidence for gap in known if gap.confidence), 0.95)
    seeds = counts(gap.n for gap in known)
    caption = "Share of the gap between naive (0 %) and LTH (100 %) that each method closes; "
    if any(gap.low is not None for gap in known):
        exact = all(gap.interval == "fieller" for gap in known)
        kind = "paired intervals (Fieller's, from Student's t)" if exact else "bootstrap intervals"
        caption += f"whiskers are {percent(confidence)} {kind} over seeds, {seeds}."
        if not exact and min(gap.n for gap in known) <= FEW:
            caption += " With so few seeds such an interval is too narrow: with 3 it is the range of the seeds."
    elif max(gap.n for gap in known) > 1:
        caption += f"without intervals, because the gap itself is not clearly above 0 ({seeds})."
    else:
        caption += f"one seed has no interval ({seeds})."
    if any(not limits[0] <= (gap.share or 0.0) <= limits[1] for gap in known if gap.method in drawn):
        caption += " Arrows point to what lies outside the axis."
    if not all(open_gap(gap) for gap in known):
        caption += " Open marks: the gap itself is not clearly above 0 there."
    caption += left_out(len(drawn), len(methods), "methods", "gap_closed")
    return Finding(FigureSpec("gap_closed", panels), _says(known, words), caption)


def _says(known: Sequence[Gap], words: MetricWords) -> tuple[str, ...]:
    mine = [gap for gap in known if gap.method == "permuted" and open_gap(gap)]
    if not mine:
        return ("No setting leaves a gap between naive and LTH that is clearly above 0.",)
    settings = sum(gap.method == "permuted" for gap in known)
    best, worst = (end(mine, key=lambda gap: gap.share or 0.0) for end in (max, min))
    if best is worst:
        return (sentence(best, words),)
    ends = [f"{interval(gap)} at {percent(gap.sparsity)}, {rewound(gap.rewind)}" for gap in (worst, best)]
    left = max(mine, key=lambda gap: gap.left or 0.0)
    where = f"{percent(left.sparsity)}, {rewound(left.rewind)}"
    rest = f"The most it leaves open is {words.number(left.left)}{words.points}, at {where}."
    return (
        f"Where there is a gap to close ({len(mine)} of {settings} settings), "
        f"the permuted ticket closes between {listed(ends)}.",
        *([rest] if left.left is not None else []),
    )


def _limits(gaps: Sequence[Gap]) -> tuple[float, float]:
    """Cover the shares with some room; a wild interval is cut, and marked, rather than flattening the rest."""
    ends = [end for gap in gaps if open_gap(gap) for end in (gap.low, gap.high, gap.share) if end is not None]
    return max(-120.0, min([-12.0, *ends]) - 5), min(220.0, max([112.0, *ends]) + 5)


def _panel(
    gaps: Sequence[Gap],
    levels: Sequence[float],
    methods: Sequence[str],
    where: tuple[str | None, tuple[float, float]],
    words: MetricWords,
) -> Panel:
    """Return the panel of a rewind point, over the limits of all."""
    rewind, limits = where
    styles = looks(methods)
    names: list[str] = []
    points: list[Dot] = []
    heads: list[tuple[int, str]] = []
    for level in levels:
        heads.append((len(names), f"{percent(level)} sparsity"))
        names.append("")
        for method in methods:
            gap = next((gap for gap in gaps if gap.sparsity == level and gap.method == method), None)
            if gap is None or gap.share is None:
                continue
            look = styles[method]
            row, says = len(names), f"{look.label}, {percent(level)}: {interval(gap)} (n = {gap.n})"
            ends = (gap.low, gap.high)
            points.append(Dot(row, gap.share, look.hex, *ends, look.marker, open_gap(gap), method, says))
            names.append(look.label)
    told = " ".join(sentence(gap, words) for gap in gaps if gap.method == "permuted")
    room = name_room([*names, "98 % sparsity"])
    draw = partial(_draw, names=names, points=points, heads=heads, limits=limits, room=room)
    return Panel(
        draw,
        rewound(rewind),
        "",
        f"Share of the gap closed, {rewound(rewind)}. {told}",
        row_height(len(names), 14.0),
        room,
    )


def _draw(
    axes: Axes,
    names: Sequence[str],
    points: Sequence[Dot],
    heads: Sequence[tuple[int, str]],
    limits: tuple[float, float],
    room: float,
) -> None:
    dots(axes, names, points, limits)
    out = {"textcoords": "offset points", "annotation_clip": False, "size": SIZE}
    for row, text in heads:
        place = ("axes fraction", "data")
        axes.annotate(text, (0, row), (-room, 0), xycoords=place, va="center", color=INK, weight="bold", **out)
    for share, text in ((0, "naive"), (100, "LTH")):
        axes.axvline(share, color=RULE, linewidth=1.1, zorder=1)
        axes.annotate(text, (share, 1), (0, 3), xycoords=("data", "axes fraction"), ha="center", color=SOFT, **out)
    axes.set_xlabel("share of the gap closed (%)")
