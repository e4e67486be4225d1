"""How a report calls and writes the metric of a run: percent and points of an accuracy, or the unit of the labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from reticket.figures import text
from reticket.figures.table import Table, file_name
from reticket.records import Stat
from reticket.report.accuracy_rows import accuracy_rows
from reticket.tasks.metric import Metric
from reticket.tasks.results import Results
from reticket.tasks.rows import Row

FIGURES = 3  # significant digits of what is no percentage


@dataclass(frozen=True)
class MetricWords:
    """A metric in words and numbers.

    Args:
        metric: what it is.
        digits: decimals of a value of the table.
    """

    metric: Metric = field(default_factory=Metric)
    digits: int = 1

    @classmethod
    def of(cls, results: Results) -> "MetricWords":
        """Return those of a run, with as many decimals as its values need."""
        metric = results.experiment.metric
        largest = max((abs(row.mean) for row in accuracy_rows(results) if row.mean), default=0.0)
        if metric.unit == "%" or not largest:
            return cls(metric)
        return cls(metric, max(0, FIGURES - 1 - math.floor(math.log10(largest))))

    @property
    def name(self) -> str:
        """The metric, "accuracy"."""
        return self.metric.name

    @property
    def heading(self) -> str:
        """The metric with its unit, "test accuracy (%)"."""
        return f"test {self.name}{f' ({self.metric.unit})' if self.metric.unit else ''}"

    @property
    def unit(self) -> str:
        """What follows a value in a sentence: a percent sign, or a unit."""
        return text.PERCENT if self.metric.unit == "%" else self.metric.unit and f" {self.metric.unit}"

    @property
    def points(self) -> str:
        """What follows a difference in a sentence, " points"."""
        return " points" if self.metric.unit == "%" else self.unit

    def of_accuracy(self, words: str) -> str:
        """Return a title, or the name of a table, with this metric in place of an accuracy."""
        return words.replace("Accuracy", self.name.capitalize()).replace("accuracy", file_name(self.name))

    @property
    def differences(self) -> str:
        """What differences are counted in, "points of accuracy"."""
        return f"points of {self.name}" if self.metric.unit == "%" else self.name

    @property
    def steps(self) -> str:
        """What an axis of differences is called, "points"."""
        return "points" if self.metric.unit == "%" else self.name

    def number(self, value: float | None, more: int = 0, sign: bool = False) -> str:
        """Return a value or a difference.

        Args:
            value: in the metric's unit.
            more: decimals besides those of the table.
            sign: whether a plus is written.
        """
        return text.number(value, self.digits + more, sign)

    def plus_minus(self, stat: Stat, more: int = 0) -> str:
        """Return mean ± sd."""
        return text.plus_minus(stat, self.digits + more)

    def best(self, rows: Sequence[Row]) -> Row:
        """Return the row with the best mean."""
        return max(rows, key=lambda row: self.metric.better_by(row.mean or 0.0, 0.0))

    def in_heads(self, table: Table) -> Table:
        """Return a table whose heads call points and nats what they are in this run."""
        units = {"points": self.points.strip(), "nats": self.metric.loss_unit}
        return table.with_units({seen: unit for seen, unit in units.items() if seen != unit})
