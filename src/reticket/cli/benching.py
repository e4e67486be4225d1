"""What `reticket bench` does with its tasks: a plan of each, their runs with progress, and the verdicts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from reticket.bench import Bench, bench_tasks, run_bench
from reticket.bench.record import FILE
from reticket.bench.running import data_of
from reticket.bench.tables import claims_table, shown_claims
from reticket.bench.tiers import PREFIX
from reticket.cli.accuracies import show_accuracies
from reticket.cli.comparing import table_lines
from reticket.cli.dry_run import show
from reticket.cli.progress import Display
from reticket.experiment import Event, ExecutionConfig
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results


def plan_tasks(names: Sequence[str], out: Path, settings: Sequence[str], execution: ExecutionConfig) -> None:
    """Print of each task what would be computed, and how long it would take.

    Args:
        names: of tasks.
        out: the folder that may have a store.
        settings: `key=value` texts for every task.
        execution: what would carry it out.
    """
    for name in names:
        preset, config = load_config(f"{PREFIX}{name}", settings)
        show(preset, config, data_of(execution, config), out / "store")
        print()


def run_tasks(
    names: Sequence[str], out: Path, settings: Sequence[str], execution: ExecutionConfig, *, force: bool, debug: bool
) -> Bench:
    """Run tasks with their progress, and print the table of each when it ends.

    Args:
        names: of tasks.
        out: the folder.
        settings: `key=value` texts for every task.
        execution: what carries it out.
        force: replace the reports of other experiments there.
        debug: print tracebacks of failed tasks.

    Returns:
        The record in the folder.
    """
    shown = _Shown(debug=debug)
    found = run_bench(
        names, out, settings=settings, execution=execution, force=force, watch=shown.watch, on_done=shown.done
    )
    print(f"record:  {out / FILE}")
    return found


class _Shown:
    def __init__(self, *, debug: bool) -> None:
        self._display = Display(debug=debug)
        self._debug = debug

    @contextmanager
    def watch(self, name: str) -> Iterator[Callable[[Event], None]]:
        print(f"{name}: {bench_tasks()[name]}", flush=True)
        self._display = Display(debug=self._debug)
        with self._display:
            yield self._display.show

    def done(self, results: Results) -> None:
        self._display.summarise(results)
        show_accuracies(results, Console())
        print(flush=True)


def show_claims(found: Bench) -> None:
    """Print every claim with its verdict; a narrow terminal has no room for all columns.

    Args:
        found: the record.
    """
    console = Console()
    width = console.width if console.is_terminal else 10**6
    claims = [claim for task in found.tasks for claim in task.claims]
    for line in table_lines(claims_table(found.tasks), width, ("sparsity", "p")):
        print(line)
    part = "" if found.complete else "; some of it is still missing: run the same command again to go on"
    level = f" (p < {found.level:g}, Holm over all of them)" if claims else ""
    print(f"{shown_claims(claims)}{level}{part}")
