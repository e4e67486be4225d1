"""The page of TicketBench: tables and figures between two marks of a Markdown file, from the record alone."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from reticket.bench.goals import goals_table
from reticket.bench.record import Bench, BenchTask
from reticket.bench.tables import accuracy_table, claims_table, diversity_table, shown_claims
from reticket.errors import InputError
from reticket.figures.drawing import draw
from reticket.figures.text import duration, percent, plural
from reticket.files import put_between, read_text, write_file
from reticket.report.front import front
from reticket.report.metric_words import MetricWords

BEGIN, END = "<!-- figures: written by reticket bench --page -->", "<!-- end of figures -->"

SETTLED = "p is that of a two-sided t test of differences paired by seed; intervals are 95 % of each claim by itself."


def check_page(page: Path) -> str:
    """Return the text of a page that has both marks.

    Args:
        page: a Markdown file.

    Raises:
        InputError: when it is not there, or a mark is missing or there twice.
    """
    if not page.is_file():
        raise InputError(f"--page {page}: no such file; make it, with the lines '{BEGIN}' and '{END}' in it")
    whole = read_text(page, error=InputError, advice="name a Markdown file")
    try:
        put_between(whole, BEGIN, END, "")
    except ValueError as problem:
        raise InputError(f"--page {page}: {problem}") from None
    return whole


def write_page(bench: Bench, page: Path) -> bool:
    """Put the tables between the marks of a page, and the figures as SVG into `images` beside it.

    Args:
        bench: what was found.
        page: a Markdown file with both marks.

    Returns:
        Whether it was written; a page stays as it is where no task has a row yet.

    Raises:
        InputError: as `check_page`, or when something cannot be written.
    """
    whole, images = check_page(page), page.parent / "images"
    if not any(task.begun for task in bench.tasks):
        return False
    drawn = {task.name: figure.figure for task in bench.tasks if (figure := front(task.found)) and figure.figure}
    advice = "name a page in a folder that can be written"
    if drawn:
        images.mkdir(exist_ok=True)
    for name, spec in drawn.items():
        write_file(images / _image(name), draw(spec).svg.decode(), error=InputError, advice=advice)
    text = "\n".join([*_lines(bench, set(drawn)), ""])
    write_file(page, put_between(whole, BEGIN, END, text), error=InputError, advice=advice)
    return True


def _image(task: str) -> str:
    return f"ticketbench-{task}.svg"


def _lines(bench: Bench, drawn: Iterable[str]) -> Iterator[str]:
    claims = [claim for task in bench.tasks for claim in task.claims]
    begun = [task for task in bench.tasks if task.begun]
    yield from ("", "## Is the order settled?", "")
    if claims:
        level = f"A claim is settled at p < {bench.level:g} after Holm's adjustment over all of them;"
        yield from (f"{shown_claims(claims)}. {level}", SETTLED, "")
        table = claims_table(begun)
        yield from (table.to_markdown(),) if table.body else ()
    else:
        yield from (f"There are {shown_claims(claims)}.", "")
    yield from (line for task in bench.tasks if not task.begun for line in _not_begun(task))
    goals = goals_table(begun)
    if goals.body:
        yield from ("## Goals beyond the paper", "", goals.to_markdown())
    for task in begun:
        yield from _task_lines(task, drawn=task.name in drawn)


def _not_begun(task: BenchTask) -> Iterator[str]:
    """Say of a task without a row that it is left out; its claims are of the family all the same."""
    open_ones = f"; its {plural(len(task.claims), 'claim')} count as open" if task.claims else ""
    yield from (f"{task.name}: nothing of its {plural(task.seeds, 'pair')} is there yet{open_ones}.", "")


def _task_lines(task: BenchTask, *, drawn: bool) -> Iterator[str]:
    results = task.found
    heading = MetricWords.of(results).heading.capitalize()
    yield from (f"## {task.name}", "", f"{results.title}. {_where(task)}", "")
    if task.changed:
        parts = [
            f"`{key}` {json.dumps(here)} (there {json.dumps(there)})" for key, (there, here) in task.changed.items()
        ]
        yield from (f"**Not the task as it ships**: {', '.join(parts)}.", "")
    if drawn:
        finding = front(results)
        assert finding is not None
        yield from (f"![{heading} against model-epochs](images/{_image(task.name)})", "")
        yield from (" ".join(finding.says), "", finding.caption, "")
    yield f"{heading}: mean ± half of its 95 % interval over n seeds. Epochs are the model-epochs that a network costs"
    yield "where m networks share one ticket; seconds are those of one process after the other, A's part included."
    yield from ("", accuracy_table(task).to_markdown())
    diversity = diversity_table(task)
    if diversity.body:
        yield "Ensembles, n of them of disjoint seeds: KL is the mean of both directions over pairs of members, JS the"
        yield "divergence (not its root), both in nats an image. Epochs are those of all members together."
        yield from ("", diversity.to_markdown())


def _where(task: BenchTask) -> str:
    """Return where and when it was computed, with what, and how much of it is there."""
    results = task.found
    at, seconds = results.environment, sum(cost.seconds or 0.0 for cost in results.cost)
    words = [
        f"{at.get('processor', 'unknown processor')}",
        f"{at.get('cores', '?')} cores",
        f"device {at.get('device')}",
    ]
    words += [
        f"{plural(at.get('jobs', 1), 'job')} of {plural(at.get('threads', 1), 'thread')}",
        f"torch {at.get('torch')}",
        str(at.get("date")),
    ]
    part = "" if task.complete else " Incomplete: each cell has as many seeds as its n says."
    levels = ", ".join(percent(level) for level in sorted({row.sparsity for row in results.rows if row.sparsity}))
    pruned, planned = f"{levels} pruned", f"{plural(task.seeds, 'pair')} planned"
    if levels and pruned.replace("\u00a0", " ") not in results.title.replace("\u00a0", " "):
        planned = f"{pruned}, {planned}"
    return f"{planned}; {', '.join(words)}; {duration(seconds)} of one process in all.{part}"
