"""Matching by activations: one pass over the data gives every group's permutation at once.

Permuting a layer of A keeps A's function, so the activations of every layer, and with them all correlations, are the
same whether earlier layers have been permuted or not: nothing is gained by going layer by layer.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError, SymmetryError
from reticket.forward import call, evaluating, inputs_for, look_inside
from reticket.matching.assignment import COSTS, correlation, pooled
from reticket.matching.fit import check_unmatched
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.matching.moments import CentredBatch, PairMoments, centre, centre_unmasked, moments_bytes
from reticket.matching.registry import matcher
from reticket.nested import checked_batches, described, examples_in, parts
from reticket.symmetry import Alignment, Inside, Site, Symmetry, capture, identity_alignment
from reticket.symmetry.views import conditional_views, direct_views, reached_by
from reticket.types import Permutation

CHECK_FROM = 512  # examples at the first check for stability; every further check is at twice as many
Score: TypeAlias = Callable[[PairMoments], Tensor]
STABLE = 3  # equal checks in a row after which matching stops, so after 4096 examples at the earliest


@dataclass(frozen=True, eq=False, repr=False)
class MatchedAlignment(Alignment):
    """An alignment with the budget that matching used for it.

    Args:
        examples: number of examples both models saw.
        batches: number of batches they came in.
    """

    examples: int = 0
    batches: int = 0


@matcher("activation")
def match_activations(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    batches: Iterable[object],
    *,
    cost: Literal["correlation", "covariance", "cosine"] = "correlation",
    to_inputs: Callable[[object], object] | None = None,
    stop: Literal["stable", "never"] | None = "stable",
    unmatched: Literal["error", "identity"] = "error",
    held_bytes: int | None = None,
) -> MatchedAlignment:
    """Match units by what they respond to, in one pass over the data.

    `pi_g = argmax over pi of sum_j S_g[pi(j), j]`, where `S_g[i, j]` is the similarity of A's unit i and B's unit j,
    averaged over checkpoints and the sites of group g (Ainsworth et al. 2023, section 3.1; Li et al. 2015 for the
    correlation). See `match` for the arguments.
    """
    score = COSTS[cost]
    if held_bytes is not None and held_bytes < 1:
        raise InputError(f"held_bytes must be None or a number of bytes, at least 1, got {held_bytes}")
    moments = MomentAccumulator(sym, held_bytes)
    check_unmatched(sym, moments.matched, unmatched)
    previous: dict[str, Permutation] = {}
    equal, check_at = 0, CHECK_FROM
    with evaluating(*models_a, *models_b):
        for batch in checked_batches(batches, "matching"):
            moments.take(models_a, models_b, inputs_for(sym, batch, to_inputs))
            if stop != "stable" or moments.examples < check_at:
                continue
            current = moments.permutations(score)
            equal, previous = (equal + 1 if current == previous else 0), current
            check_at = 2 * moments.examples
            if equal == STABLE:
                break
    if not moments.batches:
        raise AlignmentError("matching got no batches: give at least one batch of inputs, or a fresh iterator")
    permutations = moments.permutations(score)
    quality = moments.forest(correlation).quality(permutations)
    everywhere = {**identity_alignment(sym).permutations, **permutations}
    return MatchedAlignment(sym, everywhere, quality, moments.examples, moments.batches)


def matching_bytes(sym: Symmetry, checkpoints: int = 1) -> int:
    """Return the memory in bytes that the cross products of matching hold: 8 * the sum over sites of size^2.

    On top of it come A's activations at these sites, of one batch or of as much of it as `held_bytes` allows.

    Args:
        sym: symmetry of the models to be matched.
        checkpoints: of each network; each has its own cross products.
    """
    moments = MomentAccumulator(sym)
    sizes = [math.prod(moments.shape(group)) for group, views in moments.views.items() for _ in views.sites]
    return checkpoints * moments_bytes(sizes)


class MomentAccumulator:
    """The moments at every site of every pair of checkpoints so far."""

    def __init__(self, sym: Symmetry, held_bytes: int | None = None) -> None:
        self.sym, self.held_bytes = sym, held_bytes
        self.direct = direct_views(sym)
        reached = reached_by(sym, self.direct)
        self.conditional = conditional_views(sym, reached)
        self.views = self.direct | self.conditional
        self.matched = frozenset([*reached, *self.conditional])
        self.groups_at: dict[str, list[str]] = {}  # by the name of a site
        for group, views in self.views.items():
            for site in views.sites:
                self.groups_at.setdefault(site.name, []).append(group)
        self.sites = [site for site in sym.sites if site.name in self.groups_at]
        self.inside = Inside(self.sites)
        self.masked = False  # whether a mask was met
        self.at_most: int | None = None  # examples that fit the sites together; None for any number
        self.bytes_an_example: int | None = None  # of A's activations at all sites
        self.examples = self.batches = 0
        self.moments: dict[tuple[str, str], list[PairMoments]] = {}  # one for each pair of checkpoints

    def shape(self, group: str) -> tuple[int, ...]:
        """Return how many units of a group are told apart: its size at every position of what it is seen along."""
        along = [self.sym.fixed_parents.get(name) or self.sym.groups[name].size for name in self.views[group].along]
        return (*along, self.sym.groups[group].size)

    def take(self, models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], inputs: object) -> None:
        """Run every pair of checkpoints on one batch, in parts where A's activations would be more than is allowed."""
        size = self._at_once(models_a[0], inputs)
        for number, (model_a, model_b) in enumerate(zip(models_a, models_b, strict=True)):
            for part in parts(inputs, size):
                self._take(number, model_a, model_b, part)
        self.batches += 1
        self.examples += examples_in(inputs)

    def _at_once(self, model_a: nn.Module, inputs: object) -> int:
        """Return how many examples of a batch are run through the models together."""
        size = examples_in(inputs) if self.at_most is None else self.at_most
        if self.held_bytes is None:
            return size
        if self.bytes_an_example is None:
            held = self._held(model_a, next(parts(inputs, 1)))
            self.bytes_an_example = sum(one.values.nbytes for one in held.values())
        return max(1, min(size, self.held_bytes // max(1, self.bytes_an_example)))

    def _take(self, number: int, model_a: nn.Module, model_b: nn.Module, inputs: object) -> None:
        """Run A, then B, once each on the same examples; only A's activations are held.

        Heads merged into a batch of one look like heads alone: where a larger batch fits no site, it is run in parts of
        the example's size.
        """
        try:
            held = self._held(model_a, inputs)
        except SymmetryError:
            self.at_most = next((layout[0].size for layout in self.sym.inputs if layout), 1)
            if examples_in(inputs) <= self.at_most:
                raise
            for part in parts(inputs, self.at_most):
                self._take(number, model_a, model_b, part)
            return

        def compare(site: Site, tensor: Tensor) -> None:
            for group in self.groups_at[site.name]:
                of_b, of_a = self._units(site, tensor, group), held.pop((site.name, group), None)
                if of_a is None or of_a.values.shape != of_b.values.shape:
                    seen = "nothing" if of_a is None else f"{of_a.samples} samples"
                    raise AlignmentError(
                        f"site '{site.name}' shows {seen} in model_a and {of_b.samples} samples in model_b on "
                        f"{described(inputs)}: both must compute the same steps on a batch"
                    )
                if not _equally_masked(of_a, of_b):
                    raise AlignmentError(
                        f"site '{site.name}' has other masked samples in model_a than in model_b on "
                        f"{described(inputs)}: masks must be made of the inputs alone"
                    )
                moments = self.moments.setdefault((site.name, group), [])
                if len(moments) == number:
                    moments.append(PairMoments(len(of_a.mean), len(of_b.mean), of_a.mean.device))
                moments[number].update(of_a, _on(of_b, of_a.values.device))

        self._look(model_b, inputs, compare)
        pairs = [(site.name, group) for site in self.sites for group in self.groups_at[site.name]]
        if lost := [pair[0] for pair in pairs if pair in held or len(self.moments.get(pair, ())) <= number]:
            raise AlignmentError(
                f"site '{lost[0]}' was not reached on a batch of {described(inputs)}: discover the symmetry on inputs "
                "like these"
            )

    def _held(self, model: nn.Module, inputs: object) -> dict[tuple[str, str], CentredBatch]:
        """Return what the units of every group do at every site."""
        held: dict[tuple[str, str], CentredBatch] = {}

        def hold(site: Site, tensor: Tensor) -> None:
            held.update({(site.name, group): self._units(site, tensor, group) for group in self.groups_at[site.name]})

        self._look(model, inputs, hold)
        return held

    def _units(self, site: Site, tensor: Tensor, group: str) -> CentredBatch:
        """Return what the units do at a site, without samples that a mask takes out.

        Masks come in by functional calls, and may then be met anywhere. Whether there is one costs a GPU a wait.
        """
        rows = site.units(tensor, group, self.views[group].along)
        if rows.is_complex():  # real and imaginary parts are samples like any other
            rows = torch.view_as_real(rows).flatten(-2)
        rows = rows.reshape(-1, rows.shape[-1])
        if not (site.operator or self.masked):
            return centre(rows)
        units = centre_unmasked(rows)
        self.masked |= units.unmasked is not None
        return units

    def _look(self, model: nn.Module, inputs: object, look: Callable[[Site, Tensor], None]) -> None:
        """Run a model once and show every site as it is computed."""
        look_inside(self.inside, model, inputs, look)
        with torch.no_grad(), capture(model, self.sites, look):
            call(model, inputs)

    def permutations(self, score: Score) -> dict[str, Permutation]:
        """Return the best permutation of every group on what was seen so far."""
        return self.forest(score).assign()

    def forest(self, score: Score) -> GroupForest:
        """Return the groups with their scores on what was seen so far."""
        direct, conditional = (
            {group: SimilarityScores(views.along, self._scores(group, score)) for group, views in some.items()}
            for some in (self.direct, self.conditional)
        )
        return GroupForest(self.sym, direct, conditional)

    def _scores(self, group: str, score: Score) -> Float64[Tensor, "..."]:
        names = [site.name for site in self.views[group].sites]
        scores = pooled(score, [moments for name in names for moments in self.moments[name, group]])
        if not scores.isfinite().all():
            where = next(n for n in names if not all(score(m).isfinite().all() for m in self.moments[n, group]))
            raise AlignmentError(
                f"activations at site '{where}' are not finite: give models that have not diverged, and batches "
                "as they were trained on"
            )
        return scores.cpu().reshape(2 * self.shape(group))


def _equally_masked(a: CentredBatch, b: CentredBatch) -> bool:
    if a.unmasked is None or b.unmasked is None:
        return a.unmasked is b.unmasked
    return torch.equal(a.unmasked, b.unmasked.to(a.unmasked.device))


def _on(batch: CentredBatch, device: torch.device) -> CentredBatch:
    return CentredBatch(batch.values.to(device), batch.mean.to(device), batch.rest.to(device), batch.squares.to(device))
