"""Tables of a run for a paper: LaTeX, Markdown or CSV, with a caption that says n and what the spread is."""

from collections.abc import Callable, Mapping

from reticket.errors import ConfigError, InputError
from reticket.figures.latex import LatexCell, latex_table
from reticket.figures.table import Table, file_name
from reticket.figures.text import counts, percent, position, spread_digits
from reticket.lookup import nearest
from reticket.report.accuracy_rows import accuracy_rows
from reticket.report.costed import front_tables
from reticket.report.grid import Grid, GridCell, grid
from reticket.report.metric_words import MetricWords
from reticket.report.paper import comparison_tables
from reticket.report.scale import scale_words
from reticket.report.tables import all_tables, metric_tables
from reticket.report.training_positions import at_main, match_order
from reticket.tasks.check import checks
from reticket.tasks.results import Results

GRID = "accuracy_grid"
FORMATS = ("latex", "markdown", "csv")
BEST = "Bold: the highest mean of the methods that start a new initialisation from a carried or drawn ticket."
_TITLES: Mapping[str, str] = {
    "accuracy": "test accuracy (%)",
    "loss": "test loss (nats)",
    "gap_closed": "share of the gap between naive and LTH that each method closes, paired by seed",
    "differences": "paired differences of test accuracy (points)",
    "cost": "work by kind of task",
    "failures": "tasks that failed",
}


def export_table(results: Results, table: str = GRID, form: str = "latex", *, bold: bool = False) -> str:
    """Return one table of a run as text.

    Args:
        results: of one experiment.
        table: its name among the files of `tables/`: "accuracy_grid" has methods down and sparsities across.
        form: "latex" (booktabs), "markdown", or "csv", which has every digit and no caption.
        bold: whether the best method of each column of the grid is bold.

    Raises:
        ConfigError: for an unknown form, or `bold` where nothing is best.
        InputError: for a sweep, and for a table that the run does not have.
    """
    if form not in FORMATS:
        raise ConfigError(f"unknown format '{form}'{nearest(form, FORMATS) or ''}; known are {', '.join(FORMATS)}")
    if bold and (table != GRID or form == "csv"):
        raise ConfigError(f"--bold marks the best methods of {GRID} in LaTeX and Markdown, not {table} as {form}")
    if results.variants:
        folders = ", ".join(str(results.folder / name) for name in results.variants)
        raise InputError(f"{results.folder} is a sweep; export a table of one of its experiments: {folders}")
    rows = accuracy_rows(at_main(results))
    found = grid(at_main(results), spread_digits(rows, usual=MetricWords.of(results).digits)) if rows else None
    if table == GRID and found is not None:
        return (
            _FORMS[form](results, found, bold)
            if form != "csv"
            else all_tables(results)[file_name(MetricWords.of(results).name)].to_csv()
        )
    whole = _named(results, table, has_grid=found is not None)
    if form == "csv":
        return whole.to_csv()
    caption = f"{_opening(results, _title(table))} {_spread(whole)}".strip()
    return f"{caption}\n\n{whole.to_markdown()}" if form == "markdown" else _latex(whole, caption)


def _named(results: Results, name: str, *, has_grid: bool) -> Table:
    tables = (
        all_tables(results)
        | comparison_tables(results)
        | front_tables(results)
        | metric_tables(results.rows, MetricWords.of(results), spread_digits)
    )
    if name not in tables:
        known = [*([GRID] if has_grid else []), *tables]
        hint = nearest(name, known) or f"; it has {', '.join(known)}" if known else "; it has no results yet"
        raise InputError(f"the run has no table '{name}'{hint}")
    return tables[name]


def _opening(results: Results, what: str) -> str:
    """Return what a caption begins with: what was run, which numbers these are, and what they are not."""
    parts = [f"{results.title}: {what}.", scale_words(results)]
    parts += [] if results.complete else ["The run is not complete."]
    return " ".join(filter(None, parts))


def _title(table: str) -> str:
    owner = next((check.title for check in checks() if table in check.columns or table == check.name), None)
    return _TITLES.get(table) or (owner[0].lower() + owner[1:] if owner else table.replace("_", " "))


def _spread(table: Table) -> str:
    """Say what stands after "±", and of how many seeds the numbers are."""
    seen = [n for record in table.records if isinstance(n := record.get("n"), int)]
    seeds = f"over seeds, {counts(seen)}" if seen else "over seeds"
    levels = {level for record in table.records if isinstance(level := record.get("confidence"), float)}
    if any("±" in cell for row in table.body for cell in row):
        return f"Mean ± sample standard deviation {seeds}."
    if levels:
        return f"In brackets: {percent(max(levels))} intervals {seeds}."
    return f"Means {seeds}." if seen else ""


def _latex(table: Table, caption: str) -> str:
    heads = [[LatexCell(head) for head in table.head]]
    return latex_table(heads, ([LatexCell(cell) for cell in row] for row in table.body), caption, table.name)


# ---------------------------------------------------------------- the grid


def _grid_caption(results: Results, table: Grid, bold: bool) -> str:
    seeds = counts(cell.n for _, cells in table.rows for cell in cells if cell.n)
    spread = any(cell.sd for _, cells in table.rows for cell in cells)
    positions = match_order(results)
    parts = [
        _opening(results, MetricWords.of(results).heading),
        f"Mean ± sample standard deviation over seeds, {seeds}."
        if spread
        else f"One seed, so without spread ({seeds}).",
        "" if table.same_n else "In parentheses: n.",
        f"Units were matched at {position(positions[-1])}." if len(positions) > 1 else "",
        BEST if bold else "",
    ]
    return " ".join(filter(None, parts))


def _grid_markdown(results: Results, table: Grid, bold: bool) -> str:
    return f"{_grid_caption(results, table, bold)}\n\n{table.to_markdown(bold=bold)}"


def _grid_latex(results: Results, table: Grid, bold: bool) -> str:
    """Return the grid with sparsities over rewind points in its head."""
    several = any(len(column.rewinds) > 1 for column in table.columns)
    levels = [LatexCell(f"{column.nominal} sparsity", len(column.rewinds)) for column in table.columns]
    rewinds = [LatexCell(rewind) for column in table.columns for rewind in column.rewinds]
    above = [[LatexCell(""), *levels]]
    heads = [*above, [LatexCell("method"), *rewinds]] if several or len(rewinds) > 1 else above
    body = (
        [LatexCell(look.label), *(LatexCell(_words(cell, table), cell.span, bold and cell.best) for cell in cells)]
        for look, cells in table.rows
    )
    return latex_table(heads, body, _grid_caption(results, table, bold), GRID)


def _words(cell: GridCell, table: Grid) -> str:
    return f"{cell.text} ({cell.n})" if cell.n and not table.same_n else cell.text


_FORMS: Mapping[str, Callable[[Results, Grid, bool], str]] = {"latex": _grid_latex, "markdown": _grid_markdown}
