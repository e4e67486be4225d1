"""The results of an experiment as checks and tables read them: each read once from the store, or absent."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from reticket.analysis import Stat as Measurement
from reticket.analysis import per_class_accuracy
from reticket.experiment import DamagedResult, MissingResult, Result, Store, Task
from reticket.records import Stat
from reticket.tasks.cells import Cell, Runs


class Stored:
    """The results of an experiment, read once from the store.

    Args:
        plan: the cells of the table.
        store: where the results are; what failed is absent and left out of the rows.
        planned: keys of the tasks of this experiment; a store may be shared, and what else it holds decides nothing.
        labels: classes of the test images, shape `(n,)`, or the numbers that are to be predicted.
    """

    def __init__(self, plan: Runs, store: Store, planned: frozenset[str], labels: Shaped[Tensor, " n"]) -> None:
        self.plan = plan
        self.labels = labels
        self.damaged: dict[str, str] = {}
        self._store = store
        self._planned = planned
        self._seen: dict[str, Result | None] = {}
        self._predictions: dict[str, Tensor] = {}

    def get(self, task: Task) -> Result | None:
        """Return the result of a task, or None where there is none."""
        if task.key not in self._planned:
            return None
        if task.key not in self._seen:
            try:
                self._seen[task.key] = self._store.get(task.key)
            except MissingResult as error:
                self._seen[task.key] = None
                if isinstance(error, DamagedResult):
                    self.damaged[task.key] = str(error)
        return self._seen[task.key]

    @property
    def read(self) -> list[Result]:
        """The results that were read so far."""
        return [result for result in self._seen.values() if result is not None]

    def present(self, tasks: Iterable[Task]) -> list[Result]:
        """Return the results that are there."""
        return [result for task in tasks if (result := self.get(task)) is not None]

    def cells(self) -> list[tuple[Cell, list[Result]]]:
        """Return the cells of the table that have results, with them."""
        found = [(cell, self.present(tasks)) for cell, tasks in self.plan.runs.items()]
        return [(cell, results) for cell, results in found if results]

    def paired(self, *columns: Sequence[Task]) -> list[tuple[Result, ...]]:
        """Return the results of the seeds that all columns have."""
        trials = [[self.get(task) for task in trial] for trial in zip(*columns, strict=False)]
        return [tuple(filter(None, trial)) for trial in trials if None not in trial]

    def by_class(self, task: Task) -> tuple[float | None, ...] | None:
        """Return a network's accuracy on each class of the test images (percent), or None without a result."""
        result = self.get(task)
        return None if result is None else per_class_accuracy(result.tensors["logits"], self.labels)

    def predicted(self, tasks: Iterable[Task]) -> Int64[Tensor, "networks n"] | None:
        """Return the predictions of the networks that are there, or None where none is."""
        found = [self._prediction(result) for result in self.present(tasks)]
        return torch.stack(found) if found else None

    def _prediction(self, result: Result) -> Tensor:
        """Return (n,) predictions, kept because a dense network stands beside every cell."""
        if result.key not in self._predictions:
            self._predictions[result.key] = result.tensors["logits"].argmax(-1)
        return self._predictions[result.key]


def stat_of(values: Sequence[float]) -> Stat:
    """Return mean and spread of some values, as rows of results hold them; of no values where there are none."""
    return Stat(**Measurement.of(values).as_dict()) if values else Stat()


def place_of(cell: Cell) -> dict[str, Any]:
    """Return where a cell stands, as rows of results name it."""
    return {
        "method": cell.method,
        "sparsity": 0.0 if cell.sparsity is None else cell.sparsity,
        "rewind": cell.rewind,
        "match_at": cell.match_at,
    }
