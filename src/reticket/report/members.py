"""What sparse networks give as an ensemble, and which classes pruning hurts."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes

from reticket.report.chart import Dot, dot_of, dots, name_room, row_height
from reticket.report.exhibit import MOST_PANELS, Exhibit, left_out
from reticket.report.methods import INK, RULE, SOFT, Look, label, looks
from reticket.report.plate import SIZE, Key, Panel, Plate, method_key
from reticket.report.schema import ClassChange, Diversity, Results
from reticket.report.text import counts, number, percent, rewind_order, rewound

MOST_CLASSES = 20
Place = tuple[float, str | None]


def diversity(results: Results) -> Exhibit | None:
    """Return the gain of the ensemble against the disagreement of its members, a panel for each setting."""
    known = [one for one in results.diversity if one.gain is not None and one.disagreement.mean is not None]
    if not known:
        return None
    places = list(dict.fromkeys((one.sparsity, one.rewind) for one in known if one.rewind is not None))
    places = places or list(dict.fromkeys((one.sparsity, one.rewind) for one in known))
    shown = sorted(places, key=lambda place: (-place[0], str(place[1])))[:MOST_PANELS]
    styles = looks(one.method for one in known)
    panels = []
    for place in shown:
        mine = [
            one
            for one in known
            if (one.sparsity, one.rewind) == place or (one.rewind is None and one.sparsity == place[0])
        ]
        title = f"{percent(place[0])} sparsity, {rewound(place[1])}"
        alt = f"Ensemble gain against disagreement, {title}. {' '.join(_diversity_says(mine))}"
        panels.append(Panel(partial(_scatter, known=mine, styles=styles), title, "ensemble gain (points)", alt, 190))
    members = counts(one.members for one in known).replace("n = ", "")
    caption = (
        f"Accuracy of the ensemble of {members} members less their mean accuracy, against the share of test images on which two members "
        "differ. Filled: one ticket, many runs; open: independently found tickets."
    )
    says = _diversity_says([one for one in known if one.sparsity == shown[0][0] and one.rewind in (shown[0][1], None)])
    legend = tuple(method_key(look) for look in styles.values())
    legend = tuple(Key(key.label, key.colour, key.marker, width=0.0) for key in legend)
    return Exhibit(
        Plate("diversity", tuple(panels), legend),
        tuple(says),
        caption + left_out(len(shown), len(places), "settings", "diversity"),
    )


def _scatter(axes: Axes, known: Sequence[Diversity], styles: dict[str, Look]) -> None:
    for one in known:
        look = styles[one.method]
        filled = one.protocol != "independent"
        axes.plot(
            [one.disagreement.mean],
            [one.gain],
            linestyle="",
            marker="o" if look.marker == "_" else look.marker,
            color=look.hex,
            markersize=7 if look.role == "key" else 5.5,
            markerfacecolor=look.hex if filled else "none",
            markeredgewidth=0 if filled else 1.2,
            clip_on=False,
        )
        if look.role == "key":
            axes.annotate(look.label, (one.disagreement.mean or 0.0, one.gain or 0.0), (7, 0), textcoords="offset points",
                          va="center", size=SIZE, color=look.hex, weight="bold", annotation_clip=False)  # fmt: skip
    axes.margins(0.12)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlim(left=0.0)
    axes.set_xlabel("disagreement of two members (share of test images)")


def _diversity_says(known: Sequence[Diversity]) -> list[str]:
    best = max(known, key=lambda one: one.ensemble_accuracy.mean or 0.0)
    result = [
        f"The best ensemble is that of {label(best.method)} ({best.protocol or 'members'}): {number(best.ensemble_accuracy.mean)}{chr(160)}%, "
        f"{number(best.gain, 1, sign=True)} points over its members."
    ]
    found = {one.method: one for one in known}
    if "permuted" in found and "lth" in found:
        mine, other = found["permuted"], found["lth"]
        result.append(
            f"Permuted tickets disagree on {number(_points(mine))}{chr(160)}% of the test images and gain {number(mine.gain, 1, sign=True)} points; "
            f"LTH runs disagree on {number(_points(other))}{chr(160)}% and gain {number(other.gain, 1, sign=True)}."
        )
    return result


def _points(one: Diversity) -> float:
    return 100 * (one.disagreement.mean or 0.0)


def per_class(results: Results) -> Exhibit | None:
    """Return the change of each class's accuracy from dense to sparse at the highest sparsity, a panel for each rewind."""
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
    panels = tuple(_class_panel(mine, shown, drawn, rewind) for rewind in rewinds[:MOST_PANELS])
    styles = looks(drawn)
    n = counts(one.change.n for one in mine)
    caption = f"Test accuracy of each class, sparse less dense, at {percent(top)} sparsity; 0 is no change, left is worse. Whiskers are ± 1 sd over seeds, {n}."
    legend = tuple(Key(look.label, look.hex, look.marker, width=0.0) for look in styles.values())
    says = tuple(_class_says(mine, rewinds[-1]))
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


def _class_panel(
    known: Sequence[ClassChange], names: Sequence[str], methods: Sequence[str], rewind: str | None
) -> Panel:
    styles = looks(methods)
    points: list[Dot] = []
    step = 0.5 / max(1, len(styles) - 1)
    for index, (method, look) in enumerate(styles.items()):
        for one in known:
            if one.method == method and one.rewind in (rewind, None) and one.name in names:
                offset = index * step - 0.25 if len(styles) > 1 else 0.0
                dot = dot_of(names.index(one.name), one.change, look.hex, look.marker, offset)
                points += [dot] if dot is not None else []
    alt = f"Change of each class's accuracy, {rewound(rewind)}. {' '.join(_class_says(known, rewind))}"
    draw = partial(_draw_classes, names=names, points=points)
    return Panel(draw, rewound(rewind), "class", alt, row_height(len(names), 19), name_room(names))


def _draw_classes(axes: Axes, names: Sequence[str], points: Sequence[Dot]) -> None:
    axes.axvline(0, color=RULE, linewidth=1.1, zorder=1)
    dots(axes, names, points)
    axes.set_xlabel("change of accuracy (points)", color=SOFT)
    axes.tick_params(axis="y", labelcolor=INK)


def _class_says(known: Sequence[ClassChange], rewind: str | None) -> list[str]:
    result = []
    for method in ("permuted", "naive"):
        mine = [one for one in known if one.method == method and one.rewind in (rewind, None)]
        if mine:
            worst = min(mine, key=lambda one: one.change.mean or 0.0)
            mean = sum(one.change.mean or 0.0 for one in mine) / len(mine)
            result.append(
                f"{label(method).capitalize()}, {rewound(rewind)}: class {worst.name} changes most for the worse "
                f"({number(worst.change.mean, 1, sign=True)} points; the mean over classes is {number(mean, 1, sign=True)})."
            )
    return result
