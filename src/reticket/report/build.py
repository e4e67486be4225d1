"""`build_report`: from a run directory to one HTML file, with its figures and tables beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reticket.errors import InputError
from reticket.figures.looks import looks
from reticket.figures.table import Table
from reticket.figures.text import without_folders
from reticket.report import accuracy, gap
from reticket.report.costed import front_tables
from reticket.report.early import early_matching
from reticket.report.front import front, front_opened
from reticket.report.grid import Grid, grid
from reticket.report.metric_words import MetricWords
from reticket.report.order import order
from reticket.report.page import PageSection, draw_section, render, write
from reticket.report.paper import MOST_OPEN, beside_the_paper, comparison_tables, open_tables
from reticket.report.run_folder import RunFolder, read_run
from reticket.report.scale import scale_words
from reticket.report.story import commands, environment, facts, headline, what_was_run
from reticket.report.sweep import build_sweep_report
from reticket.report.tables import all_tables
from reticket.report.training_positions import at_main
from reticket.tasks.check import checks
from reticket.tasks.checks.diversity import Diversity
from reticket.tasks.results import Results
from reticket.tasks.rows import Failure
from reticket.tickets.choice import Choice

_ALL_POSITIONS = ("paper", "early_matching", "front")  # of matching; the other sections show the latest
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
    ("front", "Accuracy against cost", front, "front",
     "A ticket is found once and used often: for how many networks must it serve to be worth what it cost?"),
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
    tables = all_tables(run.results) | comparison_tables(run.results) | front_tables(run.results)
    main = at_main(run.results)
    table = grid(main)
    drawn = [draw_section(one, run_dir) for one in (*_own(run.results, main, tables), *_checks(main, tables, run_dir))]
    sections = [section for section in drawn if section is not None]
    for one in tables.values():
        write(run_dir / "tables" / f"{one.name}.csv", one.to_csv())
        write(run_dir / "tables" / f"{one.name}.md", one.to_markdown())
    if table is not None:
        write(run_dir / "tables" / "accuracy_grid.md", table.to_markdown())
    page = _render(run, table, sections, tables)
    path = run_dir / "report.html"
    write(path, page)
    return path


def _own(full: Results, main: Results, tables: Mapping[str, Table]) -> Iterable[PageSection]:
    """Yield the sections of the table: beside the paper, accuracy, the gap, the order of the methods."""
    for name, title, make, data, about in _SECTIONS:
        finding = make(full if name in _ALL_POSITIONS else main)
        title = MetricWords.of(main).of_accuracy(title)
        whole = tables.get(data or "")
        opened = _opened(name, full, whole)
        yield PageSection(name, title, about, finding, (), _folded(whole, opened), opened)


def _checks(main: Results, tables: Mapping[str, Table], run_dir: Path) -> Iterable[PageSection]:
    """Yield the section of every check."""
    for check in checks():
        opened = check.opened(main)
        yield PageSection(
            check.name,
            check.title,
            check.about,
            check.finding(main),
            table=_folded(tables.get(check.name), opened),
            open=opened,
            contact=check.contact_sheet(main, run_dir),
        )


def _folded(whole: Table | None, opened: Iterable[tuple[str, Table]]) -> Table | None:
    """Return the table that is folded away: the whole one, unless it stands open."""
    return None if any(table == whole for _, table in opened) else whole


def _opened(name: str, full: Results, whole: Table | None) -> tuple[tuple[str, Table], ...]:
    """Return the tables of a section that stand open, with their captions."""
    if name == "differences" and whole is not None and len(whole.body) <= MOST_OPEN:
        return ((f"Differences in {MetricWords.of(full).differences}", whole),)
    return open_tables(full) if name == "paper" else front_opened(full) if name == "front" else ()


def _without_folders(results: Results) -> Results:
    kept = tuple(Failure(label=one.label, error=without_folders(one.error)) for one in results.failures)
    return results.model_copy(update={"failures": kept})


def _render(
    run: RunFolder,
    table: Grid | None,
    sections: Iterable[PageSection],
    tables: Mapping[str, Table],
) -> str:
    results = run.results
    methods = looks(row.method for row in (*results.rows, *results.gap_closed, *results.of(Diversity)))
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
        methods=[(look, _described(name)) for name, look in methods.items()],
        environment=environment(run),
        commands=commands(run),
    )


def _described(method: str) -> str:
    try:
        return Choice.parse(method).description
    except InputError:
        return UNKNOWN
