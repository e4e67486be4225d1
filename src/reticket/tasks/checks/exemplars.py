"""Pruning-identified exemplars: which images pruning makes the networks see differently, and of which classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor

from reticket.analysis import accuracy_on
from reticket.data.source import DataSource
from reticket.experiment import Task
from reticket.figures.chart import Dot, dots, name_room, row_height
from reticket.figures.columns import PLACE
from reticket.figures.finding import ContactSheet, Finding, Picture, left_out
from reticket.figures.looks import PALETTE, RULE, SOFT, label, looks
from reticket.figures.spec import Axes, FigureSpec, LegendEntry, Panel
from reticket.figures.table import Table, column, measured
from reticket.figures.text import DASH, PERCENT, number, percent, plural, rewound
from reticket.records import Measured, Record, Stat
from reticket.tasks.cells import Cell
from reticket.tasks.check import Check, register
from reticket.tasks.pictures import embedded, write_pictures
from reticket.tasks.results import Results
from reticket.tasks.rows import CellRecord
from reticket.tasks.stored import Stored, place_of, stat_of
from reticket.tasks.votes import Votes, votes_of

FOLDER = "exemplars"
SHEET = 24  # images
MOST_CLASSES = 20
FEW = 5  # networks
WHERE = {"dense_on_exemplars": "dense, exemplars", "sparse_on_exemplars": "sparse, exemplars",
         "dense_on_rest": "dense, the rest", "sparse_on_rest": "sparse, the rest"}  # fmt: skip


class ClassCount(Record):
    """How many test images of a class there are, and how many of them are exemplars."""

    name: str = Field(validation_alias="class", serialization_alias="class", description="the class")
    found: int = Field(description="exemplars")
    images: int = Field(description="test images")


class Exemplars(CellRecord):
    """Test images whose modal prediction pruning changes, over the seeds' networks."""

    dense_networks: int = Field(default=0, description="dense networks that vote")
    sparse_networks: int = Field(default=0, description="sparse networks that vote")
    images: int = Field(default=0, description="test images")
    found: int = Field(default=0, description="exemplars")
    undecided: int = Field(default=0, description="images whose vote is tied")
    stable: int = Field(default=0, description="exemplars whichever single network is left out")
    noise: int | None = Field(
        default=None, description="exemplars between dense A and dense B, by chance; null without B"
    )
    dense_on_exemplars: Measured = Field(default=Stat(), description="accuracy of dense networks on them (percent)")
    dense_on_rest: Measured = Field(
        default=Stat(), description="accuracy of dense networks on all other images (percent)"
    )
    sparse_on_exemplars: Measured = Field(default=Stat(), description="accuracy of sparse networks on them (percent)")
    sparse_on_rest: Measured = Field(
        default=Stat(), description="accuracy of sparse networks on all other images (percent)"
    )
    classes: tuple[ClassCount, ...] = Field(default=(), description="how many of each true class")


class SheetImage(Record):
    """One image of the contact sheet, and what it is taken for."""

    index: int = Field(description="of the test image")
    file: str = Field(description="below the run directory")
    label: str = Field(description="its true class")
    dense: str = Field(description="what most dense networks say")
    dense_votes: int = Field(description="how many of them")
    sparse: str = Field(description="what most sparse networks say")
    sparse_votes: int = Field(description="how many of them")
    stable: bool = Field(default=False, description="whether it is an exemplar whichever single network is left out")


class Sheet(CellRecord):
    """The exemplars that are shown, of one cell; null where none are looked for."""

    images: tuple[SheetImage, ...] = Field(default=(), description="the surest first")


@register
class ExemplarCheck(Check):
    """Exemplars of every cell of the table, and a contact sheet of one; computed from the networks of the table."""

    name = "exemplars"
    place = 60
    sections: ClassVar = {"exemplars": Exemplars, "contact_sheet": Sheet}
    single = ("contact_sheet",)
    title = "What pruning makes the networks see differently"
    about = (
        "Pruning-identified exemplars: test images on which most sparse networks say something else than most dense."
    )
    columns: ClassVar = {
        "exemplars": (
            *PLACE,
            column("found", "exemplars"),
            column("images", "of images"),
            column("stable", "stable"),
            column("undecided", "undecided"),
            column("noise", "by chance", lambda value: DASH if value is None else str(value)),
            measured("dense_on_exemplars", "dense on them (%)"),
            measured("sparse_on_exemplars", "sparse on them (%)"),
            measured("dense_on_rest", "dense on the rest (%)"),
            measured("sparse_on_rest", "sparse on the rest (%)"),
            column("dense_networks", "dense networks"),
            column("sparse_networks", "sparse networks"),
        )
    }

    def results(self, found: Stored, tasks: Mapping[Any, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return for every cell how many images pruning makes the networks see differently, and those of one cell."""
        plan, names = found.plan, found.plan.facts.classes
        known = {cell: one for cell in plan.runs if (one := votes_of(cell, found)) is not None}
        shown = sheet_cell(plan.runs, plan.config.grid.match_at)
        sheet = None
        if shown is not None and shown in known:
            sheet = Sheet(**place_of(shown), images=images_of(known[shown], found.labels, names))
        rows = [row_of(cell, votes, found.labels, names) for cell, votes in known.items()]
        return {"exemplars": rows, "contact_sheet": sheet}

    def finding(self, results: Results) -> Finding | None:
        """Return how many exemplars each method makes, the accuracy on them and on the rest, and their classes."""
        return exemplar_figure(results)

    def tables(self, results: Results) -> dict[str, Table]:
        """Return the table of cells, and that of classes."""
        counts = [_ClassOf(one, count) for one in results.of(Exemplars) for count in one.classes]
        more = {"exemplars_by_class": Table.of("exemplars_by_class", counts, _BY_CLASS)} if counts else {}
        return {**super().tables(results), **more}

    def write_files(self, results: Results, dataset: DataSource, folder: Path) -> None:
        """Write the images of the contact sheet into `exemplars/`."""
        images = [image for sheet in results.of(Sheet) for image in sheet.images]
        write_pictures(folder / FOLDER, dataset, {image.index: Path(image.file).name for image in images})

    def contact_sheet(self, results: Results, folder: Path) -> ContactSheet | None:
        """Return the pictures of the contact sheet, or None where nothing was looked for."""
        return contact_sheet(results, folder)


_BY_CLASS = (
    *PLACE,
    column("class", "class", get="count.name"),
    column("found", "exemplars", get="count.found"),
    column("images", "of images", get="count.images"),
)


@dataclass(frozen=True)
class _ClassOf:
    """The exemplars of one class in one cell."""

    cell: Exemplars
    count: ClassCount

    method = property(lambda self: self.cell.method)
    sparsity = property(lambda self: self.cell.sparsity)
    rewind = property(lambda self: self.cell.rewind)
    match_at = property(lambda self: self.cell.match_at)


def row_of(cell: Cell, votes: Votes, labels: Int64[Tensor, " n"], names: Sequence[str]) -> Exemplars:
    """Return counts, the accuracy on exemplars and on the rest, and the exemplars by true class."""
    found, noise = votes.found, votes.noise
    all_of = torch.bincount(labels, minlength=len(names)).tolist()
    mine = torch.bincount(labels[found.found], minlength=len(names)).tolist()
    on_them = [stat_of(accuracy_on(one, labels, found.found)) for one in (votes.dense, votes.sparse)]
    on_the_rest = [stat_of(accuracy_on(one, labels, ~found.found)) for one in (votes.dense, votes.sparse)]
    return Exemplars(
        **place_of(cell),
        dense_networks=len(votes.dense),
        sparse_networks=len(votes.sparse),
        images=len(labels),
        found=int(found.found.sum()),
        undecided=int(found.undecided.sum()),
        stable=int(found.stable.sum()),
        noise=None if noise is None else int(noise.found.sum()),
        dense_on_exemplars=on_them[0],
        dense_on_rest=on_the_rest[0],
        sparse_on_exemplars=on_them[1],
        sparse_on_rest=on_the_rest[1],
        classes=tuple(
            ClassCount(name=name, found=count, images=total)
            for name, count, total in zip(names, mine, all_of, strict=True)
        ),
    )


def images_of(votes: Votes, labels: Int64[Tensor, " n"], names: Sequence[str]) -> tuple[SheetImage, ...]:
    """Return the images of the contact sheet, the surest exemplars first."""
    dense, sparse, stable = votes.found.dense, votes.found.sparse, votes.found.stable
    return tuple(
        SheetImage(
            index=index,
            file=f"{FOLDER}/{index:06d}.png",
            label=names[int(labels[index])],
            dense=names[int(dense.mode[index])],
            dense_votes=int(dense.votes[index]),
            sparse=names[int(sparse.mode[index])],
            sparse_votes=int(sparse.votes[index]),
            stable=bool(stable[index]),
        )
        for index in votes.surest(SHEET)
    )


def sheet_cell(cells: Iterable[Cell], match_at: Sequence[str]) -> Cell | None:
    """Return the cell whose exemplars are shown: permuted where there is one, at the highest sparsity, rewound latest.

    Args:
        cells: of the table, in its order.
        match_at: the positions of matching; the end is taken where it is one, else the last.
    """
    latest = "end" if "end" in match_at else match_at[-1]
    known = [cell for cell in cells if cell.sparsity is not None and cell.match_at in (None, latest)]
    for method in ("permuted", *dict.fromkeys(cell.method for cell in known if cell.rewind is not None), "imp"):
        mine = [cell for cell in known if cell.method == method]
        if mine:
            highest = max(cell.sparsity or 0.0 for cell in mine)
            return [cell for cell in mine if cell.sparsity == highest][-1]
    return None


# ---------------------------------------------------------------- the figure


def exemplar_figure(results: Results) -> Finding | None:
    """Return how many exemplars each method makes, the accuracy on them and on the rest, and their classes."""
    known = [one for one in results.of(Exemplars) if one.images]
    shown = _shown(results)
    if not known or shown is None:
        return None
    mine = [
        one for one in known if (one.sparsity, one.rewind) in ((shown.sparsity, shown.rewind), (shown.sparsity, None))
    ]
    panels = [_counts(mine, shown), _accuracies(shown), *([_by_class(shown)] if shown.found else [])]
    legend = (
        LegendEntry("dense networks", PALETTE["dense"][0], "s", width=0.0),
        LegendEntry("sparse networks", _colour(shown), "D", width=0.0),
    )
    caption = (
        "An image is an exemplar when the class that most sparse networks predict is not the one that most dense "
        "networks of the same initialisations predict (Hooker et al. 2019); where a vote is tied the image is undecided"
        f" and does not count. {_votes(shown)} Chance: the images on which dense A and dense B networks differ by the "
        "same rule. Whiskers are ± 1 sd over networks."
    )
    caption += left_out(min(MOST_CLASSES, len(shown.classes)), len(shown.classes), "classes", "exemplars")
    return Finding(FigureSpec("exemplars", tuple(panels), legend), tuple(_says(shown)), caption)


def _shown(results: Results) -> Exemplars | None:
    """Return the cell that is spoken of: that of the contact sheet, else the last."""
    places = [(sheet.method, sheet.sparsity, sheet.rewind) for sheet in results.of(Sheet)]
    found = [one for one in results.of(Exemplars) if (one.method, one.sparsity, one.rewind) in places]
    return next(iter(found or results.of(Exemplars)[-1:]), None)


def _colour(one: Exemplars) -> str:
    return looks([one.method])[one.method].hex


def _votes(one: Exemplars) -> str:
    networks = min(one.dense_networks, one.sparse_networks)
    text = f"The vote is among {one.dense_networks} dense and {one.sparse_networks} sparse networks"
    if networks == 1:
        return f"{text}: of one network there is no majority, and every image on which the two differ is an exemplar."
    few = ", so a single network often decides" if networks <= FEW else ""
    stays = f": {one.stable} of {one.found} stay exemplars whichever single network is left out" if one.found else ""
    return f"{text}{few}{stays}; {plural(one.undecided, 'image')} {'is' if one.undecided == 1 else 'are'} undecided."


def _says(one: Exemplars) -> list[str]:
    where = f"At {percent(one.sparsity)} sparsity, {rewound(one.rewind)}"
    share = f"{number(100 * one.found / one.images, 1)}{PERCENT} of {one.images:,}"
    noise = "" if one.noise is None else f"; two sets of dense networks differ on {one.noise:,} by chance alone"
    result = [f"{where}, {label(one.method)} makes {plural(one.found, 'exemplar')} ({share} test images){noise}."]
    if one.found and one.dense_on_exemplars.mean is not None and one.sparse_on_exemplars.mean is not None:
        result.append(
            f"On them dense networks reach {number(one.dense_on_exemplars.mean)}{PERCENT} and sparse ones "
            f"{number(one.sparse_on_exemplars.mean)}{PERCENT}; on the rest {number(one.dense_on_rest.mean)} and "
            f"{number(one.sparse_on_rest.mean)}{PERCENT}."
        )
    return result


def _counts(mine: Sequence[Exemplars], shown: Exemplars) -> Panel:
    styles = looks(one.method for one in mine)
    names, points = [], []
    for method, look in styles.items():
        one = next(one for one in mine if one.method == method)
        points.append(Dot(len(names), 100 * one.found / one.images, look.hex, marker=look.mark))
        names.append(look.label)
    noise = next((100 * one.noise / one.images for one in mine if one.noise is not None), None)
    title = f"{percent(shown.sparsity)} sparsity, {rewound(shown.rewind)}"
    alt = f"Share of test images that are exemplars, by method, {title}. {' '.join(_says(shown))}"
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


def _accuracies(one: Exemplars) -> Panel:
    names, points = [], []
    for field, words in WHERE.items():
        stat: Stat = getattr(one, field)
        if stat.mean is not None:
            dense = field.startswith("dense")
            ends = (None, None) if stat.sd is None else (stat.mean - stat.sd, stat.mean + stat.sd)
            colour, marker = (PALETTE["dense"][0], "s") if dense else (_colour(one), "D")
            points.append(Dot(len(names), stat.mean, colour, *ends, marker))
            names.append(words)
    alt = f"Accuracy on exemplars and on the rest. {' '.join(_says(one))}"
    draw = partial(_draw_accuracies, names=names, points=points)
    return Panel(
        draw,
        f"accuracy on them, {label(one.method)}",
        "networks, images",
        alt,
        row_height(len(names)),
        name_room(names),
    )


def _draw_accuracies(axes: Axes, names: Sequence[str], points: Sequence[Dot]) -> None:
    dots(axes, names, points, (-2.0, 102.0))
    axes.set_xlabel("test accuracy (%)")


def _by_class(one: Exemplars) -> Panel:
    classes = [count for count in one.classes if count.images]
    if len(classes) > MOST_CLASSES:
        classes = sorted(classes, key=lambda count: -count.found)[:MOST_CLASSES]
    names = [count.name for count in classes]
    points = [Dot(row, 100 * count.found / count.images, _colour(one), marker="D") for row, count in enumerate(classes)]
    overall = 100 * one.found / one.images
    alt = f"Share of each class's images that are exemplars, {label(one.method)}; over all classes {number(overall)} %."
    draw = partial(_draw_by_class, names=names, points=points, overall=overall)
    return Panel(draw, f"by true class, {label(one.method)}", "class", alt, row_height(len(names)), name_room(names))


def _draw_by_class(axes: Axes, names: Sequence[str], points: Sequence[Dot], overall: float) -> None:
    axes.axvline(overall, color=RULE, linewidth=1.2, zorder=1)
    most = max(dot.value for dot in points)
    dots(axes, names, points, (-0.03 * most, 1.08 * most))
    axes.set_xlabel("share of the class's images (%); line: of all images")


def contact_sheet(results: Results, run_dir: Path) -> ContactSheet | None:
    """Return the contact sheet of a run with its pictures read, or None where nothing was looked for.

    Args:
        results: what `results.json` holds.
        run_dir: where the pictures stand, in `exemplars/`.

    Raises:
        InputError: when a picture cannot be read.
    """
    sheet, one = next(iter(results.of(Sheet)), None), _shown(results)
    if one is None or sheet is None:
        return None
    where = f"{label(sheet.method)}, {percent(sheet.sparsity)} sparsity, {rewound(sheet.rewind)}"
    if not sheet.images:
        return ContactSheet((), f"{where}: there are no exemplars to show.")
    pictures = tuple(_pictures(sheet, run_dir, one))
    if not pictures:
        return ContactSheet((), f"{where}: the inputs are no images, so none are shown.")
    few = (
        f"{len(pictures)} of {plural(one.found, 'exemplar')}, the surest first"
        if len(pictures) < one.found
        else f"all {len(pictures)}"
    )
    caption = (
        f"{where}: {few}. Under each image its label, what most dense and most sparse networks say, with their votes "
        f"of {one.dense_networks} and {one.sparse_networks}; a dashed frame: no exemplar without some single network."
    )
    return ContactSheet(pictures, caption)


def _pictures(sheet: Sheet, run_dir: Path, one: Exemplars) -> list[Picture]:
    found = []
    for image in sheet.images:
        source = embedded(run_dir / FOLDER / Path(image.file).name)
        if source is None:
            continue
        dense = f"{image.dense} ({image.dense_votes}/{one.dense_networks})"
        sparse = f"{image.sparse} ({image.sparse_votes}/{one.sparse_networks})"
        alt = f"Test image {image.index}: {image.label}; dense networks say {dense}, sparse ones {sparse}."
        told = (("label", image.label), ("dense", dense), ("sparse", sparse))
        found.append(Picture(source, told, alt, image.stable))
    return found
