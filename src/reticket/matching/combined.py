"""Matching by activations, weights and signs together."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.forward import evaluating, inputs_for
from reticket.matching.accumulated import MomentAccumulator, take_together
from reticket.matching.assignment import correlation
from reticket.matching.descent import Similarity, descended
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.matching.registry import matcher
from reticket.matching.slices import WeightSimilarity, trees_of
from reticket.nested import checked_batches
from reticket.symmetry import Alignment, Quality, Symmetry, identity_alignment
from reticket.symmetry.alignment import old_parents
from reticket.symmetry.model_tensors import named_state
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


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """A sum of similarities.

    Args:
        terms: each with its weight; at least one, all of one symmetry.
    """

    terms: Sequence[tuple[float, Similarity]]

    @property
    def sym(self) -> Symmetry:
        """The symmetry of all."""
        return self.terms[0][1].sym

    @property
    def trees(self) -> tuple[tuple[str, ...], ...]:
        """Groups that are assigned together."""
        return self.terms[0][1].trees

    def scores(self, tree: Sequence[str], permutations: Mapping[str, Permutation]) -> dict[str, SimilarityScores]:
        """Return the weighted sum of the scores of each group."""
        found: dict[str, SimilarityScores] = {}
        for weight, term in self.terms:
            for name, own in term.scores(tree, permutations).items():
                before = found[name].scores if name in found else 0.0
                found[name] = SimilarityScores(own.along, before + weight * own.scores)
        return found

    def value(self, groups: Sequence[str], permutations: Mapping[str, Permutation]) -> float:
        """Return the weighted sum of the values."""
        return math.fsum(weight * term.value(groups, permutations) for weight, term in self.terms)


def matched_positions(
    sym: Symmetry, name: str, permutations: Mapping[str, Permutation]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return for every new position of a group's units, parents first, the old ones and the new ones, as indices."""
    group, index = sym.groups[name], permutations[name].index
    new = torch.meshgrid(*(torch.arange(n, device="cpu") for n in index.shape), indexing="ij")
    old = [position.unsqueeze(-1).expand_as(index) for position in old_parents(sym, group, permutations)]
    return (*old, index), new


@matcher("combined")
def match_combined(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    batches: Iterable[object],
    masks_a: Mapping[str, Tensor] | None = None,
    rewound_b: Mapping[str, Tensor] | None = None,
    *,
    weights: float | int = 1.0,
    signs: float | int = 1.0,
    to_inputs: Callable[[object], object] | None = None,
) -> Alignment:
    """Match units by what they respond to, by their weights and, where there is a mask, by the signs it keeps.

    `S = correlation + weights * (weights alike) + signs * (signs alike)`, each about 1 for units that agree wholly, is
    raised by coordinate descent from the best permutations of the correlations alone. The signs are A's on the weights
    that its mask keeps, against those of B where the sparse training begins, so that the moved mask keeps weights of B
    that already point the way in which A's went. Groups that activations show only beside others, or not at all, are
    matched by weights and signs alone, and stay as they are where both are 0.
    """
    if min(weights, signs) < 0:
        raise InputError(f"weights and signs must be 0 or more, got {weights} and {signs}")
    if (masks_a is None) != (rewound_b is None):
        raise InputError("the term of signs needs both masks_a and rewound_b; give both, or neither")
    activations = activation_similarity(models_a, models_b, sym, batches, to_inputs)
    states = [(named_state(a), named_state(b)) for a, b in zip(models_a, models_b, strict=True)]
    terms: list[tuple[float, Similarity]] = [(1.0, activations)]
    if weights:
        terms.append((float(weights), WeightSimilarity.of_states(sym, states).a_unit()))
    if masks_a is not None and rewound_b is not None and signs:
        terms.append((float(signs), WeightSimilarity.of_signs(sym, masks_a, states[-1][0], rewound_b).a_unit()))
    alone = {name: p for tree in activations.trees for name, p in _assigned(activations, tree).items()}
    begin = {**identity_alignment(sym).permutations, **alone}
    found = descended(WeightedSum(terms), begin)
    return Alignment(sym, found, activations.quality(found))


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


def _assigned(similarity: Similarity, tree: Sequence[str]) -> dict[str, Permutation]:
    return GroupForest(similarity.sym, similarity.scores(tree, {})).assign()
