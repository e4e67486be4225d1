"""`reticket export`: one table of a run, printed or written into a file."""

from pathlib import Path

from reticket.errors import InputError
from reticket.files import write_file
from reticket.report.exporting import export_table
from reticket.tasks.results import Results


def export_run(run_dir: Path, table: str, form: str, output: Path | None, *, bold: bool) -> None:
    """Print a table of a run, or write it.

    Args:
        run_dir: of one experiment.
        table: its name.
        form: "latex", "markdown" or "csv".
        output: the file, or None to print.
        bold: whether the best methods are bold.

    Raises:
        ConfigError: for an unknown form, or `bold` where nothing is best.
        InputError: when the run or its table is not there, or the file cannot be written.
    """
    text = export_table(Results.load(run_dir), table, form, bold=bold)
    if output is None:
        print(text, end="")
    else:
        write_file(output, text, error=InputError, advice="name a file in a folder that exists")
        print(f"written: {output}")
