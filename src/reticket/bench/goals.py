"""What was aimed at beyond the paper, and how near each task came: the gap, the initialisation itself, ensembles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Goal:
    """One goal at one task: what came nearest, how near, and whether that is near enough."""

    task: str
    aim: str
    best: str
    reached: str
    met: bool


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
        column("met", "met", lambda met: "yes" if met else "no"),
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
    scored = [(_enough(differ.get((row.method, row.match_at)), least), gap.share, row, gap) for row, gap in known]
    scored = [one for one in scored if one[1] is not None]
    if not scored:
        return None
    enough, share, row, gap = max(scored, key=lambda one: (one[0], one[1] or 0.0))
    disagreement = differ.get((row.method, row.match_at))
    reached = f"{_share_text(gap)}; disagreement {number(disagreement, 3)} of at least {number(least, 3)}"
    aim = f"{SHARE:.0f} % of the gap closed, matched at {position(at)}, as diverse as permuted"
    return Goal(name, aim, label(row.method), reached, enough and (share or 0.0) >= SHARE)


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
    left = metric.better_by(lth.mean or 0.0, best.mean or 0.0)
    at = (
        ""
        if best.match_at is None
        else f", matched at {'the end' if best.match_at == 'end' else position(best.match_at)}"
    )
    reached = f"{number(left, 2)} points below LTH (n = {best.n})"
    aim = f"k = 0 within {AT_START:g} points of LTH"
    return Goal(name, aim, f"{label(best.method)}{at}", reached, left <= AT_START)


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
    price, goal = alone.epochs_each(1) or 0.0, alone.ensemble_accuracy or 0.0
    cheap = [one for one in known if (one.epochs_each(1) or 0.0) <= PRICE * price]
    best = max(cheap or known, key=lambda one: one.ensemble_accuracy or 0.0)
    left, cost = goal - (best.ensemble_accuracy or 0.0), best.epochs_each(1) or 0.0
    reached = f"{number(left, 2)} points below, at {percent(round(cost / price, 4))} of {epochs(price)} model-epochs"
    aim = f"ensemble of {alone.members} within {ENSEMBLE:g} points of independent IMP at a third of its cost"
    return Goal(name, aim, label(best.method), reached, bool(cheap) and left <= ENSEMBLE)


def _independent(results: Results, sizes: set[int]) -> Diversity | None:
    """Return independent runs of IMP as an ensemble of a size that ensembles of one ticket have."""
    found: Sequence[Diversity] = [one for one in results.of(Diversity) if one.protocol == "independent"]
    return next((one for one in found if one.method == "imp" and one.members in sizes and one.epochs_each(1)), None)
