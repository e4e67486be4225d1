"""Coordinate descent over the groups of a symmetry: each is assigned anew, given all others, until nothing changes.

Ainsworth et al. 2023 (Git Re-Basin, section 3.2) do this for weights. Here a coordinate is a tree of groups that
depend on one another, assigned at once and exactly, and a step is taken only where it raises the objective: a matrix
with the same units on both axes makes that quadratic, and a step by its gradient could lower it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch

from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.symmetry import Symmetry
from reticket.types import Permutation

SWEEPS = 100  # at most; some ten are usual
GAIN = 1e-9  # share of the objective that a step must add, so that rounding cannot go in circles


@runtime_checkable
class Similarity(Protocol):
    """What is raised: a sum over groups, each with scores that may depend on the permutations of the others."""

    @property
    def sym(self) -> Symmetry:
        """The symmetry of both networks."""
        ...

    @property
    def trees(self) -> tuple[tuple[str, ...], ...]:
        """Names of the groups that are assigned together."""
        ...

    def scores(self, tree: Sequence[str], permutations: Mapping[str, Permutation]) -> dict[str, SimilarityScores]:
        """Return the scores of the groups of a tree, of all of them that something is known of."""
        ...

    def value(self, groups: Sequence[str], permutations: Mapping[str, Permutation]) -> float:
        """Return the part of the objective that any of the groups has a part in."""
        ...


def descended(
    similarity: Similarity, start: Mapping[str, Permutation], generator: torch.Generator | None = None
) -> dict[str, Permutation]:
    """Return permutations that no assignment of one tree alone can better.

    Args:
        similarity: what is raised.
        start: permutation of every group.
        generator: for a random order of the trees in each sweep; None for their own.
    """
    found, trees = dict(start), list(similarity.trees)
    for _ in range(SWEEPS):
        if generator is not None:
            trees = [trees[i] for i in torch.randperm(len(trees), generator=generator, device="cpu").tolist()]
        if not sum(_step(similarity, tree, found) for tree in trees):
            break
    return found


def _step(similarity: Similarity, tree: Sequence[str], found: dict[str, Permutation]) -> bool:
    """Assign one tree anew where that is better; return whether it was."""
    new = {**found, **GroupForest(similarity.sym, similarity.scores(tree, found)).assign()}
    if all(new[name] == found[name] for name in tree):
        return False
    before, after = (similarity.value(tree, permutations) for permutations in (found, new))
    if after - before <= GAIN * abs(before):
        return False
    found.update(new)
    return True


def total(similarity: Similarity, permutations: Mapping[str, Permutation]) -> float:
    """Return the objective, in which what several trees have a part in counts once."""
    return similarity.value([name for tree in similarity.trees for name in tree], permutations)
