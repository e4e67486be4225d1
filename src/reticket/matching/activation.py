"""Matching by activations: one pass over the data gives every group's permutation at once.

Permuting a layer of A keeps A's function, so the activations of every layer, and with them all correlations, are the
same whether earlier layers have been permuted or not: nothing is gained by going layer by layer.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.lookup import nearest
from reticket.matching.assignment import COSTS, assign, correlation, matched_and_margin, pooled
from reticket.matching.fit import check_fits, inputs_for, sites_by_group
from reticket.matching.forward import call, described, evaluating, examples_in
from reticket.matching.moments import CentredBatch, PairMoments, centre, moments_bytes
from reticket.matching.registry import matcher
from reticket.symmetry import Alignment, Quality, Site, Symmetry, capture
from reticket.types import Permutation

CHECK_FROM = 512  # examples at the first check for stability; every further check is at twice as many
STABLE = 3  # equal checks in a row after which matching stops, so after 4096 examples at the earliest


@dataclass(frozen=True, eq=False)
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
    model_a: nn.Module,
    model_b: nn.Module,
    sym: Symmetry,
    batches: Iterable[object],
    *,
    cost: str = "correlation",
    to_inputs: Callable[[object], object] | None = None,
    stop: str | None = "stable",
    unmatched: str = "error",
) -> MatchedAlignment:
    """Match units by what they respond to, in one pass over the data.

    `pi_g = argmax over pi of sum_j S_g[pi(j), j]`, where `S_g[i, j]` is the similarity of A's unit i and B's unit j,
    averaged over the sites of group g (Ainsworth et al. 2023, section 3.1; Li et al. 2015 for the correlation).
    See `match` for the arguments.
    """
    score = _cost_named(cost)
    if stop not in (None, "stable"):
        raise InputError(f"stop must be 'stable' or None, got {stop!r}")
    check_fits(model_a, sym, "model_a")
    check_fits(model_b, sym, "model_b")
    seen = _Seen(sites_by_group(sym, unmatched))
    previous: dict[str, Permutation] = {}
    equal, check_at = 0, CHECK_FROM
    with evaluating(model_a, model_b):
        for batch in batches:
            inputs = inputs_for(sym, batch, to_inputs)
            seen.take(model_a, model_b, inputs)
            if stop is None or seen.examples < check_at:
                continue
            current = seen.permutations(score)
            equal, previous = (equal + 1 if current == previous else 0), current
            check_at = 2 * seen.examples
            if equal == STABLE:
                break
    if not seen.batches:
        raise AlignmentError("matching got no batches: give at least one batch of inputs, or a fresh iterator")
    permutations = seen.permutations(score)
    quality = {
        name: _quality(pooled(correlation, seen.of(name)), permutation) for name, permutation in permutations.items()
    }
    rest = {
        name: Permutation.identity(group.size, tuple(sym.groups[parent].size for parent in group.over))
        for name, group in sym.groups.items()
        if name not in permutations
    }
    return MatchedAlignment(sym, permutations | rest, quality, seen.examples, seen.batches)


def matching_bytes(sym: Symmetry) -> int:
    """Return the memory in bytes that the cross products of matching hold: 8 * the sum over sites of size^2.

    On top of it comes one batch of A's activations at these sites.

    Args:
        sym: symmetry of the models to be matched.
    """
    return moments_bytes(sym.groups[g].size for g, sites in sites_by_group(sym, "identity").items() for _ in sites)


@dataclass
class _Seen:
    """The moments at every site so far."""

    sites: Mapping[str, tuple[Site, ...]]
    examples: int = 0
    batches: int = 0
    moments: dict[str, PairMoments] = field(default_factory=dict)

    def take(self, model_a: nn.Module, model_b: nn.Module, inputs: object) -> None:
        """Run A, then B, once each on one batch; only A's activations of this batch are held."""
        group_of = {site.name: group for group, sites in self.sites.items() for site in sites}
        sites = [site for sites in self.sites.values() for site in sites]
        held: dict[str, CentredBatch] = {}

        def hold(site: Site, tensor: Tensor) -> None:
            held[site.name] = centre(site.units(tensor, group_of[site.name]))

        def compare(site: Site, tensor: Tensor) -> None:
            of_b, of_a = centre(site.units(tensor, group_of[site.name])), held.pop(site.name, None)
            if of_a is None or of_a.values.shape != of_b.values.shape:
                seen = "nothing" if of_a is None else f"{of_a.samples} samples"
                raise AlignmentError(
                    f"site '{site.name}' shows {seen} in model_a and {of_b.samples} samples in model_b on "
                    f"{described(inputs)}: both must compute the same steps on a batch"
                )
            if site.name not in self.moments:
                self.moments[site.name] = PairMoments(len(of_a.mean), len(of_b.mean), of_a.mean.device)
            self.moments[site.name].update(of_a, _on(of_b, of_a.values.device))

        for model, look in ((model_a, hold), (model_b, compare)):
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                stack.enter_context(capture(model, sites, look))
                call(model, inputs)
        if lost := [site.name for site in sites if site.name in held or site.name not in self.moments]:
            raise AlignmentError(
                f"site '{lost[0]}' was not reached on a batch of {described(inputs)}: discover the symmetry on inputs "
                "like these"
            )
        self.batches += 1
        self.examples += examples_in(inputs)

    def of(self, group: str) -> list[PairMoments]:
        """Return the moments at every site of a group."""
        return [self.moments[site.name] for site in self.sites[group]]

    def permutations(self, score: Callable[[PairMoments], Tensor]) -> dict[str, Permutation]:
        """Return the best permutation of every group on what was seen so far."""
        return {group: assign(self._scores(group, score)) for group in self.sites}

    def _scores(self, group: str, score: Callable[[PairMoments], Tensor]) -> Float64[Tensor, "n n"]:
        scores = pooled(score, self.of(group))
        if not scores.isfinite().all():
            where = next(s.name for s in self.sites[group] if not score(self.moments[s.name]).isfinite().all())
            raise AlignmentError(
                f"activations at site '{where}' are not finite: give models that have not diverged, and batches "
                "as they were trained on"
            )
        return scores


def _quality(correlations: Float64[Tensor, "n n"], permutation: Permutation) -> Quality:
    matched, margin = matched_and_margin(correlations, permutation)
    return Quality(matched, margin)


def _on(batch: CentredBatch, device: torch.device) -> CentredBatch:
    return CentredBatch(batch.values.to(device), batch.mean.to(device), batch.rest.to(device), batch.squares.to(device))


def _cost_named(name: str) -> Callable[[PairMoments], Tensor]:
    if name not in COSTS:
        raise InputError(f"unknown cost '{name}'{nearest(name, COSTS)}; known are {', '.join(COSTS)}")
    return COSTS[name]
