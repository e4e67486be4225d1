"""What sparse networks give as an ensemble, and which classes pruning hurts."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reticket.analysis import changed_classes, mean_interval
from reticket.report.chart import STEPS, Dot, dots, name_room, row_height
from reticket.report.exhibit import MOST_PANELS, Exhibit, left_out
from reticket.report.methods import RULE, Look, label, looks
from reticket.report.plate import SIZE, Key, Panel, Plate
from reticket.report.schema import ClassChange, Diversity, Results, Stat
from reticket.report.text import PERCENT, counts, listed, number, percent, plural, rewind_order, rewound, spread_note

MOST_CLASSES = 20
PROTOCOLS = {"one ticket": "runs of one ticket", "independent": "independent runs"}
Place = tuple[float, str | None]


def diversity(results: Results) -> Exhibit | None:
    """Return the gain of the ensemble against the disagreement of its members at the highest sparsity."""
    known = [one for one in results.diversity if one.gain is not None and one.disagreement.mean is not None]
    place = diversity_place(results)
    if place is None or not known:
        return None
    top = [one for one in known if one.sparsity == place[0]]
    rewinds: list[str | None] = [*rewind_order(one.rewind for one in top)] or [None]
    shown = rewinds[-MOST_PANELS:]
    styles = looks(one.method for one in top)
    panels = []
    for rewind in shown:
        mine = [one for one in top if one.rewind in (rewind, None)]
        alt = f"Ensemble gain against disagreement, {rewound(rewind)}. {' '.join(_diversity_says(mine))}"
        draw = partial(_scatter, known=mine, styles=styles, limits=_ranges(top, styles))
        panels.append(Panel(draw, rewound(rewind), "ensemble gain (points)", alt, 190.0))
    members = counts(one.members for one in top).replace("n = ", "")
    caption = (
        f"At {percent(place[0])} sparsity: accuracy of the ensemble of {members} members less their mean accuracy, "
        "against the share of test images on which two members differ. Filled: one ticket, many runs; open: "
        "independent runs. Arrows point to what lies outside the axes."
    )
    says = _diversity_says([one for one in top if one.rewind in (shown[-1], None)])
    legend = tuple(Key(look.label, look.hex, look.mark, width=0.0) for look in styles.values())
    return Exhibit(Plate("diversity", tuple(panels), legend), tuple(says), caption)


def diversity_place(results: Results) -> Place | None:
    """Return the setting that speaks most plainly: the highest sparsity, and its latest rewind point."""
    levels = [one.sparsity for one in results.diversity]
    if not levels:
        return None
    rewinds = rewind_order(one.rewind for one in results.diversity if one.sparsity == max(levels))
    return max(levels), rewinds[-1] if rewinds else None


Ranges = tuple[tuple[float, float], tuple[float, float]]


def _ranges(known: Sequence[Diversity], styles: dict[str, Look]) -> Ranges:
    """Return the ranges of disagreement and gain, without the controls where these would crowd the rest."""
    chosen = [one for one in known if styles[one.method].role != "control"] or list(known)
    x = [one.disagreement.mean or 0.0 for one in chosen]
    y = [one.gain or 0.0 for one in chosen]
    low = min(0.0, *y) if len(y) > 1 else min(0.0, y[0])
    return (0.0, 1.12 * max(x) or 1.0), (low, low + 1.12 * (max(y) - low) or 1.0)


def _scatter(axes: Axes, known: Sequence[Diversity], styles: dict[str, Look], limits: Ranges) -> None:
    (left, right), (low, high) = limits
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    bare = all(one.protocol == "independent" for one in known)
    for one in known:
        look, filled = styles[one.method], one.protocol != "independent"
        x, y = one.disagreement.mean or 0.0, one.gain or 0.0
        outside = not (left <= x <= right and low <= y <= high)
        axes.plot(
            min(x, right),
            min(max(y, low), high),
            linestyle="",
            marker=(">" if x > right else "^") if outside else look.mark,
            color=look.hex,
            markersize=4 if outside else 7 if look.role == "key" else 5.5,
            markerfacecolor=look.hex if filled else "none",
            markeredgewidth=0 if filled else 1.1,
            zorder=4 if look.role == "key" else 3,
            clip_on=False,
        )
        if look.role == "key" and (filled or bare) and not outside:
            out = {"textcoords": "offset points", "annotation_clip": False, "size": SIZE, "weight": "bold"}
            axes.annotate(look.label, (x, y), (7, 0), va="center", color=look.hex, **out)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.set_xlabel("disagreement of two members (share of test images)")


def _diversity_says(known: Sequence[Diversity]) -> list[str]:
    """Say which ensemble is best, and what permuted and LTH gain and differ by under the same protocol."""
    if not known:
        return []
    best = max(known, key=lambda one: one.ensemble_accuracy.mean or 0.0)
    accuracy, gain = f"{number(best.ensemble_accuracy.mean)}{PERCENT}", number(best.gain, 1, sign=True)
    protocol = f" ({PROTOCOLS.get(best.protocol, best.protocol)})" if best.protocol else ""
    result = [
        f"The best ensemble is that of {label(best.method)}{protocol}: {accuracy}, {gain} points over its members."
    ]
    found = {(one.protocol, one.method): one for one in known}
    for protocol in dict.fromkeys(one.protocol for one in known):
        mine = [found[protocol, method] for method in ("permuted", "naive", "lth") if (protocol, method) in found]
        if len(mine) > 1:
            runs = PROTOCOLS.get(protocol, protocol or "of these runs")
            result.append(f"Two {runs} differ on {listed(map(_member_says, mine))}.")
            break
    return result


def _member_says(one: Diversity) -> str:
    share = f"{number(100 * (one.disagreement.mean or 0.0))}{PERCENT} of the test images for {label(one.method)}"
    return f"{share} (ensemble gain {number(one.gain, 1, sign=True)} points)"


def per_class(results: Results) -> Exhibit | None:
    """Return the change of each class from dense to sparse at the highest sparsity, a panel for each rewind point."""
    known = [one for one in results.per_class if one.change.mean is not None]
    if not known:
        return None
    top = max(one.sparsity for one in known)
    mine = [one for one in known if one.sparsity == top]
    methods = list(looks(one.method for one in mine))
    drawn = [method for method in methods if looks([method])[method].role == "key"] or methods[:3]
    rewinds: list[str | None] = [*rewind_order(one.rewind for one in mine)] or [None]
    names = _classes(mine)
    shown = names[:MOST_CLASSES]
    limits = _class_limits([one for one in mine if one.method in drawn and one.name in shown])
    panels = tuple(_class_panel(mine, shown, drawn, rewind, limits) for rewind in rewinds[:MOST_PANELS])
    styles = looks(drawn)
    caption = (
        f"Test accuracy of each class, sparse less dense, at {percent(top)} sparsity; left of 0 is worse. "
        f"{_whiskers(mine)} A class is called changed by a paired t test over seeds, corrected for the number of "
        f"classes (Holm, family-wise 5{PERCENT}); with few seeds only large changes can be told from chance."
    )
    legend = tuple(Key(look.label, look.hex, look.marker, width=0.0) for look in styles.values())
    images = {one.name: one.images for cell in results.exemplars[:1] for one in cell.classes}
    says = (*_class_says(mine, rewinds[-1]), *_class_tests(mine, rewinds[-1], images))
    return Exhibit(
        Plate("per_class", panels, legend), says, caption + left_out(len(shown), len(names), "classes", "per_class")
    )


def _classes(known: Sequence[ClassChange]) -> list[str]:
    """Return the class names: as they come, or the most changed first when there are many."""
    names = list(dict.fromkeys(one.name for one in known))
    if len(names) <= MOST_CLASSES:
        return names
    size = {name: max(abs(one.change.mean or 0.0) for one in known if one.name == name) for name in names}
    return sorted(names, key=lambda name: -size[name])


def _class_limits(known: Sequence[ClassChange]) -> tuple[float, float]:
    """Return the range of all panels: changes are compared across rewind points too."""
    ends = [end for one in known for end in _change_interval(one.change) or (one.change.mean or 0.0,)]
    most = 3 * max(abs(one.change.mean or 0.0) for one in known) if known else 0.0
    ends = [min(max(end, -most), most) for end in ends]  # an interval of few seeds must not flatten the rest
    pad = 0.04 * (max(0.0, *ends) - min(0.0, *ends)) or 0.5
    return min(0.0, *ends) - pad, max(0.0, *ends) + pad


def _class_panel(
    known: Sequence[ClassChange],
    names: Sequence[str],
    methods: Sequence[str],
    rewind: str | None,
    limits: tuple[float, float],
) -> Panel:
    styles = looks(methods)
    points: list[Dot] = []
    step = 0.5 / max(1, len(styles) - 1)
    for index, (method, look) in enumerate(styles.items()):
        for one in known:
            if one.method == method and one.rewind in (rewind, None) and one.name in names:
                offset = index * step - 0.25 if len(styles) > 1 else 0.0
                ends = _change_interval(one.change) or (None, None)
                row = names.index(one.name) + offset
                if one.change.mean is not None:
                    points.append(Dot(row, one.change.mean, look.hex, *ends, look.marker))
    alt = f"Change of each class's accuracy, {rewound(rewind)}. {' '.join(_class_says(known, rewind))}"
    draw = partial(_draw_classes, names=names, points=points, limits=limits)
    return Panel(draw, rewound(rewind), "class", alt, row_height(len(names), 19.0), name_room(names))


def _change_interval(change: Stat) -> tuple[float, float] | None:
    """Return the 95 % t interval of a mean change, or None for one seed."""
    values = [value for value in change.values if value is not None]
    return mean_interval(values) if len(values) > 1 else None


def _whiskers(mine: Sequence[ClassChange]) -> str:
    if all(_change_interval(one.change) is None for one in mine):
        return spread_note("Whiskers", (one.change.n for one in mine))
    return f"Whiskers are 95{PERCENT} t intervals of the mean over seeds, {counts(one.change.n for one in mine)}."


def _class_tests(known: Sequence[ClassChange], rewind: str | None, images: Mapping[str, int]) -> list[str]:
    """Say how many classes each of the three methods changes beyond chance, and how many unlike the average class."""
    parts, counted = [], set()
    for method in ("lth", "permuted", "naive"):
        mine = [one for one in known if one.method == method and one.rewind in (rewind, None)]
        changes = [[value for value in one.change.values if value is not None] for one in mine]
        if len(changes) < 2 or len(set(map(len, changes))) != 1 or len(changes[0]) < 2:
            continue
        steps = [100 / images[one.name] if images.get(one.name) else 0.0 for one in mine]
        found = changed_classes(changes, steps=steps)
        counted.add(found.n)
        of = "" if parts else f" of {plural(len(mine), 'class')}"
        parts.append(f"{label(method)} changes {sum(found.changed)}{of} ({sum(found.apart)} unlike the average class)")
    return [f"Beyond chance ({counts(counted)}), {listed(parts)}."] if parts else []


def _draw_classes(axes: Axes, names: Sequence[str], points: Sequence[Dot], limits: tuple[float, float]) -> None:
    axes.axvline(0, color=RULE, linewidth=1.1, zorder=1)
    dots(axes, names, points, limits)
    axes.set_xlabel("change of accuracy (points)")


def _class_says(known: Sequence[ClassChange], rewind: str | None) -> list[str]:
    result = []
    for method in ("permuted", "naive"):
        mine = [one for one in known if one.method == method and one.rewind in (rewind, None)]
        if mine:
            worst = min(mine, key=lambda one: one.change.mean or 0.0)
            mean = sum(one.change.mean or 0.0 for one in mine) / len(mine)
            change, overall = (number(value, 1, sign=True) for value in (worst.change.mean, mean))
            who = f"{label(method).capitalize()}, {rewound(rewind)}"
            worst_says = f"class {worst.name} changes most for the worse ({change} points)"
            result.append(f"{who}: {worst_says}; the mean over classes is {overall}.")
    return result
