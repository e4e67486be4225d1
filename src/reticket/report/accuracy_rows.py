"""The cells of the accuracy table: which there are, and the one of a method at a place."""

from collections.abc import Sequence

from reticket.tasks.results import Results
from reticket.tasks.rows import Row


def accuracy_rows(results: Results) -> list[Row]:
    """Return the rows that hold test accuracy, or what else the networks of the run are judged by."""
    metric = results.experiment.metric.name
    return [row for row in results.rows if row.metric == metric and row.mean is not None]


def sparsities(rows: Sequence[Row]) -> list[float]:
    """Return the nominal sparsities above 0, ascending."""
    return sorted({row.sparsity for row in rows if row.sparsity > 0})


def at(rows: Sequence[Row], method: str, sparsity: float, rewind: str | None) -> Row | None:
    """Return a method's row; without a rewind it stands for every rewind point, with sparsity 0 for every sparsity."""
    for row in rows:
        if row.method == method and row.sparsity in (sparsity, 0) and row.rewind in (rewind, None):
            return row
    return None
