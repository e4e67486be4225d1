"""From moments to permutations: similarity costs, their pooling over sites, the assignment and its quality."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from reticket.matching.moments import Moments, PairMoments
from reticket.types import Permutation


def correlation(moments: PairMoments) -> Float64[Tensor, "a b"]:
    """Return Pearson's correlation of every unit of A with every unit of B; 0 where either is constant (dead).

    `r_ij = cross_ij / sqrt(squares_a_i * squares_b_j)`, from which both means are taken off.
    """
    return (moments.cross * torch.outer(_inverse_scale(moments.a), _inverse_scale(moments.b))).clamp(-1, 1)


def covariance(moments: PairMoments) -> Float64[Tensor, "a b"]:
    """Return the covariance of every unit of A with every unit of B (in squared activation units)."""
    return moments.cross / max(moments.samples, 1)


def cosine(moments: PairMoments) -> Float64[Tensor, "a b"]:
    """Return the cosine of the uncentred activations of every pair of units; 0 where either is always 0."""
    n, a, b = moments.samples, moments.a, moments.b
    product = moments.cross + n * torch.outer(a.mean, b.mean)
    inverse = [torch.where(s > 0, s.rsqrt(), 0.0) for s in (m.squares + n * m.mean.square() for m in (a, b))]
    return (product * torch.outer(*inverse)).clamp(-1, 1)


COSTS: Mapping[str, Callable[[PairMoments], Tensor]] = MappingProxyType(
    {"correlation": correlation, "covariance": covariance, "cosine": cosine}
)


def _inverse_scale(moments: Moments) -> Float64[Tensor, " units"]:
    return torch.where(moments.constant, 0.0, moments.squares.rsqrt())


def pooled(cost: Callable[[PairMoments], Tensor], sites: list[PairMoments]) -> Float64[Tensor, "a b"]:
    """Return the mean over sites of the cost matrix of each.

    Matrices are averaged, not raw moments: the sites of a residual stream differ in mean and grow in scale, and pooled
    raw moments would count those differences as correlation and let the last block decide alone.
    """
    return torch.stack([cost(moments) for moments in sites]).mean(dim=0)


def assign(scores: Float64[Tensor, "n n"]) -> Permutation:
    """Return the permutation that carries A's units to B's order and maximises the matched scores.

    `index = argmax over permutations of sum_j scores[index[j], j]`, a linear assignment problem.

    Args:
        scores: similarity of A's unit (row) with B's unit (column).

    >>> assign(torch.tensor([[0.1, 0.9], [0.8, 0.2]], dtype=torch.float64)).index
    tensor([1, 0])
    """
    _, of_a = linear_sum_assignment(scores.T.cpu().numpy(), maximize=True)
    return Permutation(torch.as_tensor(of_a, device="cpu"))


def matched_and_margin(correlations: Float64[Tensor, "n n"], permutation: Permutation) -> tuple[float, float]:
    """Return the mean matched correlation, and by how much it beats the best other unit of A on average.

    The margin is the mean over B's units j of `r[index[j], j] - max over i != index[j] of r[i, j]`; it can be negative,
    since an assignment may give a unit less than its best partner. A single unit has no rival: its margin is 0.
    """
    correlations = correlations.cpu()
    own = correlations.gather(0, permutation.index[None])[0]
    if permutation.size == 1:
        return own.mean().item(), 0.0
    others = correlations.scatter(0, permutation.index[None], float("-inf")).max(dim=0).values
    return own.mean().item(), (own - others).mean().item()
