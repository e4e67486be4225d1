"""Networks and ensembles with what they are worth and what they cost: the points of accuracy against cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from reticket.analysis import PairedDifference, paired_difference, pareto_front
from reticket.figures.columns import METHOD, PLACE, SPARSITY, N
from reticket.figures.looks import base, label
from reticket.figures.table import Column, Table, column
from reticket.figures.text import number, plus_minus, position, rewind_order
from reticket.records import Stat
from reticket.report.accuracy_rows import accuracy_rows
from reticket.report.metric_words import MetricWords
from reticket.report.training_positions import match_order
from reticket.tasks.checks.diversity import Diversity
from reticket.tasks.metric import Metric
from reticket.tasks.results import Results
from reticket.tasks.rows import Row

SHARING = (1, 10, 100)
"""How many networks (or ensembles) are taken to share one ticket."""
WITHOUT_TICKET = frozenset({"imp", "imp-b"})
"""Methods that prune each network itself; their ensemble, which others are held against, is of independent runs."""
Place = tuple[float, str | None]


@dataclass(frozen=True)
class Point:
    """One network of the table, or one ensemble, with its accuracy and its cost.

    Args:
        row: where it stands.
        stat: its accuracy, or what else the run is judged by.
        members: networks that it is made of.
        several: whether the run has methods matched at more than one position, so that a name has to say which.
    """

    row: Row | Diversity
    stat: Stat
    members: int = 1
    several: bool = False

    method = property(lambda self: self.row.method)
    sparsity = property(lambda self: self.row.sparsity)
    rewind = property(lambda self: self.row.rewind)
    match_at = property(lambda self: self.row.match_at)
    own_epochs = property(lambda self: self.row.own_epochs)
    shared_epochs = property(lambda self: self.row.shared_epochs)

    @property
    def n(self) -> int:
        """How many of them the accuracy is the mean of."""
        return self.stat.n

    @property
    def value(self) -> float:
        """The mean accuracy."""
        return self.stat.mean or 0.0

    def cost(self, sharing: int) -> float:
        """Return its model-epochs where so many share one ticket."""
        return self.row.epochs_each(sharing) or 0.0

    @property
    def kind(self) -> str:
        """A network, or an ensemble and of what."""
        if self.members == 1:
            return "network"
        alone = isinstance(self.row, Diversity) and self.row.protocol == "independent"
        return f"ensemble of {self.members}{', independent' if alone else ''}"

    @property
    def name(self) -> str:
        """What a sentence or a mark calls it."""
        end = "the end" if self.match_at == "end" else position(self.match_at)
        return self._named(f" matched at {end}")

    @property
    def short(self) -> str:
        """What a chart calls it."""
        return self._named(f", {'end' if self.match_at == 'end' else position(self.match_at)}")

    def _named(self, place: str) -> str:
        at = place if self.several and self.match_at is not None else ""
        return f"{label(self.method)}{at}{'' if self.members == 1 else f' ×{self.members}'}"


def points_of(results: Results) -> list[Point]:
    """Return every sparse network and ensemble whose cost and accuracy are known; none of a run older than costs.

    Ensembles are those of one ticket, and beside them as large ones of independent runs of what has no ticket to share.

    Args:
        results: of a run, at all positions of matching.
    """
    several = len(match_order(results)) > 1
    networks = [Point(row, row, several=several) for row in accuracy_rows(results) if row.sparsity > 0]
    sharing = {one.members for one in results.of(Diversity) if one.protocol == "one ticket"}
    ensembles = [
        Point(one, _accuracy(one), one.members, several)
        for one in results.of(Diversity)
        if one.sparsity > 0 and one.ensemble_accuracy is not None
        if one.protocol == "one ticket" or (base(one.method) in WITHOUT_TICKET and one.members in sharing)
    ]
    return [point for point in (*networks, *ensembles) if point.row.epochs_each(1) is not None]


def _accuracy(one: Diversity) -> Stat:
    if one.over_tickets is not None:
        return one.over_tickets.ensemble_accuracy
    return Stat(n=1, mean=one.ensemble_accuracy)


def main_place(points: Sequence[Point]) -> Place:
    """Return the setting that speaks most plainly: the highest sparsity, and its latest rewind point."""
    level = max(point.sparsity for point in points)
    rewinds = rewind_order(point.rewind for point in points if point.sparsity == level)
    return level, rewinds[-1] if rewinds else None


def at_place(points: Sequence[Point], place: Place) -> list[Point]:
    """Return the points of a setting, with those that have no rewind point."""
    return [point for point in points if point.sparsity == place[0] and point.rewind in (place[1], None)]


def sharing_of(points: Sequence[Point]) -> tuple[int, ...]:
    """Return for how many networks a ticket is worth showing: one alone where nothing can be shared."""
    return SHARING if any(point.shared_epochs for point in points) else SHARING[:1]


def on_front(points: Sequence[Point], sharing: int, metric: Metric) -> list[Point]:
    """Return the points that no other beats in cost and in accuracy, the cheapest first."""
    values = [metric.better_by(point.value, 0.0) for point in points]
    return [points[place] for place in pareto_front([round(point.cost(sharing), 6) for point in points], values)]


@dataclass(frozen=True)
class Rival:
    """A network that costs no more than a permuted one and is better on average.

    Args:
        point: the network.
        permuted: what it beats.
        better_by: how much better, in the metric's unit.
        difference: the same paired by seed; None where fewer than two seeds are common.
    """

    point: Point
    permuted: Point
    better_by: float
    difference: PairedDifference | None


def rival(points: Sequence[Point], sharing: int, metric: Metric, confidence: float) -> Rival | None:
    """Return the best network without a matching that costs no more than the best permuted one and is better.

    Args:
        points: of a setting.
        sharing: how many share a ticket.
        metric: of the run.
        confidence: of the interval, in (0, 1).

    Returns:
        None where there is none, or no permuted network.
    """
    networks = sorted((p for p in points if p.members == 1), key=lambda p: -metric.better_by(p.value, 0.0))
    permuted = next((point for point in networks if point.method == "permuted"), None)
    if permuted is None:
        return None
    most = permuted.cost(sharing) + 1e-6
    best = next((point for point in networks if point.match_at is None and point.cost(sharing) <= most), permuted)
    by = metric.better_by(best.value, permuted.value)
    return Rival(best, permuted, by, _paired(best.row, permuted.row, metric, confidence)) if by > 0 else None


def _paired(one: Row | Diversity, other: Row | Diversity, metric: Metric, confidence: float) -> PairedDifference | None:
    """Return how much better one row is, over the seeds that both have."""
    if not isinstance(one, Row) or not isinstance(other, Row):
        return None
    mine, theirs = one.by_seed, other.by_seed
    known = [metric.better_by(value, theirs[seed]) for seed, value in mine.items() if seed in theirs]
    return paired_difference(known, [0.0] * len(known), confidence) if len(known) > 1 else None


# ---------------------------------------------------------------- tables


def epochs(value: float | None) -> str:
    """Return model-epochs as one reads them: with a decimal while they are few.

    >>> epochs(7.6667), epochs(1240.4)
    ('7.7', '1,240')
    """
    return number(value, 1) if value is None or value < 100 else f"{value:,.0f}"


def front_tables(results: Results) -> dict[str, Table]:
    """Return the table of every network and ensemble with its cost, where costs are known."""
    points = points_of(results)
    return {"front": Table.of("front", points, _columns(MetricWords.of(results)))} if points else {}


def front_table(points: Sequence[Point], words: MetricWords) -> Table:
    """Return the table of one setting, which says where each point is on the front.

    Args:
        points: of the setting.
        words: of the run's metric.
    """
    fronts = {m: {id(point) for point in on_front(points, m, words.metric)} for m in sharing_of(points)}

    def places(point: Point) -> str:
        return ", ".join(f"{m}" for m, front in fronts.items() if id(point) in front) or "–"

    on = Column("on the front, m", places, lambda point: {"front": places(point)})
    hidden = (SPARSITY, PLACE[2])  # the caption says them
    columns = (one for one in _columns(words) if one not in hidden)
    return Table.of("front_shown", points, (*columns, on))


def _columns(words: MetricWords) -> tuple[Column, ...]:
    shown = partial(words.plus_minus, more=1)
    return (
        METHOD,
        SPARSITY,
        *PLACE[2:],
        column("kind", "of"),
        Column(words.heading, lambda p: shown(p.stat), lambda p: {"mean": p.stat.mean, "sd": p.stat.sd}),
        N,
        column("own_epochs", "own", epochs),
        column("shared_epochs", "shared", epochs),
        *(_each(sharing) for sharing in SHARING),
    )


def _each(sharing: int) -> Column:
    return replace(
        Column(
            f"m = {sharing}",
            lambda point: epochs(point.cost(sharing)),
            lambda point: {f"epochs_{sharing}": point.cost(sharing)},
        ),
        shown=lambda points: sharing in sharing_of(points),
    )


def plain_accuracy(point: Point, words: MetricWords) -> str:
    """Return a point's accuracy with its spread, "93.1 ± 0.2 (n = 5)"."""
    return f"{plus_minus(point.stat, words.digits)} (n = {point.n})"
