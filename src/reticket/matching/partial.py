"""Partial matching: which units are matched so badly that a mask is better not carried to them."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from reticket.errors import InputError
from reticket.matching.correlations import activation_similarity, matched_positions
from reticket.matching.slices import WeightSimilarity
from reticket.symmetry import Alignment
from reticket.symmetry.model_tensors import named_state

Found = TypeVar("Found", bound=Alignment)


def leaving_out(
    found: Found,
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    batches: Iterable[object] | None,
    to_inputs: Callable[[object], object] | None = None,
    *,
    leave_out: float | None = None,
) -> Found:
    """Return an alignment that leaves the units out that are matched worst, a share of those of each group.

    How well a unit is matched is told by activations where the matcher looks at data, else, and for groups that no
    activation shows, by weights. Where neither shows the units of a group alone, as the heads beside their channels,
    none of them is left out. Permutations stay as they are.

    Args:
        found: the alignment.
        models_a, models_b: checkpoints of both networks.
        batches: to be read once more; None for a matcher without data.
        to_inputs: from a batch to what the model takes.
        leave_out: share of the units of each group, from 0 to below 1, rounded; at every position of its parents.

    Raises:
        InputError: for a share out of range.
    """
    if leave_out is None:
        return found
    if isinstance(leave_out, bool) or not isinstance(leave_out, int | float) or not 0 <= leave_out < 1:
        raise InputError(f"leave_out is {leave_out!r}, but a share of units from 0 to below 1 was expected, as 0.1")
    matched = matched_scores(found, models_a, models_b, batches, to_inputs)
    worst = {name: _lowest(scores, round(leave_out * scores.shape[-1])) for name, scores in matched.items()}
    return replace(found, left_out={name: flags for name, flags in worst.items() if bool(flags.any())})


def matched_scores(
    found: Alignment,
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    batches: Iterable[object] | None,
    to_inputs: Callable[[object], object] | None = None,
) -> Mapping[str, Tensor]:
    """Return by group how alike each unit of B and its partner are, float64 of the shape of the group's index.

    Args:
        found: the alignment.
        models_a, models_b: checkpoints of both networks.
        batches: None for weights alone.
        to_inputs: from a batch to what the model takes.
    """
    sym, permutations = found.symmetry, found.permutations
    states = [(named_state(a), named_state(b)) for a, b in zip(models_a, models_b, strict=True)]
    by_weight = WeightSimilarity.of_states(sym, states)
    scores = {name: one for group in sym.groups for name, one in by_weight.scores([group], permutations).items()}
    if batches is not None:
        scores |= activation_similarity(models_a, models_b, sym, batches, to_inputs).found
    result = {}
    for name, one in scores.items():
        old, new = matched_positions(sym, name, permutations)
        result[name] = one.scores[(*old, *new)]
    return result


def _lowest(scores: Tensor, count: int) -> Tensor:
    """Return which units of every row have the lowest scores, the first ones of equal ones."""
    flags = torch.zeros(scores.shape, dtype=torch.bool, device="cpu")
    for row in itertools.product(*map(range, scores.shape[:-1])):
        flags[row][scores[row].argsort(stable=True)[:count]] = True
    return flags
