"""Matching by weights alone: no data, only the two networks."""

from collections.abc import Sequence

from torch import nn

from reticket.errors import InputError
from reticket.matching.descent import descended, total
from reticket.matching.forest import GroupForest
from reticket.matching.registry import matcher
from reticket.matching.slices import WeightSimilarity
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, identity_alignment, random_alignment
from reticket.symmetry.model_tensors import named_state
from reticket.types import Permutation


@matcher("weight")
def match_weights(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    start: Alignment | None = None,
    *,
    restarts: int = 0,
) -> Alignment:
    """Match units by their incoming and outgoing weights, by coordinate descent; looks at no data."""
    if restarts < 0:
        raise InputError(f"restarts must be 0 or a number of random starts, got {restarts}")
    states = [(named_state(a), named_state(b)) for a, b in zip(models_a, models_b, strict=True)]
    similarity = WeightSimilarity.of_states(sym, states)
    begin = outside_in(similarity) if start is None else start.permutations
    found = [descended(similarity, begin)]
    for number in range(restarts):
        generator = generator_for("matching by weights", number)
        found.append(descended(similarity, random_alignment(sym, generator).permutations, generator))
    best = max(found, key=lambda one: total(similarity, one, similarity.trees))
    return Alignment(sym, best, similarity.quality(best))


def outside_in(similarity: WeightSimilarity) -> dict[str, Permutation]:
    """Return a start: groups are assigned one after the other, those first of which most can be compared already.

    Inputs and outputs are in the same order in both networks, so the first layer and the last are compared as they are,
    then what is next to them, and so on inwards.
    """
    sym, found = similarity.sym, dict[str, Permutation]()
    left = list(similarity.trees)
    while left:
        tree = max(left, key=lambda one: similarity.entries(one, found))
        still = {name: identity_alignment(sym).permutations[name] for name in tree}
        found |= still | GroupForest(sym, similarity.scores(tree, found)).assign()
        left.remove(tree)
    return found
