"""Polishing a moved mask: both ends of the dial, counts, and what a growing share does to the ranks that are kept."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reticket.errors import MaskError
from reticket.rng import generator_for
from reticket.tickets import Mask, polish, prune_magnitude
from reticket.tickets.polish import Room

SHAPES = {"first": (9, 7), "second": (5, 9), "last": (3, 5)}
Weights = dict[str, Tensor]


def drawn(label: str, seed: int) -> Weights:
    g = generator_for("polish", label, seed)
    return {name: torch.randn(shape, generator=g).round(decimals=1) for name, shape in SHAPES.items()}


def case(seed: int) -> tuple[Mask, Weights, Weights, Weights]:
    """Return A's mask, its pruned and its dense weights, and scores of B; among them are ties."""
    trained = drawn("trained", seed)
    mask = prune_magnitude(drawn("other", seed), 0.3, names=list(SHAPES))
    return mask, mask.apply_to(drawn("pruned", seed)), trained, {n: w.abs() for n, w in drawn("b", seed).items()}


def ranks(scores: Tensor) -> Tensor:
    """By counting: how many entries an entry is not below; of equal ones the first is the higher."""
    flat = scores.flatten().tolist()
    places = [
        sum(other < one or (other == one and j >= i) for j, other in enumerate(flat)) for i, one in enumerate(flat)
    ]
    return torch.tensor(places, dtype=torch.float64) / len(flat)


def verdict(mask: Mask, pruned: Weights, trained: Weights, names: list[str]) -> Tensor:
    """A's order as one number a weight: what is kept stands above by more than any magnitude."""
    return torch.cat([torch.where(mask[n], pruned[n].abs() + 1000, trained[n].abs()).flatten() for n in names])


def by_definition(
    mask: Mask, pruned: Weights, trained: Weights, scores: Weights, share: float, scope: Room
) -> dict[str, Tensor]:
    """The formula, entry by entry."""
    found = {}
    for names in [list(mask)] if scope == "global" else [[name] for name in mask]:
        of_b = torch.cat([scores[n].flatten() for n in names])
        score = (1 - share) * ranks(verdict(mask, pruned, trained, names)) + share * ranks(of_b)
        count = sum(int(mask[n].sum()) for n in names)
        flags = torch.zeros(len(score), dtype=torch.bool)
        flags[sorted(range(len(score)), key=lambda i: (-score[i].item(), i))[:count]] = True
        parts = flags.split([mask[n].numel() for n in names])
        found |= {n: part.reshape(mask[n].shape) for n, part in zip(names, parts, strict=True)}
    return found


SCOPES: tuple[Room, ...] = ("layer", "global")


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=25)
@given(seed=st.integers(0, 200), share=st.sampled_from([0, 0.1, 0.25, 0.5, 0.8, 1]))
def test_a_polished_mask_is_that_of_the_formula(scope: Room, seed: int, share: float) -> None:
    mask, pruned, trained, scores = case(seed)
    assert polish(mask, pruned, trained, scores, share, scope) == Mask(
        by_definition(mask, pruned, trained, scores, share, scope)
    )


def check_ends(polishing: Callable[..., Mask], scope: Room, seed: int) -> None:
    mask, pruned, trained, scores = case(seed)
    assert polishing(mask, pruned, trained, scores, 0.0, scope) == mask
    alone = polishing(mask, pruned, trained, scores, 1.0, scope)
    wanted = (
        prune_magnitude(scores, mask.density, names=list(SHAPES))
        if scope == "global"
        else Mask({n: prune_magnitude(scores, float(mask[n].float().mean()), names=[n])[n] for n in mask})
    )
    assert alone == wanted


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("seed", range(4))
def test_share_0_is_the_moved_mask_and_share_1_what_b_alone_keeps(scope: Room, seed: int) -> None:
    check_ends(polish, scope, seed)


def by_the_pruned_alone(
    mask: Mask, pruned: Weights, trained: Weights, scores: Weights, share: float, scope: Room
) -> Mask:
    """Takes A's magnitude in the pruned network, where the mask's own zeros are the first of many."""
    return polish(Mask({n: w != 7 for n, w in trained.items()}), pruned, trained, scores, share, scope)


def by_the_dense_alone(
    mask: Mask, pruned: Weights, trained: Weights, scores: Weights, share: float, scope: Room
) -> Mask:
    """Takes A's magnitude in the dense network for its verdict."""
    dense = prune_magnitude(trained, mask.density, names=list(SHAPES))
    return polish(dense, trained, trained, scores, share, scope)


def other_way_round(mask: Mask, pruned: Weights, trained: Weights, scores: Weights, share: float, scope: Room) -> Mask:
    return polish(mask, pruned, trained, scores, 1 - share, scope)


@pytest.mark.parametrize("broken", [by_the_pruned_alone, by_the_dense_alone, other_way_round])
def test_the_law_of_the_ends_catches_broken_polishing(broken: Callable[..., Mask]) -> None:
    with pytest.raises((AssertionError, MaskError)):
        check_ends(broken, "global", 0)


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=25)
@given(seed=st.integers(0, 200))
def test_counts_stay_and_the_ranks_that_are_kept_go_from_a_to_b(scope: Room, seed: int) -> None:
    mask, pruned, trained, scores = case(seed)
    rooms = [list(mask)] if scope == "global" else [[name] for name in mask]
    shares = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    masks = [polish(mask, pruned, trained, scores, share, scope) for share in shares]
    for names in rooms:
        assert {sum(int(one[n].sum()) for n in names) for one in masks} == {sum(int(mask[n].sum()) for n in names)}
        of_a, of_b = (
            ranks(verdict(mask, pruned, trained, names)),
            ranks(torch.cat([scores[n].flatten() for n in names])),
        )
        kept = [torch.cat([one[n].flatten() for n in names]) for one in masks]
        for before, after in itertools.pairwise(kept):
            assert of_a[before].sum() >= of_a[after].sum() - 1e-9
            assert of_b[before].sum() <= of_b[after].sum() + 1e-9


def test_the_ranks_do_go_somewhere() -> None:
    mask, pruned, trained, scores = case(0)
    found = [polish(mask, pruned, trained, scores, share) for share in (0.0, 0.2, 0.5, 1.0)]
    assert all(one != other for one, other in itertools.pairwise(found)), "each share changes this mask"


def test_free_layers_exchange_weights_and_layers_do_not() -> None:
    mask, pruned, trained, scores = case(1)
    scores["last"] = scores["last"] + 100
    counts = {n: int(kept.sum()) for n, kept in mask.items()}
    free, bound = (polish(mask, pruned, trained, scores, 0.9, scope) for scope in ("global", "layer"))
    assert {n: int(kept.sum()) for n, kept in bound.items()} == counts
    assert int(free["last"].sum()) > counts["last"]


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    mask, pruned, trained, scores = case(0)
    with pytest.raises(MaskError, match=f"the share of B's rank is {share}, expected a number in"):
        polish(mask, pruned, trained, scores, share)


def test_scores_of_another_model_are_refused() -> None:
    mask, pruned, trained, scores = case(0)
    with pytest.raises(MaskError, match="the mask belongs to another model: it masks 'last'"):
        polish(mask, pruned, trained, {n: s for n, s in scores.items() if n != "last"})
