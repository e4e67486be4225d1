"""Progress of a run: a live line with the remaining time on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from reticket.cli.durations import time_text
from reticket.experiment import Event
from reticket.tasks.results import Results

PLAIN_EVERY = 30.0  # seconds between lines where there is no terminal


class Display:
    """Shows the events of a run as they come.

    Args:
        debug: print tracebacks of failed tasks.
    """

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug
        self._console = Console(stderr=True)
        self._total, self._ended = 0, 0
        self._seconds_left: float | None = None
        self._counts: Mapping[str, int] = {}
        self._bar: Progress | None = None
        self._line: TaskID | None = None
        self._last = time.monotonic()
        self._started = time.monotonic()

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.completed:.0f}/{task.total:.0f} tasks"),
                BarColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                TextColumn("{task.fields[now]}", style="dim", markup=False),
                console=self._console,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is KeyboardInterrupt:
            self._console.print("stopped; what is finished is kept in the store", markup=False)

    def show(self, event: Event) -> None:
        """Take one event in."""
        self._seconds_left = event.left if event.left is not None else self._seconds_left
        if event.kind == "plan-started":
            self._total = event.counts["missing"]
            self._console.print(event.text + self._first_estimate(event), markup=False)
            if self._bar is not None:
                self._line = self._bar.add_task("", total=self._total, left="", now="")
        elif event.kind == "plan-finished":
            self._counts = event.counts
        elif event.kind == "notice":
            self._console.print(f"{event.label}: {event.text}", style="yellow", markup=False)
        elif event.kind == "task-failed":
            self._console.print(f"failed: {event.label}: {event.text}", style="red", markup=False)
            if self._debug and event.traceback:
                self._console.print(event.traceback, markup=False)
        self._ended += event.kind in ("task-done", "task-failed", "task-skipped")
        if self._bar is not None and self._line is not None:
            now = event.label if event.kind in ("task-started", "progress") else ""
            self._bar.update(self._line, completed=self._ended, left=self._left(), now=now[:48])
        elif event.kind in ("progress", "task-done") and time.monotonic() - self._last > PLAIN_EVERY:
            self._last = time.monotonic()
            self._console.print(f"{self._ended}/{self._total} tasks, {self._left()}", markup=False)

    def summarise(self, results: Results) -> None:
        """Say what was done and where the report is."""
        seconds, folder = time.monotonic() - self._started, results.folder
        done, cached, skipped, unfinished = (
            self._counts.get(name, 0) for name in ("done", "cached", "skipped", "unfinished")
        )
        file = folder / ("sweep.json" if results.variants else "results.json")
        print(f"{done} tasks computed, {cached} taken from the store, {seconds:.1f} s")
        print(f"report:  {folder / 'report.html'}\nresults: {file}")
        for failure in results.failures:
            print(f"failed: {failure.label}: {failure.error}", file=sys.stderr)
        if unfinished:
            print(f"{unfinished} tasks were left when the time was up; run the same command again to go on")
        if skipped:
            print(f"{skipped} tasks were skipped, because what they need failed", file=sys.stderr)

    def _first_estimate(self, event: Event) -> str:
        """Return what is known of the time before anything was computed: by what the store has of other runs."""
        learned = event.counts.get("learned", 0)
        if event.left is None or not learned:
            return ""
        return f"; about {time_text(event.left)}, as {learned:,} results in the store took"

    def _left(self) -> str:
        return "estimating" if self._seconds_left is None else f"about {time_text(self._seconds_left)} left"
