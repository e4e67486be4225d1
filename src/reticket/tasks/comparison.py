"""Two runs side by side, cell by cell."""

from collections.abc import Sequence

from pydantic import Field

from reticket.records import Number, Stat
from reticket.tasks.rows import CellRecord, Row


class Comparison(CellRecord):
    """One metric of one cell in two runs."""

    metric: str = Field(description="'accuracy' (percent) or 'loss' (nats)")
    here: Stat | None = Field(description="in this run; null where it lacks the cell")
    there: Stat | None = Field(description="in the other run; null where it lacks the cell")
    difference: Number = Field(default=None, description="mean here less mean there, in the metric's unit")

    @property
    def same(self) -> bool:
        """Whether both runs have the cell with equal values, seed by seed."""
        return self.here is not None and self.there is not None and self.here.values == self.there.values


def compare_rows(here: Sequence[Row], there: Sequence[Row]) -> tuple[Comparison, ...]:
    """Return every cell of either table with both values, in the order of the first, then of the second.

    Args:
        here: rows of one run.
        there: rows of another.

    >>> row = Row(method="lth", sparsity=0.9, n=1, mean=97.0, values=(97.0,))
    >>> (found,) = compare_rows([row], [row.model_copy(update={"mean": 96.5, "values": (96.5,)})])
    >>> found.difference, found.same
    (0.5, False)
    """
    one, other = ({_row_key(row): row for row in rows} for rows in (here, there))
    return tuple(_compared(place, one.get(place), other.get(place)) for place in {**one, **other})


RowKey = tuple[str, float, str | None, str | None, str]


def _row_key(row: Row) -> RowKey:
    return row.method, row.sparsity, row.rewind, row.match_at, row.metric


def _compared(place: RowKey, here: Row | None, there: Row | None) -> Comparison:
    method, sparsity, rewind, match_at, metric = place
    one, other = (None if row is None else row.mean for row in (here, there))
    return Comparison(
        method=method,
        sparsity=sparsity,
        rewind=rewind,
        match_at=match_at,
        metric=metric,
        here=_stat(here),
        there=_stat(there),
        difference=None if one is None or other is None else one - other,
    )


def _stat(row: Row | None) -> Stat | None:
    return None if row is None else Stat(n=row.n, mean=row.mean, sd=row.sd, values=row.values)
