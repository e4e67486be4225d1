"""Losses and metrics as values, and the objective that two of them make; functions of the user's are adapted once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from reticket.errors import InputError
from reticket.nested import examples_in
from reticket.objectives.prediction import Prediction, Tally

Function: TypeAlias = Callable[[nn.Module, Any], Tensor | float]  # of a model and a batch


@dataclass(frozen=True)
class Measure:
    """A number that says how a model does on batches: a loss or a metric.

    Args:
        name: what curves, tables and errors call it.
        tally: what a prediction adds; None for one that is read off the sum of the loss, as perplexity.
        number: from the sum over all batches to the number.
        unit: of the number, "" for none.
        higher_is_better: whether it rises as the model gets better.
        description: one line for a listing.
    """

    name: str
    tally: Callable[[Prediction], Tally] | None
    number: Callable[[Tally], float] = lambda tally: float(tally.mean)
    unit: str = ""
    higher_is_better: bool = False
    description: str = ""

    @classmethod
    def of(cls, function: Function, *, higher_is_better: bool = False) -> "Measure":
        """Adapt a function of model and batch.

        Args:
            function: returns the mean over the examples of the batch, or a tensor with one number for each item.
            higher_is_better: whether it rises as the model gets better.

        >>> wrong = Measure.of(lambda model, batch: (model(batch[0]) - batch[1]).abs())
        >>> wrong.tally(Prediction(nn.Identity(), (torch.ones(2, 3), torch.zeros(2, 3)))).mean
        tensor(1.)
        """
        name = getattr(function, "__name__", type(function).__name__)

        def tally(seen: Prediction) -> Tally:
            return _tallied(function(seen.model, seen.batch), seen.batch, name)

        return cls(name, tally, higher_is_better=higher_is_better)


@dataclass(frozen=True)
class Objective:
    """A loss and, perhaps, a metric beside it. Called with a model and a batch it gives the loss, with its gradient.

    `objective_of` makes one of functions of model and batch.

    Args:
        name: what a configuration calls it.
        loss: what is minimised.
        metric: what is reported beside it; None for the loss alone.
        description: one line for a listing.
        classes: for an objective that tells classes apart, from a prediction to logits of shape (n, classes), one row
            an item, and the n right classes, or None where these are not known.

    Raises:
        InputError: when the loss is to be read off a loss.

    >>> off = Measure.of(lambda model, batch: (model(batch[0]) - batch[1]).square().mean())
    >>> Objective("squared", off)(nn.Identity(), (torch.ones(2, 3), torch.zeros(2, 3)))
    tensor(1.)
    """

    name: str
    loss: Measure
    metric: Measure | None = None
    description: str = ""
    classes: Callable[[Prediction], tuple[Tensor, Tensor | None]] | None = None

    def __post_init__(self) -> None:
        if self.loss.tally is None:
            raise InputError(f"'{self.loss.name}' is read off a loss and cannot be the loss itself; give it as metric=")

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss over the items of a batch, with its gradient.

        Args:
            model: in the mode and on the device that it is to run in.
            batch: on the model's device.

        Raises:
            InputError: when the batch or what the model gives for it does not fit the objective.
        """
        return self.tallies(Prediction(model, batch))[0].mean

    def tallies(self, seen: Prediction) -> tuple[Tally, Tally | None]:
        """Return what a prediction adds to the loss and to the metric; the model runs once for both.

        Args:
            seen: what the model gives for a batch.

        Raises:
            InputError: when the batch or what the model gives for it does not fit the objective.
        """
        assert self.loss.tally is not None
        loss = self.loss.tally(seen)
        if self.metric is None:
            return loss, None
        return loss, loss if self.metric.tally is None else self.metric.tally(seen)


def as_measure(value: object, what: str) -> Measure:
    """Return a measure as it is, and a function of model and batch as one.

    Args:
        value: either.
        what: "loss" or "metric", for errors; a metric of the user's is taken to be better where higher.

    Raises:
        InputError: for a value of another kind.
    """
    if isinstance(value, Measure):
        return value
    if callable(value):
        return Measure.of(cast("Function", value), higher_is_better=what == "metric")
    raise InputError(
        f"{what}= got a {type(value).__name__}, but the name of one or a function of model and batch was expected"
    )


def _tallied(value: object, batch: object, name: str) -> Tally:
    """Return what a function of the user's says of a batch: of one number, that it is the mean over the examples."""
    if isinstance(value, Tensor) and value.dim() > 0:
        return Tally(value.sum(), value.numel())
    if isinstance(value, Tensor | float | int):
        examples = examples_in(batch)
        return Tally(torch.as_tensor(value) * examples, examples)
    raise InputError(
        f"'{name}' returned a {type(value).__name__}, but a number was expected, or a tensor with one for each item"
    )
