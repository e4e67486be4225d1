"""`build_report`: from a run directory to one HTML file, with its figures and tables beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from reticket.errors import InputError
from reticket.report import accuracy, barriers, gap, members, units
from reticket.report.exhibit import Exhibit
from reticket.report.grid import Grid, grid
from reticket.report.methods import PALETTE, looks
from reticket.report.paper import beside_the_paper, comparison_tables
from reticket.report.plate import draw, themed
from reticket.report.positions import at_main
from reticket.report.scale import scale_words
from reticket.report.schema import Failure, Results, Run, read_run
from reticket.report.story import commands, environment, facts, headline, what_was_run
from reticket.report.table import Table
from reticket.report.tables import all_tables
from reticket.report.text import percent, rewound, without_folders
from reticket.tickets.methods import METHODS

MOST_ROWS = 300
_ALL_POSITIONS = ("paper", "early_matching")  # of matching; the other sections show the latest
UNKNOWN = "A method registered by the user."  # and not where the report is written


@dataclass(frozen=True)
class Section:
    """One section of the page: a figure with what it says, tables that stand open, and the table behind it."""

    name: str
    title: str
    about: str
    exhibit: Exhibit | None = None
    panels: tuple[Markup, ...] = ()
    table: Table | None = None
    open: tuple[tuple[str, Table], ...] = ()


_SECTIONS = (
    ("paper", "Beside the paper", beside_the_paper, None,
     "Where a cell of this run is published: ours, theirs, and how far apart they are."),
    ("accuracy_by_sparsity", "Accuracy against sparsity", accuracy.by_sparsity, None,
     "How much each way of starting a sparse network keeps as more weights go."),
    ("accuracy_by_rewind", "Accuracy against the rewind point", accuracy.by_rewind, None,
     "How much of the dense training a sparse network must inherit."),
    ("gap_closed", "Share of the gap closed", gap.gap_closed, "gap_closed",
     "LTH keeps the ticket where it was found, naive moves it as it is: how far from naive to LTH does a method come?"),
    ("barriers", "Barriers along the straight line", barriers.barriers, "barriers",
     "If the permutation is right, the two networks lie in one basin, and mixing them costs little."),
    ("matching", "How well the units were matched", units.matching, "matching",
     "Each group of units is matched by its activations; a badly matched group is a weak place of the permutation."),
    ("overlap", "Overlap with B's own mask", units.overlap, "overlap",
     "Does the carried mask keep the weights that pruning B itself would keep?"),
    ("diversity", "Diversity of an ensemble", members.diversity, "diversity",
     "Members that err differently gain as an ensemble; what a start hands over, it takes from diversity."),
    ("per_class", "Change of each class", members.per_class, "per_class",
     "Pruning may cost some classes more than others."),
)  # fmt: skip


def build_report(run_dir: Path) -> Path:
    """Write the report of a run: `report.html`, `figures/*.svg|pdf` and `tables/*.csv|md`.

    Args:
        run_dir: the directory of `reticket run`, with `results.json`; `config.toml` and `environment.json` may lack.

    Returns:
        The path of `report.html`: one file that needs no other and asks no network.

    Raises:
        InputError: when `results.json` is missing or damaged, or the directory cannot be written.
    """
    run = read_run(run_dir)
    run = replace(run, results=_without_folders(run.results))
    tables = all_tables(run.results) | comparison_tables(run.results)
    main = at_main(run.results)
    table = grid(main)
    drawn = []
    for name, title, make, data, about in _SECTIONS:
        exhibit = make(run.results if name in _ALL_POSITIONS else main)
        opened = _opened(name, main, tables)
        drawn.append(_section(Section(name, title, about, exhibit, (), tables.get(data or ""), opened), run_dir))
    sections = [section for section in drawn if section is not None]
    for one in tables.values():
        _write(run_dir / "tables" / f"{one.name}.csv", one.to_csv())
        _write(run_dir / "tables" / f"{one.name}.md", one.to_markdown())
    if table is not None:
        _write(run_dir / "tables" / "accuracy_grid.md", table.to_markdown())
    page = _render(run, table, sections, tables)
    path = run_dir / "report.html"
    _write(path, page)
    return path


def _section(section: Section, run_dir: Path) -> Section | None:
    """Draw a section's figure, and remove the files of one that is no more."""
    for ending in ("svg", "pdf"):
        (run_dir / "figures" / f"{section.name}.{ending}").unlink(missing_ok=True)
    exhibit = section.exhibit
    if exhibit is None:
        return section if section.table or section.open else None
    if exhibit.plate is None:
        return section
    files = draw(exhibit.plate)
    _write(run_dir / "figures" / f"{section.name}.svg", files.svg)
    _write(run_dir / "figures" / f"{section.name}.pdf", files.pdf)
    return replace(section, title=exhibit.title or section.title, panels=tuple(map(Markup, files.panels)))


def _opened(name: str, main: Results, tables: Mapping[str, Table]) -> tuple[tuple[str, Table], ...]:
    """Return the tables of a section that stand open, with their captions."""
    if name == "diversity":
        return _excerpt(main)
    wanted = {"paper": {"paper": "Accuracies", "paper_diversity": "Ensembles, ours / published"}}.get(name, {})
    return tuple((caption, tables[table]) for table, caption in wanted.items() if table in tables)


def _excerpt(results: Results) -> tuple[tuple[str, Table], ...]:
    """Return the part of the diversity table that stands open: the setting that the text speaks of."""
    place = members.diversity_place(results)
    if place is None:
        return ()
    kept = tuple(one for one in results.diversity if one.sparsity == place[0] and one.rewind in (place[1], None))
    table = all_tables(results.model_copy(update={"diversity": kept}))["diversity"]
    return ((f"Diversity at {percent(place[0])} sparsity, {rewound(place[1])}", table),)


def _without_folders(results: Results) -> Results:
    kept = tuple(Failure(label=one.label, error=without_folders(one.error)) for one in results.failures)
    return results.model_copy(update={"failures": kept})


def _render(
    run: Run,
    table: Grid | None,
    sections: Iterable[Section],
    tables: Mapping[str, Table],
) -> str:
    templates = resources.files("reticket.report") / "templates"
    loader = jinja2.FunctionLoader(lambda name: (templates / name).read_text("utf-8"))
    engine = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters["themed"] = themed
    results = run.results
    methods = looks(row.method for row in (*results.rows, *results.gap_closed, *results.diversity))
    return engine.get_template("report.html.j2").render(
        css=Markup((templates / "report.css").read_text("utf-8")),
        light=[(name, colours[0]) for name, colours in PALETTE.items()],
        dark=[(name, colours[1]) for name, colours in PALETTE.items()],
        results=results,
        headline=headline(at_main(results)),
        facts=facts(at_main(results)),
        told=what_was_run(run.config),
        config_text=without_folders(run.config_text),
        grid=table,
        sections=list(sections),
        tables=tables,
        most_rows=MOST_ROWS,
        scaled=scale_words(results),
        methods=[(look, METHODS[name].description if name in METHODS else UNKNOWN) for name, look in methods.items()],
        looks=methods,
        environment=environment(run),
        commands=commands(run),
    )


def _write(path: Path, content: str | bytes) -> None:
    """Write beside the file and rename, so that no reader sees half of it."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); make the run directory writable") from None
