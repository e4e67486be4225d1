"""`build_report`: from a run directory to one HTML file, with its figures and tables beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reticket.report import accuracy, barriers, gap, members, units
from reticket.report.bias import ContactSheet, contact_sheet, exemplar_figure
from reticket.report.early import early_matching
from reticket.report.grid import Grid, grid
from reticket.report.methods import looks
from reticket.report.order import order
from reticket.report.page import Section, draw_section, render, write
from reticket.report.paper import MOST_OPEN, beside_the_paper, comparison_tables, open_tables
from reticket.report.positions import at_main
from reticket.report.scale import scale_words
from reticket.report.schema import Failure, Results, Run, read_run
from reticket.report.story import commands, environment, facts, headline, what_was_run
from reticket.report.sweep import build_sweep_report
from reticket.report.table import Table
from reticket.report.tables import all_tables
from reticket.report.text import percent, rewound, without_folders
from reticket.tickets.methods import METHODS

_ALL_POSITIONS = ("paper", "early_matching")  # of matching; the other sections show the latest
UNKNOWN = "A method registered by the user."  # and not where the report is written


_SECTIONS = (
    ("paper", "Beside the paper", beside_the_paper, "paper",
     "Where a cell of this run is published: ours, theirs, and how far apart they are."),
    ("accuracy_by_sparsity", "Accuracy against sparsity", accuracy.by_sparsity, None,
     "How much each way of starting a sparse network keeps as more weights go."),
    ("accuracy_by_rewind", "Accuracy against the rewind point", accuracy.by_rewind, None,
     "How much of the dense training a sparse network must inherit."),
    ("early_matching", "Early matching", early_matching, None,
     "If the units can be matched early, B's dense training need not go on beyond the rewind point."),
    ("gap_closed", "Share of the gap closed", gap.gap_closed, "gap_closed",
     "LTH keeps the ticket where it was found, naive moves it as it is: how far from naive to LTH does a method come?"),
    ("differences", "Does the order hold?", order, "differences",
     "The ticket where it was found should be best, the moved one next, the unmoved one last."),
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
    ("exemplars", "What pruning makes the networks see differently", exemplar_figure, "exemplars",
     "Pruning-identified exemplars: test images on which most sparse networks say something else than most dense."),
)  # fmt: skip


def build_report(run_dir: Path) -> Path:
    """Write the report of a run: `report.html`, `figures/*.svg|pdf` and `tables/*.csv|md`.

    Args:
        run_dir: the directory of `reticket run`, with `results.json`; `config.toml` and `environment.json` may be
            absent. A directory with `sweep.json` is a sweep, whose experiments are compared.

    Returns:
        The path of `report.html`: one file that needs no other and asks no network.

    Raises:
        InputError: when `results.json` is missing or damaged, or the directory cannot be written.
    """
    if (run_dir / "sweep.json").is_file():
        return build_sweep_report(run_dir)
    run = read_run(run_dir)
    run = replace(run, results=_without_folders(run.results))
    tables = all_tables(run.results) | comparison_tables(run.results)
    main = at_main(run.results)
    table = grid(main)
    drawn = []
    for name, title, make, data, about in _SECTIONS:
        exhibit = make(run.results if name in _ALL_POSITIONS else main)
        whole = tables.get(data or "")
        opened = _opened(name, main, run.results, whole)
        if any(table == whole for _, table in opened):
            whole = None
        drawn.append(draw_section(Section(name, title, about, exhibit, (), whole, opened), run_dir))
    sections = [section for section in drawn if section is not None]
    for one in tables.values():
        write(run_dir / "tables" / f"{one.name}.csv", one.to_csv())
        write(run_dir / "tables" / f"{one.name}.md", one.to_markdown())
    if table is not None:
        write(run_dir / "tables" / "accuracy_grid.md", table.to_markdown())
    page = _render(run, table, sections, tables, contact_sheet(main, run_dir))
    path = run_dir / "report.html"
    write(path, page)
    return path


def _opened(name: str, main: Results, full: Results, whole: Table | None) -> tuple[tuple[str, Table], ...]:
    """Return the tables of a section that stand open, with their captions."""
    if name == "diversity":
        return _excerpt(main)
    if name == "differences" and whole is not None and len(whole.body) <= MOST_OPEN:
        return (("Differences in points of accuracy", whole),)
    return open_tables(full) if name == "paper" else ()


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
    contact: ContactSheet | None,
) -> str:
    results = run.results
    methods = looks(row.method for row in (*results.rows, *results.gap_closed, *results.diversity))
    return render(
        "report.html.j2",
        results=results,
        headline=headline(at_main(results)),
        facts=facts(at_main(results)),
        scaled=scale_words(results),
        told=what_was_run(run.config),
        config_text=without_folders(run.config_text),
        grid=table,
        sections=list(sections),
        tables=tables,
        methods=[(look, METHODS[name].description if name in METHODS else UNKNOWN) for name, look in methods.items()],
        contact=contact,
        environment=environment(run),
        commands=commands(run),
    )
