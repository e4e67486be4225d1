"""Matching by activations, weights and signs together."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from reticket.errors import InputError
from reticket.matching.correlations import activation_similarity
from reticket.matching.descent import Similarity, descended
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.matching.registry import matcher
from reticket.matching.slices import WeightSimilarity
from reticket.symmetry import Alignment, Symmetry, identity_alignment
from reticket.symmetry.model_tensors import named_state
from reticket.types import Permutation


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


def _assigned(similarity: Similarity, tree: Sequence[str]) -> dict[str, Permutation]:
    return GroupForest(similarity.sym, similarity.scores(tree, {})).assign()
