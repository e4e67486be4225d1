"""How well the units of A were matched to those of B, group by group, wherever the experiment matches any."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from reticket.experiment import Result, Task
from reticket.experiment.task import closure
from reticket.figures.chart import dot_of, labelled_dots, name_room, row_height
from reticket.figures.columns import MATCHED
from reticket.figures.finding import Finding, left_out
from reticket.figures.looks import PALETTE
from reticket.figures.spec import FigureSpec, Panel
from reticket.figures.table import column, measured
from reticket.figures.text import group_names, number, plural, shortened, spread_note
from reticket.records import Measured, Record, Stat
from reticket.tasks.cells import Runs
from reticket.tasks.check import Check, register
from reticket.tasks.results import Results
from reticket.tasks.rows import KEYS, MATCH_AT
from reticket.tasks.stored import Stored, stat_of

MOST_GROUPS = 48


class Match(Record):
    """How well one group of units was matched."""

    group: str = Field(description="name of the group")
    size: int = Field(description="units that are permuted")
    copies: int = Field(default=1, description="copies of the group that move together")
    match_at: str | None = Field(default=None, description=MATCH_AT)
    correlation: Measured = Field(
        default=Stat(),
        description="mean correlation of A's units with their partners, in [-1, 1]; of weights without data",
    )
    margin: Measured = Field(
        default=Stat(), description="how far the partner is ahead of the best other unit (correlation)"
    )
    keys: tuple[str, ...] = Field(default=(), description=KEYS)


@register
class Matching(Check):
    """Matched correlation and margin of every group. It plans no matching of its own: it shows what others need."""

    name = "matching"
    place = 20
    sections: ClassVar = {"matching": Match}
    title = "How well the units were matched"
    about = (
        "How alike matched units are, as the matcher sees them: by activations, or by weights without data. A badly "
        "matched group is a weak place of the permutation."
    )
    columns: ClassVar = {
        "matching": (
            column("group", "group"),
            column("size", "units"),
            column("copies", "copies"),
            MATCHED,
            measured("correlation", "matched correlation", 3),
            measured("margin", "margin", 3),
            column("n", "n", get="correlation.n"),
        )
    }

    def tasks(self, plan: Runs) -> Mapping[str, tuple[Task, ...]]:
        """Return by position of B the matching of A onto B, one task a seed, where anything uses it."""
        grid = plan.config.grid
        if not any(task.kind == "match" for task in closure(plan.planned(but=self.name))):
            return {}
        return {at: _matchings(plan, at) for at in grid.match_at}

    def results(self, found: Stored, tasks: Mapping[str, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return how well each group of units was matched, at every position where it was."""
        return {"matching": [row for at, mine in tasks.items() for row in _rows(at, found.present(mine))]}

    def finding(self, results: Results) -> Finding | None:
        """Return matched correlation and margin of each group."""
        return matching(results)


def _matchings(plan: Runs, at: str) -> tuple[Task, ...]:
    """Return those of the first cell that uses them: a matcher may look at the ticket, and each cell has its own."""
    for cell, tasks in plan.runs.items():
        if cell.match_at == at:
            return tuple(task.inputs["alignment"] for task in tasks)
    return tuple(plan.networks.match(seed, seed, at) for seed in plan.config.grid.seeds)


def _rows(place: str, results: Sequence[Result]) -> list[Match]:
    groups = results[0].values["groups"] if results else {}
    return [
        Match(
            group=name,
            size=group["size"],
            copies=group["copies"],
            match_at=place,
            correlation=_over(results, name, "correlation"),
            margin=_over(results, name, "margin"),
            keys=tuple(r.key for r in results),
        )
        for name, group in groups.items()
    ]


def _over(results: Sequence[Result], group: str, name: str) -> Stat:
    return stat_of([r.values["groups"][group][name] for r in results])


# ---------------------------------------------------------------- the figure


def matching(results: Results) -> Finding | None:
    """Return matched correlation and margin of each group."""
    known = [record for record in results.of(Match) if record.correlation.mean is not None]
    if not known:
        return None
    groups = known[:MOST_GROUPS]
    words = group_names([record.group for record in known])
    units = [record.size * record.copies for record in groups]
    names = [f"{shortened(name, 20)} ({count})" for name, count in zip(words[: len(groups)], units, strict=True)]
    room, height = name_room(names), row_height(len(names))
    colour = PALETTE["permuted"][0]
    points = [dot for row, record in enumerate(groups) if (dot := dot_of(row, record.correlation, colour, "D"))]
    says = _matching_says([(name, one.correlation.mean or 0.0) for name, one in zip(words, known, strict=True)])
    low = min(0.0, *(record.correlation.mean or 0.0 for record in groups)) - 0.02
    draw = partial(labelled_dots, names=names, points=points, unit="matched correlation", limits=(low, 1.02))
    panels = [
        Panel(draw, "matched correlation", "group (units)", f"Matched correlation of each group. {says}", height, room)
    ]
    margins = [dot for row, record in enumerate(groups) if (dot := dot_of(row, record.margin, colour, "o"))]
    if margins:
        draw = partial(labelled_dots, names=names, points=margins, unit="margin of correlation", limits=None)
        panels.append(
            Panel(
                draw,
                "margin to the runner-up",
                "group (units)",
                "Margin of each group to the best other unit.",
                height,
                room,
            )
        )
    caption = (
        "Left: mean correlation of A's units with the units of B they were matched to; 1 is a perfect match. Right: "
        "how far the matched partner is ahead of the best other one; below 0 another unit alone would fit better, but "
        "the assignment as a whole would not. "
        f"{spread_note('Whiskers', (record.correlation.n for record in known))}"
    )
    return Finding(
        FigureSpec("matching", tuple(panels)),
        (says,),
        caption + left_out(len(groups), len(known), "groups", "matching"),
    )


def _matching_says(pairs: Sequence[tuple[str, float]]) -> str:
    mean = number(sum(value for _, value in pairs) / len(pairs), 2)
    if len(pairs) == 1:
        return f"The one group, {pairs[0][0]}, is matched at a correlation of {mean}."
    best, worst = (end(pairs, key=lambda pair: pair[1]) for end in (max, min))
    return (
        f"Over {plural(len(pairs), 'group')} the matched correlation is {mean} on average, "
        f"from {number(worst[1], 2)} ({worst[0]}) to {number(best[1], 2)} ({best[0]})."
    )
