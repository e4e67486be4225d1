"""What the networks of an experiment are judged by: the share of right classes, or the metric of its objective."""

from dataclasses import replace

from pydantic import Field

from reticket.data import DataSource
from reticket.objectives import OBJECTIVES, Measure, Objective, Prediction, Tally, objective_of
from reticket.records import Record


class Metric(Record):
    """What a run is judged by besides the loss, and in which units.

    >>> Metric().better_by(93.0, 92.0), Metric.of("regression").better_by(0.5, 0.75)
    (1.0, 0.25)
    """

    name: str = Field(default="accuracy", description="as rows of the table name it")
    unit: str = Field(default="%", description="of it; nothing where it has that of the labels")
    higher_is_better: bool = Field(default=True, description="whether it rises as a network gets better")
    loss_unit: str = Field(default="nats", description="of the loss")

    @classmethod
    def of(cls, objective: str) -> "Metric":
        """Return the metric of an objective whose labels are numbers: its loss where it has none.

        Args:
            objective: its name in the configuration.

        Raises:
            InputError: when there is no such objective.
        """
        found = objective_of(objective)
        if found.metric is None:
            return cls(name="loss", unit=found.loss.unit, higher_is_better=False, loss_unit=found.loss.unit)
        metric, loss_unit = found.metric, found.loss.unit
        return cls(name=metric.name, unit=metric.unit, higher_is_better=metric.higher_is_better, loss_unit=loss_unit)

    def better_by(self, one: float, other: float) -> float:
        """Return how much better one value is than another, in its unit; below 0 where it is worse."""
        return one - other if self.higher_is_better else other - one


def judged_by(dataset: DataSource, objective: str | None) -> Objective | None:
    """Return what networks are judged by; None for the share of right classes, where an input has one.

    Args:
        dataset: that they are judged on.
        objective: what a task's `spec` holds under "objective": the one that they are trained for, where labels are
            numbers.
    """
    if objective is not None:
        return objective_of(objective)
    return None if dataset.labels("test").dim() == 1 else TOKENS


def _right_tokens(seen: Prediction) -> Tally:
    assert NEXT_TOKEN.classes is not None
    logits, tokens = NEXT_TOKEN.classes(seen)
    return Tally(100.0 * (logits.argmax(dim=1) == tokens).sum(), logits.shape[0])


NEXT_TOKEN = OBJECTIVES["language-model"]
TOKENS = replace(NEXT_TOKEN, metric=Measure("accuracy", _right_tokens, unit="%", higher_is_better=True))
