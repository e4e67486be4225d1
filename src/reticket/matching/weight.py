"""Matching by weights alone: no data, only the two networks."""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from reticket.errors import InputError
from reticket.matching.constraints import rule_of
from reticket.matching.descent import SWEEPS, descended, total
from reticket.matching.forest import GroupForest, SimilarityScores, drawn
from reticket.matching.registry import matcher
from reticket.matching.slices import WeightSimilarity
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, identity_alignment
from reticket.symmetry.alignment import old_parents
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
        found.append(descended(similarity, drawn(sym, generator).permutations, generator))
    best = max(found, key=lambda one: total(similarity, one))
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


def completed(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    found: Mapping[str, Permutation],
    left: Sequence[str],
) -> dict[str, Permutation]:
    """Return permutations with those groups assigned by their weights that are left, all others held.

    Args:
        models_a, models_b: checkpoints of both.
        sym: the symmetry.
        found: permutation of every group; of those left, any.
        left: names of the groups to assign, those that others depend on first.
    """
    states = [(named_state(a), named_state(b)) for a, b in zip(models_a, models_b, strict=True)]
    similarity, result = WeightSimilarity.of_states(sym, states), dict(found)
    for _ in range(SWEEPS):
        before = dict(result)
        for name in left:
            scores = similarity.scores([name], result)
            if name in scores:
                result[name] = assigned_below(sym, name, scores[name], result)
        if result == before:
            break
    return result


def assigned_below(
    sym: Symmetry, name: str, scores: SimilarityScores, permutations: Mapping[str, Permutation]
) -> Permutation:
    """Return the best permutation of one group, what it depends on being held."""
    group = sym.groups[name]
    above = torch.stack(old_parents(sym, group, permutations), dim=-1) if group.parents else None
    index = torch.empty(*sym.parent_sizes(group), group.size, dtype=torch.int64, device="cpu")
    for new in itertools.product(*map(range, sym.parent_sizes(group))):
        old = () if above is None else tuple(above[new].tolist())
        index[new] = rule_of(sym, name).assign(scores.scores[(*old, slice(None), *new)])
    return Permutation(index)
