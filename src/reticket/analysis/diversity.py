"""Diversity of an ensemble: how differently its members predict, and what that is worth."""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from reticket.analysis.classes import check_logits


@dataclass(frozen=True)
class Diversity:
    """Diversity of an ensemble; pairwise numbers are means over all pairs of members, None for a single member.

    Args:
        members: number of members.
        mean_accuracy: mean accuracy of the members, percent.
        ensemble_accuracy: accuracy of the mean of their softmax probabilities, percent.
        disagreement: fraction of examples on which two members predict different classes, in [0, 1].
        kl: Kullback-Leibler divergence, the mean of both directions, nats per example.
        js: Jensen-Shannon divergence (not its square root), nats per example, in [0, log 2].
    """

    members: int
    mean_accuracy: float
    ensemble_accuracy: float
    disagreement: float | None
    kl: float | None
    js: float | None


def diversity(logits: Float[Tensor, "members n classes"], labels: Int64[Tensor, " n"]) -> Diversity:
    """Measure the diversity of an ensemble on one set of examples, in float64.

    For probabilities p, q of two members on an example, and m = (p + q) / 2: KL is (KL(p|q) + KL(q|p)) / 2 and JS is
    (KL(p|m) + KL(q|m)) / 2, both averaged over examples and pairs.

    Args:
        logits: of each member on each example.
        labels: true classes.

    Raises:
        InputError: when logits are not finite or a label is no class.

    >>> two = torch.tensor([[[0.0, 0.0]], [[math.log(3.0), 0.0]]])
    >>> d = diversity(two, torch.tensor([0]))
    >>> round(d.kl, 4), round(d.js, 4)
    (0.1373, 0.0338)
    """
    check_logits(logits, labels)
    log_p = logits.double().log_softmax(-1)
    predicted = logits.argmax(-1)
    ensemble = log_p.logsumexp(0).argmax(-1)
    pairs = list(combinations(range(len(logits)), 2))
    differ = [(predicted[i] != predicted[j]).double().mean() for i, j in pairs]
    return Diversity(
        members=len(logits),
        mean_accuracy=100 * (predicted == labels).double().mean().item(),
        ensemble_accuracy=100 * (ensemble == labels).double().mean().item(),
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
