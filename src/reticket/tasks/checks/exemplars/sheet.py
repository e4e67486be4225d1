"""The contact sheet: the exemplars of one cell as pictures, each with what the networks take it for."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxtyping import Int64
from pydantic import Field
from torch import Tensor

from reticket.figures.finding import ContactSheet, Picture
from reticket.figures.looks import label
from reticket.figures.text import percent, plural, rewound
from reticket.records import Record
from reticket.tasks.cells import Cell
from reticket.tasks.checks.exemplars.counts import Exemplars
from reticket.tasks.pictures import embedded
from reticket.tasks.results import Results
from reticket.tasks.rows import CellRecord
from reticket.tasks.votes import Votes

FOLDER = "exemplars"
MOST_IMAGES = 24


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
        for index in votes.surest(MOST_IMAGES)
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


def sheet_row(results: Results) -> Exemplars | None:
    """Return the cell that is spoken of: that of the contact sheet, else the last."""
    places = [(sheet.method, sheet.sparsity, sheet.rewind) for sheet in results.of(Sheet)]
    found = [record for record in results.of(Exemplars) if (record.method, record.sparsity, record.rewind) in places]
    return next(iter(found or results.of(Exemplars)[-1:]), None)


def contact_sheet(results: Results, run_dir: Path) -> ContactSheet | None:
    """Return the contact sheet of a run with its pictures read, or None where nothing was looked for.

    Args:
        results: what `results.json` holds.
        run_dir: where the pictures stand, in `exemplars/`.

    Raises:
        InputError: when a picture cannot be read.
    """
    sheet, record = next(iter(results.of(Sheet)), None), sheet_row(results)
    if record is None or sheet is None:
        return None
    where = f"{label(sheet.method)}, {percent(sheet.sparsity)} sparsity, {rewound(sheet.rewind)}"
    if not sheet.images:
        return ContactSheet((), f"{where}: there are no exemplars to show.")
    pictures = tuple(_pictures(sheet, run_dir, record))
    if not pictures:
        return ContactSheet((), f"{where}: the inputs are no images, so none are shown.")
    few = (
        f"{len(pictures)} of {plural(record.found, 'exemplar')}, the surest first"
        if len(pictures) < record.found
        else f"all {len(pictures)}"
    )
    caption = (
        f"{where}: {few}. Under each image its label, what most dense and most sparse networks say, with their votes "
        f"of {record.dense_networks} and {record.sparse_networks}; a dashed frame: no exemplar without some single "
        "network."
    )
    return ContactSheet(pictures, caption)


def _pictures(sheet: Sheet, run_dir: Path, record: Exemplars) -> list[Picture]:
    found = []
    for image in sheet.images:
        source = embedded(run_dir / FOLDER / Path(image.file).name)
        if source is None:
            continue
        dense = f"{image.dense} ({image.dense_votes}/{record.dense_networks})"
        sparse = f"{image.sparse} ({image.sparse_votes}/{record.sparse_networks})"
        alt = f"Test image {image.index}: {image.label}; dense networks say {dense}, sparse ones {sparse}."
        told = (("label", image.label), ("dense", dense), ("sparse", sparse))
        found.append(Picture(source, told, alt, image.stable))
    return found
