"""The figure of the exemplars: how many each method makes, the accuracy on them and on the rest, their classes."""

from collections.abc import Sequence
from functools import partial

from reticket.figures.chart import Dot, dots, name_room, row_height
from reticket.figures.finding import Finding, left_out
from reticket.figures.looks import PALETTE, RULE, SOFT, label, looks
from reticket.figures.spec import Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.text import PERCENT, number, percent, plural, rewound
from reticket.records import Stat
from reticket.tasks.checks.exemplars.counts import Exemplars
from reticket.tasks.checks.exemplars.sheet import sheet_row
from reticket.tasks.results import Results

MOST_CLASSES = 20
FEW = 5  # networks
WHERE = {"dense_on_exemplars": "dense, exemplars", "sparse_on_exemplars": "sparse, exemplars",
         "dense_on_rest": "dense, the rest", "sparse_on_rest": "sparse, the rest"}  # fmt: skip


def exemplar_figure(results: Results) -> Finding | None:
    """Return how many exemplars each method makes, the accuracy on them and on the rest, and their classes."""
    known = [record for record in results.of(Exemplars) if record.images]
    chosen = sheet_row(results)
    if not known or chosen is None:
        return None
    mine = [
        record
        for record in known
        if (record.sparsity, record.rewind) in ((chosen.sparsity, chosen.rewind), (chosen.sparsity, None))
    ]
    panels = [_counts(mine, chosen), _accuracies(chosen), *([_by_class(chosen)] if chosen.found else [])]
    legend = (
        LegendEntry("dense networks", PALETTE["dense"][0], "s", width=0.0),
        LegendEntry("sparse networks", _colour(chosen), "D", width=0.0),
    )
    caption = (
        "An image is an exemplar when the class that most sparse networks predict is not the one that most dense "
        "networks of the same initialisations predict (Hooker et al. 2019); where a vote is tied the image is undecided"
        f" and does not count. {_votes(chosen)} Chance: the images on which dense A and dense B networks differ by the "
        "same rule. Whiskers are ± 1 sd over networks."
    )
    caption += left_out(min(MOST_CLASSES, len(chosen.classes)), len(chosen.classes), "classes", "exemplars")
    return Finding(FigureSpec("exemplars", tuple(panels), legend), tuple(_says(chosen)), caption)


def _colour(record: Exemplars) -> str:
    return looks([record.method])[record.method].hex


def _votes(record: Exemplars) -> str:
    networks = min(record.dense_networks, record.sparse_networks)
    text = f"The vote is among {record.dense_networks} dense and {record.sparse_networks} sparse networks"
    if networks == 1:
        return f"{text}: of one network there is no majority, and every image on which the two differ is an exemplar."
    few = ", so a single network often decides" if networks <= FEW else ""
    stays = (
        f": {record.stable} of {record.found} stay exemplars whichever single network is left out"
        if record.found
        else ""
    )
    return (
        f"{text}{few}{stays}; {plural(record.undecided, 'image')} {'is' if record.undecided == 1 else 'are'} undecided."
    )


def _says(record: Exemplars) -> list[str]:
    where = f"At {percent(record.sparsity)} sparsity, {rewound(record.rewind)}"
    share = f"{number(100 * record.found / record.images, 1)}{PERCENT} of {record.images:,}"
    noise = "" if record.noise is None else f"; two sets of dense networks differ on {record.noise:,} by chance alone"
    result = [f"{where}, {label(record.method)} makes {plural(record.found, 'exemplar')} ({share} test images){noise}."]
    if record.found and record.dense_on_exemplars.mean is not None and record.sparse_on_exemplars.mean is not None:
        result.append(
            f"On them dense networks reach {number(record.dense_on_exemplars.mean)}{PERCENT} and sparse ones "
            f"{number(record.sparse_on_exemplars.mean)}{PERCENT}; on the rest {number(record.dense_on_rest.mean)} and "
            f"{number(record.sparse_on_rest.mean)}{PERCENT}."
        )
    return result


def _counts(mine: Sequence[Exemplars], chosen: Exemplars) -> Panel:
    styles = looks(record.method for record in mine)
    names, points = [], []
    for method, look in styles.items():
        record = next(record for record in mine if record.method == method)
        points.append(Dot(len(names), 100 * record.found / record.images, look.hex, marker=look.mark, method=method))
        names.append(look.label)
    noise = next((100 * record.noise / record.images for record in mine if record.noise is not None), None)
    title = f"{percent(chosen.sparsity)} sparsity, {rewound(chosen.rewind)}"
    alt = f"Share of test images that are exemplars, by method, {title}. {' '.join(_says(chosen))}"
    draw = partial(_draw_counts, names=names, points=points, noise=noise)
    return Panel(draw, f"exemplars, {title}", "method", alt, row_height(len(names)), name_room(names))


def _draw_counts(axes: Axes, names: Sequence[str], points: Sequence[Dot], noise: float | None) -> None:
    most = max(*(dot.value for dot in points), noise or 0.0, 0.1)
    if noise is not None:
        axes.axvline(noise, color=RULE, linewidth=1.2, zorder=1)
        place = {"textcoords": "offset points", "annotation_clip": False, "size": 8.5}
        axes.annotate(
            "chance", (noise, 1), (0, 3), xycoords=("data", "axes fraction"), ha="center", color=SOFT, **place
        )
    dots(axes, names, points, (-0.03 * most, 1.1 * most))
    axes.set_xlabel("share of test images (%)")


def _accuracies(record: Exemplars) -> Panel:
    names, points = [], []
    for field, words in WHERE.items():
        stat: Stat = getattr(record, field)
        if stat.mean is not None:
            dense = field.startswith("dense")
            ends = (None, None) if stat.sd is None else (stat.mean - stat.sd, stat.mean + stat.sd)
            colour, marker = (PALETTE["dense"][0], "s") if dense else (_colour(record), "D")
            points.append(Dot(len(names), stat.mean, colour, *ends, marker))
            names.append(words)
    alt = f"Accuracy on exemplars and on the rest. {' '.join(_says(record))}"
    draw = partial(_draw_accuracies, names=names, points=points)
    return Panel(
        draw,
        f"accuracy on them, {label(record.method)}",
        "networks, images",
        alt,
        row_height(len(names)),
        name_room(names),
    )


def _draw_accuracies(axes: Axes, names: Sequence[str], points: Sequence[Dot]) -> None:
    dots(axes, names, points, (-2.0, 102.0))
    axes.set_xlabel("test accuracy (%)")


def _by_class(record: Exemplars) -> Panel:
    classes = [count for count in record.classes if count.images]
    if len(classes) > MOST_CLASSES:
        classes = sorted(classes, key=lambda count: -count.found)[:MOST_CLASSES]
    names = [count.name for count in classes]
    points = [
        Dot(row, 100 * count.found / count.images, _colour(record), marker="D") for row, count in enumerate(classes)
    ]
    overall = 100 * record.found / record.images
    method = label(record.method)
    alt = f"Share of each class's images that are exemplars, {method}; over all classes {number(overall)} %."
    draw = partial(_draw_by_class, names=names, points=points, overall=overall)
    return Panel(draw, f"by true class, {method}", "class", alt, row_height(len(names)), name_room(names))


def _draw_by_class(axes: Axes, names: Sequence[str], points: Sequence[Dot], overall: float) -> None:
    axes.axvline(overall, color=RULE, linewidth=1.2, zorder=1)
    most = max(dot.value for dot in points)
    dots(axes, names, points, (-0.03 * most, 1.08 * most))
    axes.set_xlabel("share of the class's images (%); line: of all images")
