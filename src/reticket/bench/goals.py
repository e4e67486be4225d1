"""What was aimed at beyond the paper, and how near each task came: the gap, the initialisation itself, ensembles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from reticket.analysis import mean_interval, welch_interval
from reticket.bench.claims import CONFIDENCE
from reticket.bench.record import BenchTask
from reticket.figures.looks import is_oracle, label
from reticket.figures.table import Table, column
from reticket.figures.text import number, percent, position, rewind_order
from reticket.report.accuracy_rows import accuracy_rows
from reticket.report.costed import epochs
from reticket.report.training_positions import match_order
from reticket.tasks.checks.diversity import Diversity
from reticket.tasks.results import Results
from reticket.tasks.rows import Gap, Row

SHARE = 90.0  # percent of the LTH - naive gap
DISAGREEMENT = 0.9  # of that of permuted
AT_START = 0.5  # points below LTH at k = 0
ENSEMBLE = 0.3  # points below independent runs
PRICE = 1 / 3  # of what these cost

Met = Literal["yes", "in the mean", "no"]
RANKS: tuple[Met, ...] = ("no", "in the mean", "yes")


@dataclass(frozen=True)
class Goal:
    """One goal at one task: what came nearest, how near, and whether that is near enough."""

    task: str
    aim: str
    best: str
    reached: str
    met: Met


@dataclass(frozen=True)
class Below:
    """Points that something is below another thing, with the 95 % interval of the mean where there are values for it.

    Args:
        mean: in points.
        bounds: None where there is no interval.
    """

    mean: float
    bounds: tuple[float, float] | None = None

    def within(self, limit: float) -> Met:
        """Return whether it is at most so much: "yes" where its whole interval is.

        >>> Below(0.2, (0.1, 0.3)).within(0.5), Below(0.2, (-0.2, 0.6)).within(0.5), Below(0.2).within(0.5)
        ('yes', 'in the mean', 'in the mean')
        >>> Below(0.6, (0.4, 0.8)).within(0.5)
        'no'
        """
        return _met(self.mean <= limit, self.bounds is not None and self.bounds[1] <= limit)

    def __str__(self) -> str:
        bounds = "" if self.bounds is None else f" [{number(self.bounds[0], 2)}, {number(self.bounds[1], 2)}]"
        return f"{number(self.mean, 2)}{bounds} points below"


def _met(in_the_mean: bool, surely: bool) -> Met:
    """Return what is said of a goal: more than a point estimate is asked for a "yes"."""
    return "no" if not in_the_mean else "yes" if surely else "in the mean"


def goals_table(tasks: Iterable[BenchTask]) -> Table:
    """Return every goal that the results of tasks say something of.

    Args:
        tasks: with their results.
    """
    rows = [goal for task in tasks for goal in goals_of(task.name, task.found)]
    columns = (
        column("task", "task"),
        column("aim", "goal"),
        column("best", "nearest"),
        column("reached", "reached"),
        column("met", "met"),
    )
    return Table.of("goals", rows, columns)


def goals_of(name: str, results: Results) -> list[Goal]:
    """Return the goals at the highest sparsity of a task, where they can be looked at.

    Args:
        name: of the task.
        results: of it, at all positions of matching.
    """
    found = (_gap(name, results), _start(name, results), _ensemble(name, results))
    return [goal for goal in found if goal is not None]


def _early(results: Results) -> str | None:
    """Return the earliest position of matching where there is one before the end."""
    order = match_order(results)
    return order[0] if order and order[0] != "end" else None


def _moved(rows: Iterable[Row], at: str | None) -> list[Row]:
    """Return the networks whose start comes from A's ticket, carried to B without a training of B past k."""
    return [row for row in rows if not is_oracle(row.method) and row.shared_epochs and row.match_at in (at, None)]


def _gap(name: str, results: Results) -> Goal | None:
    """At least 90 % of the gap closed, its members as different as permuted's less a tenth, matched early at k."""
    at, rows = _early(results), [row for row in accuracy_rows(results) if row.rewind is not None]
    if at is None or not rows:
        return None
    level, rewind = max(row.sparsity for row in rows), rewind_order(row.rewind for row in rows)[-1]
    here = _moved((row for row in rows if (row.sparsity, row.rewind) == (level, rewind)), at)
    gaps = {
        (gap.method, gap.match_at): gap for gap in results.gap_closed if (gap.sparsity, gap.rewind) == (level, rewind)
    }
    known = [(row, gaps[row.method, row.match_at]) for row in here if (row.method, row.match_at) in gaps]
    differ = {(one.method, one.match_at): one.disagreement for one in _sharing(results, level, rewind)}
    of_permuted = differ.get(("permuted", at))
    if of_permuted is None:
        return None
    least = DISAGREEMENT * of_permuted
    scored = [
        (_closed(gap, _enough(differ.get((row.method, row.match_at)), least)), row, gap)
        for row, gap in known
        if gap.share is not None
    ]
    if not scored:
        return None
    (_, verdict, _), row, gap = max(scored, key=lambda one: (one[0][0], RANKS.index(one[0][1]), one[0][2]))
    disagreement = differ.get((row.method, row.match_at))
    reached = f"{_share_text(gap)}; disagreement {number(disagreement, 3)} of at least {number(least, 3)}"
    aim = f"{SHARE:.0f} % of the gap closed, matched at {position(at)}, as diverse as permuted"
    return Goal(name, aim, label(row.method), reached, verdict)


def _closed(gap: Gap, enough: bool) -> tuple[bool, Met, float]:
    """Return whether it is diverse enough, whether it meets the goal, and its share; the highest is the nearest."""
    share = gap.share or 0.0
    sure = gap.low is not None and gap.low >= SHARE
    return enough, _met(enough and share >= SHARE, sure), share


def _enough(disagreement: float | None, least: float) -> bool:
    return disagreement is not None and disagreement >= least


def _share_text(gap: Gap) -> str:
    bounds = "" if gap.low is None else f" [{number(gap.low, 0)}, {number(gap.high, 0)}]"
    return f"{number(gap.share, 0)} %{bounds}"


def _start(name: str, results: Results) -> Goal | None:
    """At the initialisation itself within half a point of LTH."""
    rows = [row for row in accuracy_rows(results) if row.rewind in ("0ep", "0it")]
    here = [row for row in rows if row.sparsity == max(one.sparsity for one in rows)]
    lth = next((row for row in here if row.method == "lth"), None)
    moved = [row for row in here if not is_oracle(row.method) and row.shared_epochs]
    if lth is None or not moved:
        return None
    metric = results.experiment.metric
    best = max(moved, key=lambda row: metric.better_by(row.mean or 0.0, 0.0))
    ours, theirs = best.by_seed, lth.by_seed
    paired = [metric.better_by(theirs[seed], value) for seed, value in ours.items() if seed in theirs]
    if not paired:
        return None
    left = Below(sum(paired) / len(paired), mean_interval(paired, CONFIDENCE) if len(paired) > 1 else None)
    at = (
        ""
        if best.match_at is None
        else f", matched at {'the end' if best.match_at == 'end' else position(best.match_at)}"
    )
    reached = f"{left} LTH (n = {len(paired)})"
    aim = f"k = 0 within {AT_START:g} points of LTH"
    return Goal(name, aim, f"{label(best.method)}{at}", reached, left.within(AT_START))


def _sharing(results: Results, level: float, rewind: str | None) -> list[Diversity]:
    return [
        one
        for one in results.of(Diversity)
        if one.protocol == "one ticket" and (one.sparsity, one.rewind) == (level, rewind)
    ]


def _ensemble(name: str, results: Results) -> Goal | None:
    """An ensemble of one ticket within 0.3 points of as many independent runs of IMP at a third of their cost."""
    shared = [one for one in results.of(Diversity) if one.protocol == "one ticket" and one.sparsity > 0]
    alone = _independent(results, {one.members for one in shared})
    known = [one for one in shared if one.ensemble_accuracy is not None and one.epochs_each(1) is not None]
    known = [one for one in known if not is_oracle(one.method) and one.shared_epochs]
    if alone is None or not known:
        return None
    price = alone.epochs_each(1) or 0.0
    cheap = [one for one in known if (one.epochs_each(1) or 0.0) <= PRICE * price]
    best = max(cheap or known, key=lambda one: one.ensemble_accuracy or 0.0)
    left, cost = _below(best, alone), best.epochs_each(1) or 0.0
    reached = f"{left}, at {percent(round(cost / price, 4))} of {epochs(price)} model-epochs"
    aim = f"ensemble of {alone.members} within {ENSEMBLE:g} points of independent IMP at a third of its cost"
    return Goal(name, aim, label(best.method), reached, left.within(ENSEMBLE) if cheap else "no")


def _below(one: Diversity, other: Diversity) -> Below:
    """Return how far an ensemble is below another, by Welch's interval: they may be of other seeds."""
    ours, theirs = (
        [value for value in each.over_tickets.ensemble_accuracy.values if value is not None]
        if each.over_tickets
        else []
        for each in (one, other)
    )
    bounds = welch_interval(theirs, ours, CONFIDENCE) if min(len(ours), len(theirs)) > 1 else None
    return Below((other.ensemble_accuracy or 0.0) - (one.ensemble_accuracy or 0.0), bounds)


def _independent(results: Results, sizes: set[int]) -> Diversity | None:
    """Return independent runs of IMP as an ensemble of a size that ensembles of one ticket have."""
    found: Sequence[Diversity] = [one for one in results.of(Diversity) if one.protocol == "independent"]
    return next((one for one in found if one.method == "imp" and one.members in sizes and one.epochs_each(1)), None)
