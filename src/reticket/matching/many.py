"""Several networks in one common order of units: every way from one to another by a third is the direct way.

Networks matched pair by pair do not agree: A's unit 3 is B's 5, B's 5 is C's 1, but A's 3 is C's 8. Here each network
has one alignment into a common frame, all of them chosen so that the sum of all pairs' similarities is largest: each is
assigned anew, given the others, until none changes (Ainsworth et al. 2023, appendix A.10; Crisostomi et al. 2024).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from reticket.errors import InputError
from reticket.forward import modules_of
from reticket.matching.correlations import ActivationSimilarity, activation_similarities, matched_positions
from reticket.matching.descent import Similarity, descended, total
from reticket.matching.forest import SimilarityScores
from reticket.matching.frank_wolfe import into_one_frame
from reticket.matching.registry import MATCHERS, limited, match
from reticket.matching.slices import WeightSimilarity, comparable_state
from reticket.matching.weight import outside_in
from reticket.symmetry import Alignment, Quality, Symmetry, identity_alignment
from reticket.symmetry.gather import gather
from reticket.symmetry.model_tensors import named_state
from reticket.types import Permutation, Rebuilt
from reticket.weights import Weights

Permutations: TypeAlias = dict[str, Permutation]
PairScores: TypeAlias = Mapping[
    tuple[int, int], Mapping[str, SimilarityScores]
]  # of i < j: units of i against those of j
Against: TypeAlias = Callable[[int, Sequence[int], Sequence[Permutations]], WeightSimilarity | ActivationSimilarity]
TAKEN = {"activation": ("to_inputs", "held_bytes"), "weight": (), "frank-wolfe": ("iterations",)}  # options here
ROUNDS = 100  # over all networks, at most; some five are usual


@dataclass(frozen=True, eq=False)
class CommonFrame(Rebuilt):
    """Alignments of several networks into one order of units, that of the first.

    Args:
        alignments: of each network; the first moves nothing.

    Raises:
        InputError: for fewer than two, or alignments of different symmetries.
    """

    alignments: tuple[Alignment, ...]

    def __post_init__(self) -> None:
        if len(self.alignments) < 2:
            raise InputError(f"a common frame needs two networks or more, got {len(self.alignments)} alignments")
        if any(one.symmetry.layouts != self.alignments[0].symmetry.layouts for one in self.alignments):
            raise InputError(
                "the alignments of a common frame are of different symmetries; match networks of one model"
            )

    def __len__(self) -> int:
        return len(self.alignments)

    def __iter__(self) -> Iterator[Alignment]:
        return iter(self.alignments)

    def between(self, i: int, j: int) -> Alignment:
        """Return the alignment of network i onto network j; by way of a third it is the same, bit for bit.

        Args:
            i, j: numbers of networks, from 0.

        Raises:
            InputError: when there is no such network.
        """
        if odd := [number for number in (i, j) if not 0 <= number < len(self)]:
            raise InputError(f"the frame has networks 0 to {len(self) - 1}, but {odd[0]} was asked for")
        return self.alignments[j].inverse().after(self.alignments[i])


def match_many(
    networks: Sequence[Weights],
    sym: Symmetry,
    batches: Iterable[object] | None = None,
    method: str = "activation",
    **options: Any,
) -> CommonFrame:
    """Match several networks to one another at once, consistently.

    By "activation", "weight" and "frank-wolfe" the sum of the similarities of all pairs is raised; "frank-wolfe" begins
    from what its algorithm finds for all networks at once (C2M3, Crisostomi et al. 2024), the others from one network
    after the other. By any other method all pairs are matched by it, and the frame is the one that most of their
    matches agree with.

    Args:
        networks: two or more of one architecture: modules, or state_dicts, one of them at least a module.
        sym: their symmetry, from `discover`.
        batches: of inputs, as for `match`; read once, an iterator is kept in memory. "weight" needs none.
        method: name of a matching method.
        options: of the method, as for `match`; "activation" takes `to_inputs` and `held_bytes` alone here, "weight"
            none, "frank-wolfe" `iterations`. `fixed`, `blocks` and `ordered_blocks` hold for every network.

    Returns:
        An alignment of each network into the frame, whose order is that of the first network. The `quality` of each
        says how alike its units are to those of all others: by activations in terms of correlation, by weights about 1
        for equal ones, by other methods as a share of pairs that agree.

    Raises:
        InputError, AlignmentError, ModelError: as `match` does; InputError for fewer than two networks.

    >>> from reticket import discover, generator_for, load_into, random_alignment
    >>> a, b, c = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(3))
    >>> sym = discover(a, torch.randn(2, 4))
    >>> for number, other in enumerate((b, c)):
    ...     load_into(other, random_alignment(sym, number).apply(a.state_dict()))
    >>> frame = match_many([a, b, c], sym, method="weight")
    >>> frame.between(1, 2).after(frame.between(0, 1)).permutations == frame.between(0, 2).permutations
    True
    """
    if isinstance(networks, nn.Module | Mapping | str) or len(networks) < 2:
        raise InputError("match_many needs a list of two networks or more; use match for a pair of checkpoint lists")
    models = modules_of({f"networks[{number}]": one for number, one in enumerate(networks)})
    MATCHERS.named(method).check({"batches": batches}, options)
    narrow, leave_out, others = limited(sym, options)
    batches = list(batches) if isinstance(batches, Iterator) else batches
    if leave_out is not None:
        raise InputError("match_many leaves no units out; leave out leave_out, or match pair by pair")
    against = _against(models, narrow, batches, method, others)
    if method == "frank-wolfe":
        states = [comparable_state(narrow, named_state(model)) for model in models]
        found = _settled(against, into_one_frame(narrow, states, **others))
    else:
        found = _agreed(len(models), narrow, against)
    judged = against if method in TAKEN else _judge(models, sym, batches, others)
    back = Alignment(sym, found[0]).inverse()
    return CommonFrame(
        tuple(
            Alignment(sym, back.after(Alignment(sym, own)).permutations, _quality(judged, number, found))
            for number, own in enumerate(found)
        )
    )


def _against(
    models: Sequence[nn.Module], sym: Symmetry, batches: Iterable[object] | None, method: str, options: dict[str, Any]
) -> Against:
    """Return how alike one network is to others, given their permutations into the frame."""
    taken = TAKEN.get(method, options)
    if odd := [name for name in options if name not in taken]:
        raise InputError(
            f"match_many by '{method}' takes {' and '.join(taken) or 'no option'}, but got '{odd[0]}'; leave it out"
        )
    if method in ("weight", "frank-wolfe"):
        states = [comparable_state(sym, named_state(model)) for model in models]
        return lambda i, others, found: _weights_against(sym, states, i, others, found)
    kept: Iterable[object] | None = list(batches) if isinstance(batches, Iterator) else batches
    scores: dict[tuple[int, int], Mapping[str, SimilarityScores]] = {}
    for i in range(len(models) - 1):
        later = range(i + 1, len(models))
        if method == "activation" and kept is not None:
            each = activation_similarities(models[i : i + 1], [models[j : j + 1] for j in later], sym, kept, **options)
            scores |= {(i, j): one.found for j, one in zip(later, each, strict=True)}
        else:
            scores |= {(i, j): _votes(match(models[i], models[j], sym, kept, method, **options)) for j in later}
    return lambda i, others, found: _scores_against(sym, scores, i, others, found)


def _votes(alignment: Alignment) -> dict[str, SimilarityScores]:
    """Return an alignment as scores: 1 where it matches two units."""
    found = {}
    for name, group in alignment.symmetry.groups.items():
        old, new = matched_positions(alignment.symmetry, name, alignment.permutations)
        shape = (*alignment.symmetry.parent_sizes(group), group.size)
        votes = torch.zeros(*shape, *shape, dtype=torch.float64, device="cpu")
        votes[(*old, *new)] = 1.0
        found[name] = SimilarityScores(group.parents, votes)
    return found


def _weights_against(
    sym: Symmetry,
    states: Sequence[Mapping[str, Tensor]],
    i: int,
    others: Sequence[int],
    found: Sequence[Permutations],
) -> WeightSimilarity:
    """Return the similarity of a network to the mean of others, which is the mean of the similarities."""
    pair = {
        name: (own, torch.stack([gather(states[j][name], sym.layouts[name], found[j]) for j in others]).mean(dim=0))
        for name, own in states[i].items()
    }
    return WeightSimilarity(sym, [pair])


def _scores_against(
    sym: Symmetry, scores: PairScores, i: int, others: Sequence[int], found: Sequence[Permutations]
) -> ActivationSimilarity:
    """Return the mean over others of the scores of a network's units against theirs, in the order of the frame."""
    mean = {}
    for name in scores[min(i, others[0]), max(i, others[0])]:
        carried = [_in_frame(sym, name, _directed(scores, i, j, name), found[j]) for j in others]
        mean[name] = SimilarityScores(sym.groups[name].parents, torch.stack(carried).mean(dim=0))
    return ActivationSimilarity(sym, mean)


def _directed(scores: PairScores, i: int, j: int, name: str) -> Tensor:
    """Return the scores of units of i (first half of the axes) against units of j."""
    if i < j:
        return scores[i, j][name].scores
    swapped = scores[j, i][name].scores
    half = swapped.dim() // 2
    return swapped.permute(*range(half, 2 * half), *range(half))


def _judge(
    models: Sequence[nn.Module], sym: Symmetry, batches: Iterable[object] | None, options: Mapping[str, Any]
) -> Against:
    """Return how alike networks are, where pairs only voted: by activations, or by weights where there are no data."""
    if batches is None:
        return _against(models, sym, None, "weight", {})
    given = {name: value for name, value in options.items() if name in TAKEN["activation"]}
    return _against(models, sym, batches, "activation", given)


def _in_frame(sym: Symmetry, name: str, scores: Tensor, permutations: Permutations) -> Tensor:
    """Return scores with the second network's units in the order that permutations bring them to."""
    old, _ = matched_positions(sym, name, permutations)
    return scores[(Ellipsis, *old)]


def _agreed(count: int, sym: Symmetry, against: Against) -> list[Permutations]:
    """Return the permutations of every network into the frame that none of them alone can better.

    Each network in turn is the first that others are matched to; the start that all pairs agree with most is taken.
    """
    starts = [_joined(count, sym, against, first) for first in range(count)]
    return _settled(against, max(starts, key=lambda one: _agreement(count, against, one)))


def _settled(against: Against, start: Sequence[Permutations]) -> list[Permutations]:
    """Return permutations that none of the networks alone can better."""
    found = list(start)
    for _ in range(ROUNDS):
        before = list(found)
        for i in range(len(found)):
            found[i] = descended(against(i, [j for j in range(len(found)) if j != i], found), found[i])
        if all(one == other for one, other in zip(before, found, strict=True)):
            break
    return found


def _joined(count: int, sym: Symmetry, against: Against, first: int) -> list[Permutations]:
    """Return a start: the others are matched, one after the other, to all that are in the frame already."""
    still = dict(identity_alignment(sym).permutations)
    found, inside = [dict(still) for _ in range(count)], [first]
    for i in (number for number in range(count) if number != first):
        similarity = against(i, inside, found)
        found[i] = _begun(similarity, still)
        inside.append(i)
    return found


def _begun(similarity: Similarity, still: Permutations) -> Permutations:
    if isinstance(similarity, WeightSimilarity):
        return descended(similarity, outside_in(similarity))
    return descended(similarity, still)


def _agreement(count: int, against: Against, found: Sequence[Permutations]) -> float:
    similarities = [against(i, [j for j in range(count) if j != i], found) for i in range(count)]
    return sum(total(similarity, own) for similarity, own in zip(similarities, found, strict=True))


def _quality(against: Against, i: int, found: Sequence[Permutations]) -> dict[str, Quality]:
    return against(i, [j for j in range(len(found)) if j != i], found).quality(found[i])
