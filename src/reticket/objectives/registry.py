"""Objectives and metrics by name, and what `loss=` and `metric=` stand for."""

import inspect
from collections.abc import Mapping
from dataclasses import replace

from reticket.errors import InputError
from reticket.lookup import imported
from reticket.objectives.measures import Function, Measure, Objective, as_measure
from reticket.objectives.prediction import labels_of
from reticket.registry import Registry

OBJECTIVES = Registry[Objective](
    "objective", "reticket.objectives", InputError, says=lambda one: one.description, importable=True
)
METRICS = Registry[Measure]("metric", "reticket.metrics", InputError, says=lambda one: one.description, importable=True)


def objective_of(
    loss: "Objective | Measure | Function | str", metric: "Measure | Function | str | None" = None
) -> Objective:
    """Return the objective that `loss=` and `metric=` stand for.

    Args:
        loss: the name of an objective, `package.module:function`, an `Objective`, or a function of model and batch.
        metric: the name of a metric, a function of model and batch, or None for that of the objective.

    Raises:
        InputError: for an unknown name, with the nearest one, or a value of another kind.

    >>> objective_of("regression").metric.name, objective_of("classification", "perplexity").metric.name
    ('root-mean-squared-error', 'perplexity')
    >>> objective_of("ow")
    Traceback (most recent call last):
    reticket.errors.InputError: unknown objective 'ow', did you mean 'own'?; known are classification, ...
    """
    found = _named_objective(loss) if isinstance(loss, str) else loss
    if not isinstance(found, Objective):
        measure = as_measure(found, "loss")
        found = Objective(measure.name, measure)
    return found if metric is None else replace(found, metric=_named_metric(metric))


def chosen_objective(
    loss: "Objective | Measure | Function | str | None", metric: "Measure | Function | str | None"
) -> Objective | None:
    """Return the objective that was asked for, None where neither was: the first batch then decides.

    Args:
        loss: as `objective_of` takes it, or None.
        metric: as `objective_of` takes it.

    Raises:
        InputError: as `objective_of`, or for a metric without a loss.
    """
    if loss is None and metric is not None:
        raise InputError("a metric stands beside a loss; say which with loss=, as loss='classification' or loss='own'")
    return None if loss is None else objective_of(loss, metric)


def objective_for(batch: object) -> Objective:
    """Return the objective that a batch is made for, where none was named.

    A pair of inputs and labels is for classification; a mapping for the model's own loss, beside it the accuracy where
    there is one whole number for each example, and the perplexity where there is one for each token.

    Args:
        batch: the first one.
    """
    if not isinstance(batch, Mapping):
        return OBJECTIVES["classification"]
    labels = labels_of(batch)
    if labels is None or labels.is_floating_point() or labels.dim() not in (1, 2):
        return OBJECTIVES["own"]
    return replace(OBJECTIVES["own"], metric=METRICS["accuracy" if labels.dim() == 1 else "perplexity"])


def _named_objective(name: str) -> object:
    if ":" not in name:
        return OBJECTIVES.named(name)
    found = imported(name, "objective", InputError)
    return found() if inspect.isclass(found) else found


def _named_metric(metric: object) -> Measure:
    if isinstance(metric, str):
        metric = imported(metric, "metric", InputError) if ":" in metric else METRICS.named(metric)
    return as_measure(metric, "metric")
