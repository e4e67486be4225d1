"""Criteria of pruning: each gives every weight a score, and the largest scores are kept.

A criterion is a function under `@criterion(...)`. It asks for what it looks at by naming it: `weights`, those that are
pruned by name, 0 where they are pruned already, and `model`, which computes with exactly these while the criterion
runs. What stands after a `*` are its options, which `prune` takes by keyword.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.objectives import Function, Measure, Objective, objective_for, objective_of
from reticket.options import Options
from reticket.registry import Registry, first_line
from reticket.rng import as_generator
from reticket.tickets.gradients import curvature, gradients, linear_flow, weights_set
from reticket.types import StateDict

GIVEN = ("model", "weights")
Weights = Mapping[str, Tensor]
Loss = Objective | Measure | Function | str | None
"""An objective by name, or a function of model and batch; None for what the first batch is made for."""


@dataclass(frozen=True)
class Criterion:
    """A criterion by name, before it has weights to score.

    Args:
        name: what users write.
        function: from what it names of `GIVEN` and its options to a score for each weight.
        uses: what it is given, names of `GIVEN`.
        options: its own settings.
        rounds: in how many steps its authors prune.
        description: one line.
    """

    name: str
    function: Callable[..., Weights]
    uses: tuple[str, ...]
    options: Options
    rounds: int
    description: str

    @classmethod
    def of(cls, name: str, function: Callable[..., Weights], rounds: int = 1) -> "Criterion":
        """Read from a signature what a criterion looks at and which options it has.

        Args:
            name: what users write.
            function: the criterion.
            rounds: in how many steps it prunes by default.

        Raises:
            MaskError: for a parameter that is neither given nor an option.
        """
        signature = inspect.signature(function)
        own = {key: one for key, one in signature.parameters.items() if key not in GIVEN}
        odd = [key for key, one in own.items() if one.kind is not one.KEYWORD_ONLY]
        if odd:
            raise MaskError(
                f"criterion '{name}' has the parameters {signature}; it gets model and weights where it names them, "
                f"and options, which stand after a *"
            )
        uses = tuple(key for key in signature.parameters if key in GIVEN)
        options = Options(f"criterion '{name}'", own, MaskError)
        return cls(name, function, uses, options, rounds, first_line(function))

    def scores(self, model: nn.Module | StateDict, weights: Weights, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return a finite score for each weight, on the CPU; the model is left as it was.

        Args:
            model: a module, or weights by name where the criterion looks at nothing else.
            weights: those that are pruned, 0 where they are pruned already.
            options: the criterion's own, by name.

        Raises:
            MaskError: when the criterion needs a module, an option is missing or unknown, or a score is not finite.
        """
        self.options.check(options)
        missing = [f"{key}=" for key, one in self.options.items() if one.default is one.empty and key not in options]
        if missing:
            raise MaskError(f"criterion '{self.name}' needs {' and '.join(missing)}; give them by keyword")
        if "model" not in self.uses:
            return self._checked(weights, self.function(weights, **options))
        if not isinstance(model, nn.Module):
            raise MaskError(f"criterion '{self.name}' looks at the model itself, weights by name were given; give it")
        with weights_set(model, weights):
            given = {"model": model, "weights": weights}
            return self._checked(weights, self.function(**{key: given[key] for key in self.uses}, **options))

    def _checked(self, weights: Weights, scores: Weights) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, weight in weights.items():
            score = scores.get(name)
            if score is None or score.shape != weight.shape:
                seen = "none" if score is None else f"one of shape {tuple(score.shape)}"
                raise MaskError(
                    f"criterion '{self.name}' gives '{name}' {seen}, expected a score for each of its "
                    f"{tuple(weight.shape)} weights"
                )
            if bad := int((~torch.isfinite(score)).sum()):
                raise MaskError(
                    f"criterion '{self.name}' gives '{name}' {bad} NaN or infinite scores, which have no rank"
                )
            score = score.detach().cpu()
            found[name] = score if score.dtype == torch.float64 else score.float()
        return found


CRITERIA = Registry[Criterion]("criterion", "reticket.criteria", MaskError, says=lambda one: one.description)
Scoring = TypeVar("Scoring", bound=Callable[..., Weights])


def criterion(name: str, *, rounds: int = 1) -> Callable[[Scoring], Scoring]:
    """Register a function as a criterion; its signature says what it looks at and which options it has.

    Args:
        name: what users write.
        rounds: in how many steps it prunes where nobody says.

    Raises:
        MaskError: when the name is taken, or a parameter is neither `model`, `weights` nor an option after a `*`.
    """

    def register(function: Scoring) -> Scoring:
        CRITERIA.add(name, Criterion.of(name, function, rounds))
        return function

    return register


def criterion_of(given: str | Callable[..., Weights]) -> Criterion:
    """Return a criterion by name, or that which a function is.

    Raises:
        MaskError: when there is none of this name, with the nearest one.
    """
    if isinstance(given, str):
        return CRITERIA.named(given)
    return Criterion.of(getattr(given, "__name__", "of your own"), given)


@criterion("magnitude")
def magnitude(weights: Weights) -> Weights:
    """|w|: the largest weights are kept (Han et al. 2015, arXiv 1506.02626)."""
    return {name: weight.abs() for name, weight in weights.items()}


@criterion("random")
def random(weights: Weights, *, generator: torch.Generator | int) -> Weights:
    """A number drawn uniformly, whatever the weight: the control of every criterion."""
    generator = as_generator(generator, "scores")
    return {
        name: torch.rand(weight.shape, generator=generator, device="cpu", dtype=torch.float64)
        for name, weight in weights.items()
    }


@criterion("snip")
def snip(model: nn.Module, weights: Weights, *, batches: Iterable[Any], loss: Loss = None) -> Weights:
    """|w g|, g the gradient of the mean loss: connection sensitivity (SNIP, Lee et al. 2019, arXiv 1810.02340).

    The paper divides by the sum over all weights, which changes no rank, and takes one batch of training examples and
    an untrained network; with several batches g is the mean of their gradients.
    """
    objective, given = _judged(loss, batches)
    total = _mean(gradients(model, weights, objective, batch) for batch in given)
    return {name: (weight * total[name]).abs() for name, weight in weights.items()}


@criterion("gradient-times-weight")
def gradient_times_weight(model: nn.Module, weights: Weights, *, batches: Iterable[Any], loss: Loss = None) -> Weights:
    """(w g)^2, mean over batches: the change of the loss to first order without the weight (Molchanov et al. 2019).

    arXiv 1906.10771, their first-order importance. Other than in "snip" the gradients of two batches do not cancel.
    """
    objective, given = _judged(loss, batches)
    found = (gradients(model, weights, objective, batch) for batch in given)
    return _mean({name: (weights[name] * slope).square() for name, slope in slopes.items()} for slopes in found)


@criterion("grasp")
def grasp(model: nn.Module, weights: Weights, *, batches: Iterable[Any], loss: Loss = None) -> Weights:
    """w H g: what removing a weight takes from the gradient's flow (GraSP, Wang et al. 2020, arXiv 2002.07376).

    H is the Hessian and g the gradient of the mean loss, both by the weights that are pruned. The paper's score is
    -w H g, of which it removes the largest; it divides logits by a temperature of 200, which is the caller's to do in
    `loss`.
    """
    objective, given = _judged(loss, batches)
    slopes = _mean(gradients(model, weights, objective, batch) for batch in given)
    bent = _mean(curvature(model, weights, objective, batch, slopes) for batch in given)
    return {name: weight * bent[name] for name, weight in weights.items()}


@criterion("synflow", rounds=100)
def synflow(model: nn.Module, weights: Weights, *, example_inputs: Any) -> Weights:
    """|w| dR/d|w|, R the sum of outputs for ones with all weights positive: no data (SynFlow, Tanaka et al. 2020).

    arXiv 2006.05467, in float64 and evaluation mode as its authors compute it. Of the example inputs only
    the form is used: floating-point ones become ones, ids and masks stay. Biases and buffers are made positive too.
    """
    slopes = linear_flow(model, weights, example_inputs)
    return {name: weights[name].abs().double() * slope for name, slope in slopes.items()}


@criterion("movement")
def movement(weights: Weights, *, movement: Weights) -> Weights:
    """-sum_t w_t g_t over the steps of a training: weights that move away from 0 are kept (Sanh et al. 2020).

    The accumulated scores of arXiv 2005.07683 but for their learning rate, which changes no rank. `movement` holds
    these sums by name, as `Movement` gathers them along training. In the paper masked weights go on to gather, by the
    gradient of their scores; here what is pruned stays pruned.
    """
    return {name: movement[name] for name in weights if name in movement}


def _judged(loss: Loss, batches: Iterable[Any]) -> tuple[Objective, list[Any]]:
    """Return what the loss is, and the batches on which it is taken."""
    given = list(batches)
    if not given:
        raise MaskError("batches holds no batch, expected at least one on which the loss is taken")
    return objective_for(given[0]) if loss is None else objective_of(loss), given


def _mean(found: Iterable[Weights]) -> dict[str, Tensor]:
    """Return the mean of scores by name."""
    total: dict[str, Tensor] = {}
    count = 0
    for scores in found:
        count += 1
        total = {name: total[name] + score if name in total else score for name, score in scores.items()}
    return {name: score / count for name, score in total.items()}
