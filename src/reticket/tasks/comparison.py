"""Two runs side by side, cell by cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from reticket.analysis import is_settled, paired_difference, welch_interval
from reticket.records import Number, Stat
from reticket.tasks.rows import CellRecord, Row


class Comparison(CellRecord):
    """One metric of one cell in two runs."""

    metric: str = Field(description="'accuracy' (percent) or 'loss' (nats)")
    here: Stat | None = Field(description="in this run; null where it lacks the cell")
    there: Stat | None = Field(description="in the other run; null where it lacks the cell")
    difference: Number = Field(
        default=None, description="here less there, in the metric's unit: of the seeds paired, else of the two means"
    )
    low: Number = Field(
        default=None, description="lower bound of the difference, Student's t where paired, else Welch's"
    )
    high: Number = Field(default=None, description="upper bound of the difference")
    confidence: Number = Field(default=None, description="level of the bounds, in (0, 1)")
    n: int = Field(default=0, description="seeds that both runs have, by which they are paired; 0 where they are not")

    @property
    def same(self) -> bool:
        """Whether both runs have the cell with equal values, seed by seed."""
        return self.here is not None and self.there is not None and self.here.values == self.there.values

    @property
    def settled(self) -> bool:
        """Whether the interval lies on one side of 0, and not as a point of few seeds."""
        if self.low is None or self.high is None:
            return False
        return is_settled(self.n, self.low, self.high, self.confidence or 0.95)


def compare_rows(
    here: Sequence[Row], there: Sequence[Row], *, paired: bool = True, confidence: float = 0.95
) -> tuple[Comparison, ...]:
    """Return every cell of either table with both values, in the order of the first, then of the second.

    Args:
        here: rows of one run.
        there: rows of another.
        paired: whether equal seeds of the two belong together, as they do on the same data.
        confidence: of the intervals, in (0, 1).

    >>> row = Row(method="lth", sparsity=0.9, n=2, mean=97.0, values=(96.5, 97.5), seeds=(0, 1))
    >>> (found,) = compare_rows([row], [row.model_copy(update={"mean": 96.5, "values": (96.0, 97.0)})])
    >>> found.difference, (found.low, found.high), found.n, found.same
    (0.5, (0.5, 0.5), 2, False)
    """
    one, other = ({_row_key(row): row for row in rows} for rows in (here, there))
    return tuple(_compared(place, one.get(place), other.get(place), paired, confidence) for place in {**one, **other})


RowKey = tuple[str, float, str | None, str | None, str]


def _row_key(row: Row) -> RowKey:
    return row.method, row.sparsity, row.rewind, row.match_at, row.metric


def _compared(place: RowKey, here: Row | None, there: Row | None, paired: bool, confidence: float) -> Comparison:
    method, sparsity, rewind, match_at, metric = place
    return Comparison(
        method=method,
        sparsity=sparsity,
        rewind=rewind,
        match_at=match_at,
        metric=metric,
        here=_stat(here),
        there=_stat(there),
        **({} if here is None or there is None else _difference(here, there, paired, confidence)),
    )


def _stat(row: Row | None) -> Stat | None:
    return None if row is None else Stat(n=row.n, mean=row.mean, sd=row.sd, values=row.values)


def _difference(here: Row, there: Row, paired: bool, confidence: float) -> dict[str, Any]:
    """Return the difference of two cells with its bounds: by seed where at least two, or all, belong together."""
    one, other = _by_seed(here), _by_seed(there)
    both = [seed for seed in one if seed in other] if paired else []
    if len(both) > 1:
        found = paired_difference([one[seed] for seed in both], [other[seed] for seed in both], confidence)
        bounds = {"low": found.low, "high": found.high, "confidence": confidence}
        return {"difference": found.mean, "n": found.n, **bounds}
    alone = bool(both) and len(one) == len(other) == 1
    mean = None if here.mean is None or there.mean is None else here.mean - there.mean
    return {"difference": mean, "n": int(alone), **_unpaired_bounds(here, there, confidence)}


def _by_seed(row: Row) -> Mapping[int, float]:
    """Return the values by seed, none where it is not known whose they are."""
    if len(row.seeds) != len(row.values):
        return {}
    return {seed: value for seed, value in zip(row.seeds, row.values, strict=True) if value is not None}


def _unpaired_bounds(here: Row, there: Row, confidence: float) -> dict[str, float]:
    one, other = ([value for value in row.values if value is not None] for row in (here, there))
    if min(len(one), len(other)) < 2:
        return {}
    low, high = welch_interval(one, other, confidence)
    return {"low": low, "high": high, "confidence": confidence}
