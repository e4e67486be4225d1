"""How alike the units of two networks are in what they respond to, whatever is made of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError
from reticket.forward import evaluating, inputs_for
from reticket.matching.accumulated import MomentAccumulator, take_together
from reticket.matching.assignment import correlation
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.matching.slices import trees_of
from reticket.nested import checked_batches
from reticket.symmetry import Quality, Symmetry
from reticket.symmetry.alignment import old_parents
from reticket.types import Permutation


class ActivationSimilarity:
    """How alike the units of A and B are in what they respond to; the same whatever the permutations.

    Args:
        sym: the symmetry.
        found: scores of the groups that are seen along their parents alone.
    """

    def __init__(self, sym: Symmetry, found: Mapping[str, SimilarityScores]) -> None:
        self.sym, self.found, self.trees = sym, found, trees_of(sym)

    def scores(self, tree: Sequence[str], permutations: Mapping[str, Permutation]) -> dict[str, SimilarityScores]:
        """Return the scores of the groups of a tree that are seen."""
        return {name: self.found[name] for name in tree if name in self.found}

    def value(self, groups: Sequence[str], permutations: Mapping[str, Permutation]) -> float:
        """Return the sum of the scores of matched units."""
        return math.fsum(self._matched(name, permutations) for name in groups if name in self.found)

    def quality(self, permutations: Mapping[str, Permutation]) -> dict[str, Quality]:
        """Return the correlation of matched units, and their margin to the best other one."""
        forest = GroupForest(self.sym, self.found)
        return forest.quality({name: permutations[name] for name in self.sym.groups if name in forest.reached})

    def _matched(self, name: str, permutations: Mapping[str, Permutation]) -> float:
        old, new = matched_positions(self.sym, name, permutations)
        return float(self.found[name].scores[(*old, *new)].sum())


def matched_positions(
    sym: Symmetry, name: str, permutations: Mapping[str, Permutation]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return for every new position of a group's units, parents first, the old ones and the new ones, as indices."""
    group, index = sym.groups[name], permutations[name].index
    new = torch.meshgrid(*(torch.arange(n, device="cpu") for n in index.shape), indexing="ij")
    old = [position.unsqueeze(-1).expand_as(index) for position in old_parents(sym, group, permutations)]
    return (*old, index), new


def activation_similarity(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    batches: Iterable[object],
    to_inputs: Callable[[object], object] | None = None,
) -> ActivationSimilarity:
    """Return the correlations of the units of two networks over all batches; see `match` for the arguments."""
    return activation_similarities(models_a, [models_b], sym, batches, to_inputs)[0]


def activation_similarities(
    models_a: Sequence[nn.Module],
    each_b: Sequence[Sequence[nn.Module]],
    sym: Symmetry,
    batches: Iterable[object],
    to_inputs: Callable[[object], object] | None = None,
    held_bytes: int | None = None,
) -> list[ActivationSimilarity]:
    """Return the correlations of the units of one network with those of each of several; it runs once on a batch."""
    every = [MomentAccumulator(sym, held_bytes) for _ in each_b]
    with evaluating(*models_a, *(model for models in each_b for model in models)):
        for batch in checked_batches(batches, "matching"):
            take_together(every, models_a, each_b, inputs_for(sym, batch, to_inputs))
    if not every[0].batches:
        raise AlignmentError("matching got no batches: give at least one batch of inputs, or a fresh iterator")
    return [ActivationSimilarity(sym, one.forest(correlation).direct) for one in every]
