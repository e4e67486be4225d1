"""`reticket compare`: runs beside the first of them, on the terminal and as a page."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from reticket.figures.table import Table
from reticket.report.compared_runs import RunPair, difference_table, differing_settings, read_runs
from reticket.report.comparison_page import comparison_caption, comparison_notices, comparison_says, write_comparison

GAP = "  "


def compare_runs(folders: Sequence[Path], output: Path | None, console: Console) -> None:
    """Print what runs do not share and how their accuracies differ; write the page where one is asked for.

    Args:
        folders: run directories, the reference first.
        output: of the page, or None.
        console: where to print; where it is no terminal, lines are as long as they need to be.

    Raises:
        ConfigError: when there are fewer than two runs.
        InputError: when one cannot be read or the page cannot be written.
    """
    reference, *others = runs = read_runs(folders)
    pairs = [RunPair.of(run, reference) for run in others]
    width = console.width if console.is_terminal else 10**6
    _print(
        [*(f"{first} {rest}" for first, rest in comparison_notices(runs)), *_settings(differing_settings(runs))],
        console,
    )
    for pair in pairs:
        table = difference_table(pair, pair.metric)
        spare = ("paired seeds", pair.run.name, pair.reference.name)
        _print(["", f"{pair.words.heading}, {pair.name}", *table_lines(table, width, spare)], console)
        _print((*comparison_says(pair), comparison_caption(pair)), console)
    if output is not None:
        write_comparison(runs, pairs, output)
        _print([f"written: {output}"], console)


def _print(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _settings(table: Table | None) -> Iterator[str]:
    if table is None:
        yield "the runs have the same settings, and the same environment"
        return
    yield "what the runs do not share"
    for key, *values in table.body:
        told = ", ".join(f"{value} ({name})" for name, value in zip(table.head[1:], values, strict=True))
        yield f"  {key}: {told}"


def table_lines(table: Table, width: int, spare: Sequence[str] = ()) -> list[str]:
    """Return a table as lines, its first column to the left and the others to the right.

    Args:
        table: what to show.
        width: characters of a line.
        spare: heads of columns that are left out, one after another, until the rest fits.

    >>> table = Table("t", (), ("method", "n", "mean"), (("lth", "5", "97.56"),))
    >>> table_lines(table, 80), table_lines(table, 14, ["n"])
    (['method  n   mean', 'lth     5  97.56'], ['method   mean', 'lth     97.56'])
    """
    if not table.head:  # of no rows no column is shown
        return []
    columns = list(zip(table.head, *table.body, strict=True))
    for head in spare:
        if sum(len(GAP) + max(map(len, column)) for column in columns) - len(GAP) > width:
            columns = [column for column in columns if column[0] != head]
    first, *others = [(column, max(map(len, column))) for column in columns]
    names = [cell.ljust(first[1]) for cell in first[0]]
    cells = zip(*([cell.rjust(wide) for cell in column] for column, wide in others), strict=True)
    return [GAP.join((name, *line)) for name, line in zip(names, cells, strict=True)]
