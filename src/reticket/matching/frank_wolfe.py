"""Matching by weights over all groups at once: the Frank-Wolfe algorithm over soft permutations.

The objective of matching by weights is a polynomial of the shares. Each step goes straight towards the permutations
that its gradient likes best, all groups together, and exactly as far as the objective rises.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from reticket.errors import InputError
from reticket.matching.descent import descended, total
from reticket.matching.forest import GroupForest, SimilarityScores, drawn
from reticket.matching.registry import matcher
from reticket.matching.slices import WeightSimilarity
from reticket.matching.soft import Soft, applied, barycentre, between, corner, degree, is_soft, nearest
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry
from reticket.symmetry.model_tensors import named_state

ENOUGH = 1e-6  # share of the objective that a step must add for another one to follow


@matcher("frank-wolfe")
def match_jointly(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    start: Alignment | None = None,
    *,
    iterations: int = 100,
    restarts: int = 0,
) -> Alignment:
    """Match units by their weights, all groups at once, by the Frank-Wolfe algorithm; looks at no data.

    `max over J of sum over tensors <J A, B>`, A and B without their units' scales, over doubly stochastic J (Vogelstein
    et al. 2015; Crisostomi et al. 2024, C2M3, for two networks), from their barycentre. The permutations nearest to the
    J found are a start for coordinate descent, which the published algorithm does not do. Each restart begins half way
    between the barycentre and permutations drawn at random; the best of all is kept.

    Args:
        models_a, models_b, sym, start: as `match` has them.
        iterations: steps from each start, at most.
        restarts: further starts.

    Returns:
        The alignment, with the quality of its weights.

    Raises:
        InputError: for numbers out of range.
    """
    if iterations < 1 or restarts < 0:
        raise InputError(f"iterations must be 1 or more and restarts 0 or more, got {iterations} and {restarts}")
    states = [(named_state(a), named_state(b)) for a, b in zip(models_a, models_b, strict=True)]
    similarity = WeightSimilarity.of_states(sym, states)
    middle = barycentre(sym)
    begins = [middle if start is None else corner(sym, start.permutations)]
    for number in range(restarts):
        other = drawn(sym, generator_for("matching by Frank-Wolfe", number))
        begins.append(between(middle, corner(sym, other.permutations), 0.5))
    found = [descended(similarity, nearest(sym, climbed(similarity, begin, iterations))) for begin in begins]
    best = max(found, key=lambda one: total(similarity, one))
    return Alignment(sym, best, similarity.quality(best))


def climbed(similarity: WeightSimilarity, start: Soft, iterations: int) -> Soft:
    """Return where the Frank-Wolfe algorithm ends.

    Args:
        similarity: what is raised.
        start: shares of every group.
        iterations: at most so many steps.
    """
    objective, soft = JointObjective(similarity), start
    for _ in range(iterations):
        soft, gain = objective.step(soft)
        if gain <= ENOUGH * abs(float(objective.value(soft))):
            break
    return soft


class JointObjective:
    """The similarity of weights as a function of soft permutations.

    Tensors that these do not move have no part in it.

    Args:
        similarity: that of permutations.
    """

    def __init__(self, similarity: WeightSimilarity) -> None:
        self.sym = sym = similarity.sym
        self.pairs = [
            (sym.layouts[name], a, b)
            for pair in similarity.pairs
            for name, (a, b) in pair.items()
            if is_soft(sym.layouts[name])
        ]
        self.degree = max((degree(layout) for layout, _, _ in self.pairs), default=0)

    def value(self, soft: Soft) -> Float64[Tensor, ""]:
        """Return `sum over tensors <J A, B>`."""
        parts = [(applied(a, layout, soft) * b).sum(dtype=torch.float64).cpu() for layout, a, b in self.pairs]
        return torch.stack([*parts, torch.zeros((), dtype=torch.float64, device="cpu")]).sum()

    def step(self, soft: Soft) -> tuple[Soft, float]:
        """Return the best point of the line to the corner that the gradient likes best, and what it adds."""
        if not self.degree:
            return soft, 0.0
        target = self.towards(soft)
        along = np.linspace(0, 1, self.degree + 1)
        values = [float(self.value(between(soft, target, float(at)))) for at in along]
        curve = np.polynomial.Polynomial(np.linalg.solve(np.vander(along, increasing=True), values))
        inner = [float(root.real) for root in curve.deriv().roots() if abs(root.imag) < 1e-9 and 0 < root.real < 1]
        best = max([0.0, 1.0, *inner], key=curve)
        return between(soft, target, best), float(curve(best) - curve(0.0))

    def towards(self, soft: Soft) -> Soft:
        """Return the corner with the largest product with the gradient."""
        leaves = {name: shares.detach().requires_grad_() for name, shares in soft.items()}
        gradients = torch.autograd.grad(self.value(leaves), list(leaves.values()), allow_unused=True)
        scores = {
            name: SimilarityScores(self.sym.groups[name].parents, gradient.double())
            for name, gradient in zip(leaves, gradients, strict=True)
            if gradient is not None
        }
        best = GroupForest(self.sym, scores).assign()
        unseen = {} if best.keys() == soft.keys() else nearest(self.sym, soft)
        return corner(self.sym, {**unseen, **best})
