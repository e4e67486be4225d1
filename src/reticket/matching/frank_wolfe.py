"""Matching by weights over all groups at once: the Frank-Wolfe algorithm over soft permutations.

The objective of matching by weights is a polynomial of the shares. Each step goes straight towards the permutations
that its gradient likes best, all groups together, and exactly as far as the objective rises.
"""

from collections.abc import Callable, Mapping, Sequence

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
from reticket.symmetry import Alignment, Symmetry, identity_alignment
from reticket.symmetry.model_tensors import named_state
from reticket.types import Permutation

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
        best, gain = best_on_line(lambda at: float(self.value(between(soft, target, at))), self.degree)
        return between(soft, target, best), gain

    def towards(self, soft: Soft) -> Soft:
        """Return the corner with the largest product with the gradient."""
        leaves = {name: shares.detach().requires_grad_() for name, shares in soft.items()}
        gradients = torch.autograd.grad(self.value(leaves), list(leaves.values()), allow_unused=True)
        return best_corner(self.sym, soft, dict(zip(leaves, gradients, strict=True)))


def best_corner(sym: Symmetry, soft: Soft, gradients: Mapping[str, Tensor | None]) -> Soft:
    """Return the permutations that a gradient likes best.

    Args:
        sym: the symmetry.
        soft: where the gradient was taken; groups without one go to what is nearest.
        gradients: by group.
    """
    scores = {
        name: SimilarityScores(sym.groups[name].parents, gradient.double().cpu())
        for name, gradient in gradients.items()
        if gradient is not None
    }
    best = GroupForest(sym, scores).assign()
    unseen = {} if best.keys() == soft.keys() else nearest(sym, soft)
    return corner(sym, {**unseen, **best})


def best_on_line(value: Callable[[float], float], degree: int) -> tuple[float, float]:
    """Return where on [0, 1] a polynomial is largest, and what it has there more than at 0.

    Args:
        value: the polynomial.
        degree: of it, at most.

    >>> best_on_line(lambda at: at - at**2, 2)
    (0.5, 0.25)
    """
    along = np.linspace(0, 1, degree + 1)
    values = [value(float(at)) for at in along]
    curve = np.polynomial.Polynomial(np.linalg.solve(np.vander(along, increasing=True), values))
    inner = [float(root.real) for root in curve.deriv().roots() if abs(root.imag) < 1e-9 and 0 < root.real < 1]
    best = max([0.0, 1.0, *inner], key=curve)
    return best, float(curve(best) - curve(0.0))


class UniverseObjective:
    """The similarity of several networks' weights in one frame, as a function of a soft alignment of each into it.

    `sum over i < j and over tensors of <J_i A_i, J_j A_j>` (Crisostomi et al. 2024, C2M3, here without units'
    scales): over tensors, half of what the square of the sum of all has more than the sum of their squares.

    Args:
        sym: the symmetry.
        states: of each network, what `comparable_state` makes of it.
    """

    def __init__(self, sym: Symmetry, states: Sequence[Mapping[str, Tensor]]) -> None:
        self.sym, self.states = sym, states
        self.names = [name for name in states[0] if is_soft(sym.layouts[name])]
        self.degree = 2 * max((degree(sym.layouts[name]) for name in self.names), default=0)

    def value(self, every: Sequence[Soft]) -> Float64[Tensor, ""]:
        """Return it.

        Args:
            every: the soft alignment of each network.
        """
        total = torch.zeros((), dtype=torch.float64, device="cpu")
        for name in self.names:
            layout = self.sym.layouts[name]
            moved = [applied(state[name], layout, soft) for state, soft in zip(self.states, every, strict=True)]
            squares = sum(one.square().sum(dtype=torch.float64) for one in moved)
            total = total + (torch.stack(moved).sum(dim=0).square().sum(dtype=torch.float64) - squares).cpu() / 2
        return total

    def step(self, every: Sequence[Soft]) -> tuple[list[Soft], float]:
        """Return the best point of the line to the corners that the gradient likes best, and what it adds."""
        if not self.degree:
            return list(every), 0.0
        leaves = [{name: shares.detach().requires_grad_() for name, shares in soft.items()} for soft in every]
        flat = [shares for soft in leaves for shares in soft.values()]
        gradients = iter(torch.autograd.grad(self.value(leaves), flat, allow_unused=True))
        target = [best_corner(self.sym, soft, {name: next(gradients) for name in soft}) for soft in leaves]

        def at(position: float) -> list[Soft]:
            return [between(soft, end, position) for soft, end in zip(every, target, strict=True)]

        best, gain = best_on_line(lambda position: float(self.value(at(position))), self.degree)
        return at(best), gain


def into_one_frame(
    sym: Symmetry, states: Sequence[Mapping[str, Tensor]], iterations: int = 100
) -> list[dict[str, Permutation]]:
    """Return permutations of several networks into one frame, found all at once by the Frank-Wolfe algorithm.

    The first network begins where it is, the others in the middle of all permutations, which favours none:
    the first step matches them to the first, and from there on each is drawn by all.

    Args:
        sym: the symmetry.
        states: of each network, what `comparable_state` makes of it.
        iterations: at most so many steps.
    """
    objective = UniverseObjective(sym, states)
    every: list[Soft] = [corner(sym, identity_alignment(sym).permutations), *(barycentre(sym) for _ in states[1:])]
    with torch.enable_grad():
        for _ in range(iterations):
            every, gain = objective.step(every)
            if gain <= ENOUGH * abs(float(objective.value(every))):
                break
    return [nearest(sym, soft) for soft in every]
