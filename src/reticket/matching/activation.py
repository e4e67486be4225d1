"""Matching by activations: one pass over the data gives every group's permutation at once.

Permuting a layer of A keeps A's function, so the activations of every layer, and with them all correlations, are the
same whether earlier layers have been permuted or not: nothing is gained by going layer by layer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from torch import nn

from reticket.errors import AlignmentError, InputError
from reticket.forward import evaluating, inputs_for, lay_channels_last
from reticket.matching.accumulated import MomentAccumulator, Score, take_together
from reticket.matching.assignment import COSTS, correlation
from reticket.matching.fit import check_unmatched
from reticket.matching.footprint import matching_memory
from reticket.matching.registry import matcher
from reticket.matching.seen import Activations
from reticket.matching.weight import completed
from reticket.nested import checked_batches
from reticket.symmetry import Alignment, Symmetry, identity_alignment
from reticket.types import Permutation

CHECK_FROM = 512  # examples at the first check for stability; every further check is at twice as many
HALVES_FROM = 256  # examples at the first comparison of the halves of what was seen; likewise
STABLE = 3  # equal checks in a row after which matching stops, so after 4096 examples at the earliest


@dataclass(frozen=True, eq=False, repr=False)
class MatchedAlignment(Alignment):
    """An alignment with the budget that matching used for it.

    Args:
        examples: number of examples both models saw.
        batches: number of batches they came in.
        still: for each group in which units do not vary on any of the examples (dead units), how many of A and of B;
            nothing tells these apart.
        by_weight: names of the groups that no activation shows, which were matched by their weights.
        unsettled: share of units whose partner is expected to be another with many more examples, as the halves of what
            was seen say; None where `stop` is no share or there was one batch.
    """

    examples: int = 0
    batches: int = 0
    unsettled: float | None = None
    by_weight: tuple[str, ...] = ()
    still: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@matcher("activation", memory=matching_memory)
def match_activations(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    batches: Iterable[object],
    *,
    cost: Literal["correlation", "covariance", "cosine"] = "correlation",
    to_inputs: Callable[[object], object] | None = None,
    stop: Literal["stable", "never"] | float | None = "stable",
    unmatched: Literal["weight", "error", "identity"] = "weight",
    held_bytes: int | None = None,
    positions: int | None = None,
    seen: Activations | None = None,
) -> MatchedAlignment:
    """Match units by what they respond to, in one pass over the data.

    `pi_g = argmax over pi of sum_j S_g[pi(j), j]`, where `S_g[i, j]` is the similarity of A's unit i and B's unit j,
    averaged over checkpoints and the sites of group g (Ainsworth et al. 2023, section 3.1; Li et al. 2015 for the
    correlation). See `match` for the arguments.
    """
    options = {
        "cost": cost,
        "to_inputs": to_inputs,
        "stop": stop,
        "unmatched": unmatched,
        "held_bytes": held_bytes,
        "positions": positions,
    }
    return match_activations_of_each(models_a, [models_b], sym, batches, seen=seen, **options)[0]


def match_activations_of_each(
    models_a: Sequence[nn.Module],
    each_b: Sequence[Sequence[nn.Module]],
    sym: Symmetry,
    batches: Iterable[object],
    *,
    cost: Literal["correlation", "covariance", "cosine"] = "correlation",
    to_inputs: Callable[[object], object] | None = None,
    stop: Literal["stable", "never"] | float | None = "stable",
    unmatched: Literal["weight", "error", "identity"] = "weight",
    held_bytes: int | None = None,
    positions: int | None = None,
    seen: Activations | None = None,
) -> list[MatchedAlignment]:
    """Match one network to several: what `match_activations` gives for each, while A runs once on a batch.

    Args:
        models_a: checkpoints of A.
        each_b: checkpoints of every B, as many as of A.
        sym: their symmetry.
        batches: any iterable, which is read once.
        cost, to_inputs, stop, unmatched, held_bytes, positions: see `match`; a B that may stop is not run any more.
        seen: of A and one B, see `match`.
    """
    if held_bytes is not None and held_bytes < 1:
        raise InputError(f"held_bytes must be None or a number of bytes, at least 1, got {held_bytes}")
    if positions is not None and positions < 1:
        raise InputError(f"positions must be None or a number of positions of an example, at least 1, got {positions}")
    unseen = partial(MomentAccumulator, sym, held_bytes, positions)
    every = [_budget(unseen, COSTS[cost], stop) for _ in each_b]
    if seen is not None and not isinstance(seen, Activations):
        raise InputError(
            f"seen is a {type(seen).__name__}, but Activations(sym) was expected, empty or of an earlier call"
        )
    if seen is not None:
        every[0].go_on(seen, seen.begin(sym, [models_a, *each_b], unseen))
    check_unmatched(sym, every[0].seen().matched, unmatched)
    with evaluating(*models_a, *(model for models in each_b for model in models)):
        for number, batch in enumerate(checked_batches(batches, "matching")):
            inputs = inputs_for(sym, batch, to_inputs)
            if number == 0 and not every[0].seen().inside.sites:  # a traced graph is fixed to one layout
                lay_channels_last([*models_a, *(model for models in each_b for model in models)], inputs)
            running = [(one, models) for one, models in zip(every, each_b, strict=True) if not one.done]
            take_together([one.next() for one, _ in running], models_a, [models for _, models in running], inputs)
            for one, _ in running:
                one.took()
                one.look()
            if all(one.done for one in every):
                break
    found = [one.result() for one in every]
    left = [name for name in sym.groups if name not in every[0].seen().matched] if unmatched == "weight" else []
    if not left:
        return found
    return [_completed(one, models_a, models_b, left) for one, models_b in zip(found, each_b, strict=True)]


def _completed(
    found: MatchedAlignment, models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], left: Sequence[str]
) -> MatchedAlignment:
    every = completed(models_a, models_b, found.symmetry, found.permutations, left)
    return replace(found, permutations=every, by_weight=tuple(left))


class Budget:
    """What was seen of one pair of networks, and whether that is enough (`done`): never.

    Args:
        unseen: makes what takes in the activations of a pair.
        score: the similarity of units.
    """

    def __init__(self, unseen: Callable[[], MomentAccumulator], score: Score) -> None:
        self.score, self.done = score, False
        self.halves = [unseen()]
        self._kept: Activations | None = None
        self._taking = self.halves[0]

    def go_on(self, kept: Activations, begun: Sequence[MomentAccumulator]) -> None:
        """Go on from what was seen before, and keep there what is seen from now on.

        Args:
            kept: is told after every batch.
            begun: what it has seen: nothing, or one or two halves.
        """
        self._kept = kept
        for number, one in enumerate(begun):
            place = number % len(self.halves)
            self.halves[place] = self.halves[place].merged(one)

    def next(self) -> MomentAccumulator:
        """Return what takes in the next batch: the half that has seen fewer, or one apart where a copy is kept."""
        half = min(self.halves, key=lambda half: half.batches)
        self._taking = half if self._kept is None else half.empty()
        return self._taking

    def took(self) -> None:
        """Add the batch to the rest, where it was taken in apart: at once, so that nothing is ever kept by half."""
        if self._kept is not None:
            place = min(range(len(self.halves)), key=lambda number: self.halves[number].batches)
            self.halves[place] = self.halves[place].merged(self._taking)
            self._kept.keep(self.halves)

    def seen(self) -> MomentAccumulator:
        """Return all that was seen so far."""
        return self.halves[0]

    def look(self) -> None:
        """Decide whether more batches are needed; called after each."""

    def result(self) -> MatchedAlignment:
        """Return the alignment.

        Raises:
            AlignmentError: when nothing was seen, or nothing that varies.
        """
        seen = self.seen()
        if not seen.batches:
            raise AlignmentError("matching got no batches: give at least one batch of inputs, or a fresh iterator")
        permutations = seen.permutations(self.score)
        quality = seen.forest(correlation).quality(permutations)
        everywhere = {**identity_alignment(seen.sym).permutations, **permutations}
        return MatchedAlignment(
            seen.sym, everywhere, quality, seen.examples, seen.batches, self.unsettled(), still=seen.still()
        )

    def unsettled(self) -> float | None:
        """Return the share of units whose partner is expected to change with more examples, where that is known."""
        return None


class UntilStable(Budget):
    """Enough is what leaves every assignment as it was over `STABLE` doublings of the examples."""

    def __init__(self, unseen: Callable[[], MomentAccumulator], score: Score) -> None:
        super().__init__(unseen, score)
        self.previous: dict[str, Permutation] = {}
        self.equal, self.check_at = 0, CHECK_FROM

    def look(self) -> None:
        """Decide whether more batches are needed; called after each."""
        if self.seen().examples >= self.check_at:
            current = self.seen().permutations(self.score)
            self.equal, self.previous = (self.equal + 1 if current == self.previous else 0), current
            self.check_at = 2 * self.seen().examples
            self.done = self.equal == STABLE


class UntilSettled(Budget):
    """Enough is what leaves at most a share of the units with a partner that more examples would change.

    Batches go to two halves in turn, and each half is assigned alone. What noise makes of the difference of two halves
    has twice the spread of what it makes of the whole, and for small noise the units that it moves are in proportion
    to its spread: the whole is expected to differ from the truth in half as many units as the halves differ in.

    Args:
        unseen: makes what takes in the activations of a pair.
        score: the similarity of units.
        share: of all units, above 0 and at most 1.
    """

    def __init__(self, unseen: Callable[[], MomentAccumulator], score: Score, share: float) -> None:
        super().__init__(unseen, score)
        self.share, self.check_at = share, HALVES_FROM
        self.halves.append(unseen())

    def seen(self) -> MomentAccumulator:
        """Return all that was seen so far."""
        return self.halves[0].merged(self.halves[1])

    def look(self) -> None:
        """Decide whether more batches are needed; called after each."""
        examples = sum(half.examples for half in self.halves)
        if examples >= self.check_at:
            self.check_at = 2 * examples
            unsettled = self.unsettled()
            self.done = unsettled is not None and unsettled <= self.share

    def unsettled(self) -> float | None:
        """Return the share of units whose partner is expected to change with more examples, where that is known."""
        if not all(half.batches for half in self.halves):
            return None
        found, others = (half.permutations(self.score) for half in self.halves)
        pairs = [(one.index, others[name].index) for name, one in found.items()]
        moved = sum(int((one != other).sum()) for one, other in pairs)
        return moved / 2 / max(1, sum(one.numel() for one, _ in pairs))


def _budget(
    unseen: Callable[[], MomentAccumulator], score: Score, stop: Literal["stable", "never"] | float | None
) -> Budget:
    if stop == "stable":
        return UntilStable(unseen, score)
    if stop is None or stop == "never":
        return Budget(unseen, score)
    if isinstance(stop, bool) or not isinstance(stop, int | float) or not 0 < stop <= 1:
        raise InputError(
            f"stop is {stop!r}, but 'stable', 'never' or a share of units above 0 and at most 1 was expected, as 0.01"
        )
    return UntilSettled(unseen, score, stop)
