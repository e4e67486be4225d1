"""What every page of a report is made of: sections and their figures, templates, files written whole."""

import sys
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reticket.errors import InputError
from reticket.figures.drawing import draw
from reticket.figures.finding import ContactSheet, Finding
from reticket.figures.looks import PALETTE
from reticket.figures.spec import themed
from reticket.figures.table import Table
from reticket.files import write_file

MOST_ROWS = 300
MOST_CSV = 300_000  # characters of a table that the page itself holds; a longer one stands beside it


@dataclass(frozen=True)
class PageSection:
    """One section of a page: a figure with what it says, tables that stand open, and the table behind it."""

    name: str
    title: str
    about: str
    finding: Finding | None = None
    panels: tuple[Markup, ...] = ()
    table: Table | None = None
    open: tuple[tuple[str, Table], ...] = ()
    contact: ContactSheet | None = None


def draw_section(section: PageSection, folder: Path) -> PageSection | None:
    """Draw a section's figure into `folder/figures`, or remove the files of one that is no more.

    Another process may write the same report meanwhile: a figure that is drawn again is replaced, never missing.

    Args:
        section: with a finding whose panels are not drawn yet, or with tables alone.
        folder: the run directory.

    Returns:
        The section with its panels, or None when there is nothing in it.
    """
    finding = section.finding
    if finding is None or finding.figure is None:
        for ending in ("svg", "pdf"):
            (folder / "figures" / f"{section.name}.{ending}").unlink(missing_ok=True)
        return section if finding is not None or section.table or section.open else None
    files = draw(finding.figure)
    write(folder / "figures" / f"{section.name}.svg", files.svg)
    write(folder / "figures" / f"{section.name}.pdf", files.pdf)
    return replace(section, title=finding.title or section.title, panels=tuple(map(Markup, files.panels)))


def render(template: str, *, alone: bool = False, **values: Any) -> str:
    """Return a page: a template of `templates/` with the style sheet, the script and the palette in it.

    Args:
        template: its file.
        alone: whether no file stands beside the page, which then holds every row of its tables.
        values: what the template names.
    """
    templates = resources.files("reticket.report") / "templates"
    loader = jinja2.FunctionLoader(lambda name: (templates / name).read_text("utf-8"))
    engine = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters["themed"] = themed
    return engine.get_template(template).render(
        css=Markup((templates / "report.css").read_text("utf-8")),
        light=[(name, colours[0]) for name, colours in PALETTE.items()],
        dark=[(name, colours[1]) for name, colours in PALETTE.items()],
        js=Markup((templates / "report.js").read_text("utf-8")),
        most_rows=sys.maxsize if alone else MOST_ROWS,
        most_csv=sys.maxsize if alone else MOST_CSV,
        **values,
    )


def write(path: Path, content: str | bytes) -> None:
    """Write a file of the report so that no reader sees half of it; its folder is made.

    Raises:
        InputError: when it cannot be written.
    """
    write_file(path, content, error=InputError, advice="make the run directory writable", folders=True)
