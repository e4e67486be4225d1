"""Pruning-identified exemplars: which images pruning makes the networks see differently, and of which classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from reticket.data.source import DataSource
from reticket.experiment import Task
from reticket.figures.columns import PLACE
from reticket.figures.finding import ContactSheet, Finding
from reticket.figures.table import Table, column, measured
from reticket.figures.text import DASH
from reticket.tasks.check import Check, register
from reticket.tasks.checks.exemplars.counts import ClassCount, Exemplars, row_of
from reticket.tasks.checks.exemplars.figure import exemplar_figure
from reticket.tasks.checks.exemplars.sheet import FOLDER, Sheet, contact_sheet, images_of, sheet_cell
from reticket.tasks.pictures import write_pictures
from reticket.tasks.results import Results
from reticket.tasks.stored import Stored, place_of
from reticket.tasks.votes import votes_of


@register
class ExemplarCheck(Check):
    """Exemplars of every cell of the table, and a contact sheet of one; computed from the networks of the table."""

    name = "exemplars"
    place = 60
    sections: ClassVar = {"exemplars": Exemplars, "contact_sheet": Sheet}
    single = ("contact_sheet",)
    of_classes = True
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
        known = {cell: votes for cell in plan.runs if (votes := votes_of(cell, found)) is not None}
        chosen = sheet_cell(plan.runs, plan.config.grid.match_at)
        sheet = None
        if chosen is not None and chosen in known:
            sheet = Sheet(**place_of(chosen), images=images_of(known[chosen], found.labels, names))
        rows = [row_of(cell, votes, found.labels, names) for cell, votes in known.items()]
        return {"exemplars": rows, "contact_sheet": sheet}

    def finding(self, results: Results) -> Finding | None:
        """Return how many exemplars each method makes, the accuracy on them and on the rest, and their classes."""
        return exemplar_figure(results)

    def tables(self, results: Results) -> dict[str, Table]:
        """Return the table of cells, and that of classes."""
        counts = [_ClassOf(record, count) for record in results.of(Exemplars) for count in record.classes]
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
