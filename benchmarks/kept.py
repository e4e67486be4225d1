"""Rows of a benchmark by name, kept in a JSON file that is written after each: what was interrupted goes on."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reticket.experiment import ExecutionConfig
from reticket.files import replace_file
from reticket.tasks.running import environment_of

Row = Mapping[str, Any]


def add_places(parser: ArgumentParser, store: Path, out: Path) -> None:
    """Add the options of where a benchmark's runs, its rows and its table are: --store, --out and --page.

    Args:
        parser: of the command.
        store: of results, if none is named.
        out: file of the rows, if none is named.
    """
    parser.add_argument("--store", type=Path, default=store)
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--page", type=Path, help="page that the table goes into")


class Kept:
    """The rows of a file. Those that are there are not measured again: remove the file to begin anew.

    Args:
        path: of the JSON file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cases: dict[str, Row] = json.loads(path.read_text("utf-8"))["cases"] if path.exists() else {}

    def row(self, name: str, measure: Callable[[], Row]) -> Row:
        """Return the row of this name, measured and written now where it is not there yet."""
        if name not in self.cases:
            self.cases[name] = measure()
            self.write()
            print(f"{name}: {shown(self.cases[name])}", flush=True)
        return self.cases[name]

    def write(self, **more: Any) -> None:
        """Write the rows, where they were measured, and what else follows from them."""
        whole = {"cases": self.cases, **more, "environment": environment_of(ExecutionConfig())}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, (json.dumps(whole, indent=1) + "\n").encode())


def shown(row: Row) -> str:
    """Return a row for the terminal: its numbers with four figures, and texts as they are.

    >>> shown({"seconds": 1.23456, "units": 3})
    'seconds 1.235, units 3'
    """
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )
