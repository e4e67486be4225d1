"""Which classes pruning hurts: each class's accuracy after sparse training against the same network's dense one."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from reticket.analysis import changed_classes, mean_interval
from reticket.experiment import Task
from reticket.figures.chart import Dot, dots, name_room, row_height
from reticket.figures.columns import PLACE
from reticket.figures.finding import MOST_PANELS, Finding, left_out
from reticket.figures.looks import RULE, label, looks
from reticket.figures.spec import Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.table import column, measured
from reticket.figures.text import PERCENT, counts, listed, number, percent, plural, rewind_order, rewound, spread_note
from reticket.records import Measured, Stat
from reticket.tasks.cells import Cell
from reticket.tasks.check import Check, register
from reticket.tasks.checks.exemplars.counts import Exemplars
from reticket.tasks.results import Results
from reticket.tasks.rows import CellRecord
from reticket.tasks.stored import Stored, place_of, stat_of

MOST_CLASSES = 20
Pairs = Sequence[tuple[Sequence[float | None], Sequence[float | None]]]


class ClassChange(CellRecord):
    """Accuracy of one class, dense and sparse."""

    name: str = Field(validation_alias="class", serialization_alias="class", description="the class")
    dense: Measured = Field(default=Stat(), description="accuracy of the dense networks on its test images (percent)")
    sparse: Measured = Field(default=Stat(), description="accuracy of the sparse networks (percent)")
    change: Measured = Field(default=Stat(), description="sparse less dense, paired by seed (points)")


@register
class ClassChanges(Check):
    """The change of each class from dense to sparse; computed from the networks of the table."""

    name = "per_class"
    place = 50
    sections: ClassVar = {"per_class": ClassChange}
    of_classes = True
    title = "Change of each class"
    about = "Pruning may cost some classes more than others."
    columns: ClassVar = {
        "per_class": (
            *PLACE,
            column("class", "class", get="name"),
            measured("dense", "dense (%)"),
            measured("sparse", "sparse (%)"),
            measured("change", "change (points)"),
            column("n", "n", get="change.n"),
        )
    }

    def results(self, found: Stored, tasks: Mapping[Any, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return each class's accuracy after sparse training against the same network's dense training (percent)."""
        return {
            "per_class": [
                row
                for cell, mine in found.plan.runs.items()
                if cell.method != "dense"
                for row in _rows(cell, _pairs(cell, mine, found), found.plan.facts.classes)
            ]
        }

    def finding(self, results: Results) -> Finding | None:
        """Return the change of each class at the highest sparsity, a panel for each rewind point."""
        return per_class(results)


def _pairs(cell: Cell, tasks: Sequence[Task], found: Stored) -> Pairs:
    """Return by seed the accuracy on each class, of the dense network and of the sparse one."""
    plan = found.plan
    network = plan.methods[cell.method].network
    dense = (plan.networks.dense(network, seed) for seed in plan.config.grid.seeds)
    both = [(found.by_class(before), found.by_class(after)) for before, after in zip(dense, tasks, strict=True)]
    return [(before, after) for before, after in both if before and after]


def _rows(cell: Cell, pairs: Pairs, classes: Sequence[str]) -> list[ClassChange]:
    rows = []
    for place, name in enumerate(classes):
        both = [(before[place], after[place]) for before, after in pairs]
        known = [(x, y) for x, y in both if x is not None and y is not None]
        if known:
            dense, sparse = ([pair[side] for pair in known] for side in (0, 1))
            change = stat_of([after - before for before, after in known])
            rows.append(
                ClassChange(**place_of(cell), name=name, dense=stat_of(dense), sparse=stat_of(sparse), change=change)
            )
    return rows


# ---------------------------------------------------------------- the figure


def per_class(results: Results) -> Finding | None:
    """Return the change of each class from dense to sparse at the highest sparsity, a panel for each rewind point."""
    known = [record for record in results.of(ClassChange) if record.change.mean is not None]
    if not known:
        return None
    top = max(record.sparsity for record in known)
    mine = [record for record in known if record.sparsity == top]
    methods = list(looks(record.method for record in mine))
    drawn = [method for method in methods if looks([method])[method].role == "key"] or methods[:3]
    rewinds: list[str | None] = [*rewind_order(record.rewind for record in mine)] or [None]
    names = _classes(mine)
    classes = names[:MOST_CLASSES]
    limits = _class_limits([record for record in mine if record.method in drawn and record.name in classes])
    panels = tuple(_class_panel(mine, classes, drawn, rewind, limits) for rewind in rewinds[:MOST_PANELS])
    styles = looks(drawn)
    caption = (
        f"Test accuracy of each class, sparse less dense, at {percent(top)} sparsity; left of 0 is worse. "
        f"{_whiskers(mine)} A class is called changed by a paired t test over seeds, corrected for the number of "
        f"classes (Holm, family-wise 5{PERCENT}); with few seeds only large changes can be told from chance."
    )
    legend = tuple(LegendEntry(look.label, look.hex, look.marker, width=0.0) for look in styles.values())
    images = {record.name: record.images for cell in results.of(Exemplars)[:1] for record in cell.classes}
    says = (*_class_says(mine, rewinds[-1]), *_class_tests(mine, rewinds[-1], images))
    return Finding(
        FigureSpec("per_class", panels, legend),
        says,
        caption + left_out(len(classes), len(names), "classes", "per_class"),
    )


def _classes(known: Sequence[ClassChange]) -> list[str]:
    """Return the class names: as they come, or the most changed first when there are many."""
    names = list(dict.fromkeys(record.name for record in known))
    if len(names) <= MOST_CLASSES:
        return names
    size = {name: max(abs(record.change.mean or 0.0) for record in known if record.name == name) for name in names}
    return sorted(names, key=lambda name: -size[name])


def _class_limits(known: Sequence[ClassChange]) -> tuple[float, float]:
    """Return the range of all panels: changes are compared across rewind points too."""
    ends = [end for record in known for end in _change_interval(record.change) or (record.change.mean or 0.0,)]
    most = 3 * max(abs(record.change.mean or 0.0) for record in known) if known else 0.0
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
        for record in known:
            if record.method == method and record.rewind in (rewind, None) and record.name in names:
                offset = index * step - 0.25 if len(styles) > 1 else 0.0
                ends = _change_interval(record.change) or (None, None)
                row = names.index(record.name) + offset
                if record.change.mean is not None:
                    points.append(Dot(row, record.change.mean, look.hex, *ends, look.marker, method=method))
    alt = f"Change of each class's accuracy, {rewound(rewind)}. {' '.join(_class_says(known, rewind))}"
    draw = partial(_draw_classes, names=names, points=points, limits=limits)
    return Panel(draw, rewound(rewind), "class", alt, row_height(len(names), 19.0), name_room(names))


def _change_interval(change: Stat) -> tuple[float, float] | None:
    """Return the 95 % t interval of a mean change, or None for one seed."""
    values = [value for value in change.values if value is not None]
    return mean_interval(values) if len(values) > 1 else None


def _whiskers(mine: Sequence[ClassChange]) -> str:
    if all(_change_interval(record.change) is None for record in mine):
        return spread_note("Whiskers", (record.change.n for record in mine))
    return f"Whiskers are 95{PERCENT} t intervals of the mean over seeds, {counts(record.change.n for record in mine)}."


def _class_tests(known: Sequence[ClassChange], rewind: str | None, images: Mapping[str, int]) -> list[str]:
    """Say how many classes each of the three methods changes beyond chance, and how many unlike the average class."""
    parts, counted = [], set()
    for method in ("lth", "permuted", "naive"):
        mine = [record for record in known if record.method == method and record.rewind in (rewind, None)]
        changes = [[value for value in record.change.values if value is not None] for record in mine]
        if len(changes) < 2 or len(set(map(len, changes))) != 1 or len(changes[0]) < 2:
            continue
        steps = [100 / images[record.name] if images.get(record.name) else 0.0 for record in mine]
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
        mine = [record for record in known if record.method == method and record.rewind in (rewind, None)]
        if mine:
            worst = min(mine, key=lambda record: record.change.mean or 0.0)
            mean = sum(record.change.mean or 0.0 for record in mine) / len(mine)
            change, overall = (number(value, 1, sign=True) for value in (worst.change.mean, mean))
            who = f"{label(method).capitalize()}, {rewound(rewind)}"
            worst_says = f"class {worst.name} changes most for the worse ({change} points)"
            result.append(f"{who}: {worst_says}; the mean over classes is {overall}.")
    return result
