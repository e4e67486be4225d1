"""Diversity of an ensemble: how differently its members predict, and what that is worth."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import overload

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from reticket.analysis.classes import check_logits
from reticket.errors import InputError
from reticket.forward import evaluating, judged, modules_of
from reticket.nested import checked_batches
from reticket.objectives import Function, Measure, Objective, Prediction, Tally, chosen_objective, objective_for
from reticket.weights import Weights


@dataclass(frozen=True)
class Diversity:
    """Diversity of an ensemble; pairwise numbers are means over all pairs of members, None for a single member.

    Args:
        members: number of members.
        mean_accuracy: mean accuracy of the members, percent; None where the right classes are not known.
        ensemble_accuracy: accuracy of the mean of their softmax probabilities, percent; None likewise.
        disagreement: fraction of examples on which two members predict different classes, in [0, 1].
        kl: Kullback-Leibler divergence, the mean of both directions, nats per example.
        js: Jensen-Shannon divergence (not its square root), nats per example, in [0, log 2].
    """

    members: int
    mean_accuracy: float | None
    ensemble_accuracy: float | None
    disagreement: float | None
    kl: float | None
    js: float | None


@dataclass(frozen=True)
class JudgedDiversity(Diversity):
    """Diversity of networks, with what they were judged by.

    Args:
        loss: the mean loss of the members.
        metric: the mean of the members' metrics; None where there is none.
        metric_name: what it is; "" where there is none.
    """

    loss: float
    metric: float | None
    metric_name: str


@overload
def diversity(logits: Float[Tensor, "members n classes"], labels: Int64[Tensor, " n"], /) -> Diversity: ...
@overload
def diversity(
    networks: Sequence[Weights],
    batches: Iterable[object],
    /,
    *,
    loss: Objective | Measure | Function | str | None = None,
    metric: Measure | Function | str | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> JudgedDiversity: ...
def diversity(
    members: Tensor | Sequence[Weights],
    examples: Tensor | Iterable[object],
    /,
    *,
    loss: Objective | Measure | Function | str | None = None,
    metric: Measure | Function | str | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> Diversity:
    """Measure the diversity of an ensemble on one set of examples, in float64.

    For probabilities p, q of two members on an example, and m = (p + q) / 2: KL is (KL(p|q) + KL(q|p)) / 2 and JS is
    (KL(p|m) + KL(q|m)) / 2, both averaged over examples and pairs. In a text every token is an example, in a segmented
    image every pixel.

    Args:
        members: logits of each member on each example, of shape (members, n, classes); or the networks, at least one of
            them a module, the others modules or state_dicts.
        examples: for logits the true classes, of shape (n,); for networks batches, each of which every network sees
            once, in evaluation mode; they are left as they were.
        loss: for networks, what they are judged by, as `barrier` takes it. A function of model and batch tells no
            classes apart: accuracies, disagreement, KL and JS are None then, as they are for regression.
        metric: a metric in place of the loss's own, as `barrier` takes it.
        to_inputs: what of a batch a network takes, in place of its first element.

    Raises:
        InputError: when logits are not finite or a label is no class, networks or batches are of a wrong kind or there
            are none.
        ModelError: when a network cannot take a batch.

    >>> two = torch.tensor([[[0.0, 0.0]], [[math.log(3.0), 0.0]]])
    >>> d = diversity(two, torch.tensor([0]))
    >>> round(d.kl, 4), round(d.js, 4)
    (0.1373, 0.0338)
    """
    if isinstance(members, Tensor):
        if not isinstance(examples, Tensor) or (loss, metric, to_inputs) != (None, None, None):
            raise InputError(
                "diversity of logits takes their labels, a tensor, and nothing else; give networks and batches to "
                "judge by a loss"
            )
        check_logits(members, examples)
        return _diversity(members, examples)
    return _of_networks(members, examples, chosen_objective(loss, metric), to_inputs)


def _of_networks(
    members: Sequence[Weights],
    batches: Iterable[object],
    objective: Objective | None,
    to_inputs: Callable[[object], object] | None,
) -> JudgedDiversity:
    if isinstance(members, nn.Module | Mapping | str):
        raise InputError(f"members is one {type(members).__name__}, but several networks were expected, as [a, b]")
    networks = {f"members[{number}]": one for number, one in enumerate(members)}
    if not networks:
        raise InputError("diversity got no networks: give at least one")
    models = modules_of(networks)
    sums: list[_Sums] = []
    with evaluating(*models):
        for batch in checked_batches(batches, "diversity"):
            objective = objective or objective_for(batch)
            sums.append(_Sums.of([judged(model, batch, _look(objective), to_inputs) for model in models]))
    if objective is None or not sums:
        raise InputError("diversity got no batches: give at least one batch of (inputs, labels)")
    return _judged(objective, sums, len(models))


@dataclass(frozen=True)
class _Seen:
    """One member's loss, metric, and where classes are told apart its logits and the right classes, of a batch."""

    tallies: tuple[Tally, Tally | None]
    logits: Tensor | None
    labels: Tensor | None


def _look(objective: Objective) -> Callable[[Prediction], _Seen]:
    def look(seen: Prediction) -> _Seen:
        loss, metric = objective.tallies(seen)
        logits, labels = (None, None) if objective.classes is None else objective.classes(seen)
        cpu = [None if tensor is None else tensor.cpu() for tensor in (logits, labels)]
        return _Seen((loss.kept(), metric.kept() if metric is not None else None), *cpu)

    return look


@dataclass(frozen=True)
class _Sums:
    """What a batch says of all members: their tallies, and the diversity on its examples."""

    tallies: list[tuple[Tally, Tally | None]]
    diversity: Diversity | None
    items: int

    @classmethod
    def of(cls, seen: Sequence[_Seen]) -> "_Sums":
        """Return what the members' views of one batch say."""
        tallies, logits = [one.tallies for one in seen], [one.logits for one in seen if one.logits is not None]
        if not logits or not len(logits[0]):
            return cls(tallies, None, 0)
        stacked, labels = torch.stack(logits), seen[0].labels
        if labels is not None:
            check_logits(stacked, labels)
        return cls(tallies, _diversity(stacked, labels), stacked.shape[1])


def _judged(objective: Objective, sums: Sequence[_Sums], members: int) -> JudgedDiversity:
    losses, metrics = [], []
    for member in range(members):
        of_member = [one.tallies[member] for one in sums]
        losses.append(objective.loss.number(_sum([loss for loss, _ in of_member])))
        if objective.metric is not None:
            metrics.append(objective.metric.number(_sum([metric for _, metric in of_member if metric is not None])))
    parts = [(one.items, one.diversity) for one in sums if one.diversity is not None]

    def weighted(name: str) -> float | None:
        values = [(items, getattr(part, name)) for items, part in parts]
        if not values or any(value is None for _, value in values):
            return None
        return sum(items * value for items, value in values) / sum(items for items, _ in values)

    return JudgedDiversity(
        members,
        *(weighted(name) for name in ("mean_accuracy", "ensemble_accuracy", "disagreement", "kl", "js")),
        loss=sum(losses) / members,
        metric=sum(metrics) / members if metrics else None,
        metric_name=objective.metric.name if objective.metric is not None else "",
    )


def _sum(tallies: Sequence[Tally]) -> Tally:
    total = tallies[0]
    for tally in tallies[1:]:
        total = total + tally
    return total


def _diversity(logits: Float[Tensor, "members n classes"], labels: Int64[Tensor, " n"] | None) -> Diversity:
    log_p = logits.double().log_softmax(-1)
    predicted = logits.argmax(-1)
    ensemble = log_p.logsumexp(0).argmax(-1)
    pairs = list(combinations(range(len(logits)), 2))
    differ = [(predicted[i] != predicted[j]).double().mean() for i, j in pairs]
    return Diversity(
        members=len(logits),
        mean_accuracy=None if labels is None else 100 * (predicted == labels).double().mean().item(),
        ensemble_accuracy=None if labels is None else 100 * (ensemble == labels).double().mean().item(),
        disagreement=_mean(differ),
        kl=_mean([(_kl(log_p[i], log_p[j]) + _kl(log_p[j], log_p[i])) / 2 for i, j in pairs]),
        js=_mean([_js(log_p[i], log_p[j]) for i, j in pairs]),
    )


def _kl(log_p: Float[Tensor, "n classes"], log_q: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def _js(log_p: Float[Tensor, "n classes"], log_q: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2


def _mean(values: list[Float[Tensor, ""]]) -> float | None:
    return torch.stack(values).mean().item() if values else None
