"""What a run ends with on the terminal: the table of accuracies, and the share of the gap that permuting closes."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reticket.report.grid import Grid, GridCell, closed_by_column, grid
from reticket.report.training_positions import at_main
from reticket.tasks.results import Results

GUTTER = 2  # spaces between columns
CLOSED = "gap closed"


def show_accuracies(results: Results, console: Console) -> None:
    """Print the accuracies of a run, or what else its networks are judged by; of a sweep those of each experiment.

    Args:
        results: of the run.
        console: where to; what is wider than it goes on below.
    """
    for name, variant in results.variants.items() or [("", results)]:
        main = at_main(variant)
        table, closed = grid(main), closed_by_column(main)
        if table is None:
            continue
        count = f", n = {table.same_n}" if table.same_n else ""
        title = f"\n{name}{': ' if name else ''}{table.words.heading}, mean ± sd{count}"
        console.print(title, markup=False, style="bold")
        for n, part in enumerate(_parts(table, closed, console.width)):
            console.print(*([Text()] if n else []), part, sep="\n")
        if closed:
            console.print(
                f"{CLOSED}: how far permuting goes from naive to LTH [interval over seeds]; – where they are not "
                "clearly apart",
                style="dim",
                markup=False,
            )


def _parts(table: Grid, closed: Sequence[str], room: int) -> Iterator[Table]:
    """Yield the table in as many parts as it takes to fit into `room` characters, each with the methods' names."""
    heads = [Text(f"{column.nominal}\n{rewind}") for column in table.columns for rewind in column.rewinds]
    lines = {look.label: list(_texts(cells)) for look, cells in table.rows}
    if closed:
        lines[CLOSED] = [Text(share) for share in closed]
    columns = [(head, [line[n] for line in lines.values()]) for n, head in enumerate(heads)]
    widths = [GUTTER + max(_width(text) for text in (head, *cells)) for head, cells in columns]
    names = [Text(name) for name in lines]
    left = room - max(map(_width, names))
    while columns:
        fit = max(1, sum(sum(widths[: n + 1]) <= left for n in range(len(widths))))
        yield _part(names, columns[:fit])
        columns, widths = columns[fit:], widths[fit:]


def _part(names: Sequence[Text], columns: Iterable[tuple[Text, Sequence[Text]]]) -> Table:
    part = Table(box=None, padding=(0, 0, 0, GUTTER), pad_edge=False)
    part.add_column(no_wrap=True)
    for head, _ in columns:
        part.add_column(head, justify="right", no_wrap=True)
    for name, *line in zip(names, *(cells for _, cells in columns), strict=True):
        part.add_row(name, *line)
    return part


def _texts(cells: Iterable[GridCell]) -> Iterator[Text]:
    for cell in cells:
        text = f"{cell.mean} ± {cell.sd}" if cell.sd else cell.mean
        yield from [Text(text, style="bold" if cell.best else "")] * cell.span


def _width(text: Text) -> int:
    return max(line.cell_len for line in text.split("\n"))
