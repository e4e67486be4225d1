"""A check of an experiment: its settings, tasks, runners, cost, part of the results and finding, in one module.

A new check is a module of `reticket.tasks.checks` (a package where it is long) with one class under `@register`. What
it leaves out is empty.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from reticket.data import DataSource
from reticket.experiment import Context, Output, Result, Task
from reticket.figures.finding import ContactSheet, Finding
from reticket.figures.table import Column, Table
from reticket.tasks.cells import Runs
from reticket.tasks.declared import CheckSettings, Declared, declared, register
from reticket.tasks.results import Results
from reticket.tasks.stored import Stored
from reticket.tasks.work import Sizes, Work

__all__ = ["Check", "Runner", "checks", "register", "runners_of", "settings_in"]

Runner = Callable[[Task, Mapping[str, Result], Context], Output]
S = TypeVar("S", bound=CheckSettings)


class Check(Declared):
    """One check of an experiment.

    Attributes:
        title, about: heading of its section in the report, and one sentence on what it asks.
        runners: by kind of task the function that carries it out; a function of a module, so that workers find it.
        columns: by section of the results the columns of its table.
        of_classes: whether it looks at the class that a network chooses; left out where numbers are to be predicted.
    """

    title: ClassVar[str] = ""
    about: ClassVar[str] = ""
    runners: ClassVar[Mapping[str, Runner]] = {}
    columns: ClassVar[Mapping[str, tuple[Column, ...]]] = {}
    of_classes: ClassVar[bool] = False

    def tasks(self, plan: Runs) -> Mapping[Any, tuple[Task, ...]]:
        """Return its tasks by the place they have in its section, one a seed.

        Args:
            plan: the table of the experiment, and the networks it is made of.
        """
        return {}

    def work(self, task: Task, sizes: Sizes) -> Work:
        """Return what one of its tasks passes through a network.

        Args:
            task: of a kind in `runners`.
            sizes: of the data it is about.
        """
        return Work()

    def results(self, found: Stored, tasks: Mapping[Any, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return by section its rows, or its one record.

        Args:
            found: the results that are there.
            tasks: what `tasks` returned.
        """
        return {}

    def finding(self, results: Results) -> Finding | None:
        """Return the figure that shows it, or None where there is nothing to show.

        Args:
            results: of a run, at the latest position of matching alone.
        """
        return None

    def tables(self, results: Results) -> dict[str, Table]:
        """Return its tables by name: of every section that has columns and rows."""
        found = {name: results.of(self.sections[name]) for name in self.columns}
        return {name: Table.of(name, rows, self.columns[name]) for name, rows in found.items() if rows}

    def opened(self, results: Results) -> tuple[tuple[str, Table], ...]:
        """Return the tables that stand open under its figure, with captions."""
        return ()

    def write_files(self, results: Results, dataset: DataSource, folder: Path) -> None:
        """Write what stands beside `results.json`, and remove what an earlier run wrote there.

        Args:
            results: of this run.
            dataset: it was made with.
            folder: the run directory.

        Raises:
            OSError: when the folder cannot be written.
        """

    def contact_sheet(self, results: Results, folder: Path) -> ContactSheet | None:
        """Return the pictures that stand under its figure, or None where there are none.

        Args:
            results: of the run.
            folder: the run directory, where `write_files` wrote.

        Raises:
            InputError: when a picture cannot be read.
        """
        return None


def checks() -> tuple[Check, ...]:
    """Return every check in the order of the report.

    >>> [check.name for check in checks()]
    ['barriers', 'matching', 'trust', 'overlap', 'diversity', 'soups', 'per_class', 'exemplars']
    """
    return tuple(cast(Check, check) for check in declared())


def settings_in(plan: Runs, model: type[S]) -> S:
    """Return the settings of a check in an experiment."""
    found = plan.config.checks
    assert isinstance(found, model), "the table [checks] is made of the settings of all checks"
    return found


def runners_of() -> dict[str, str]:
    """Return by kind of task the path of its runner, of every check."""
    return {
        kind: f"{runner.__module__}:{runner.__name__}" for check in checks() for kind, runner in check.runners.items()
    }
