"""Exact counts whatever the scope, and a least that every layer keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reticket.errors import MaskError
from reticket.tickets import Mask, erk_counts, kept_count, prune, prune_magnitude
from reticket.tickets.ranking import Budget

SHAPES = {"conv": (8, 4, 3, 3), "wide": (20, 30), "small": (6, 5), "experts": (3, 6, 7)}


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


@given(st.floats(0.1, 1.0))
def test_erk_gives_the_densities_of_the_formula_and_the_exact_total(density: float) -> None:
    state = weights()
    total = kept_count(density, sum(w.numel() for w in state.values()))
    mask = prune_magnitude(state, density, names=state, scope="erk")
    assert mask.kept == total
    assert {name: int(kept.sum()) for name, kept in mask.items()} == erk_counts(SHAPES, density)
    # eps (sum of sizes) / (their product), 1 at most: one eps for all that are not dense
    eps = {n: int(mask[n].sum()) / sum(shape) for n, shape in SHAPES.items() if not mask[n].all()}
    for name, one in eps.items():
        assert abs(one - min(eps.values())) <= 1 / sum(SHAPES[name]) + 1 / min(map(sum, SHAPES.values()))


def test_erk_keeps_the_largest_of_each_layer() -> None:
    state = weights()
    mask = prune_magnitude(state, 0.3, names=state, scope="erk")
    for name, weight in state.items():
        kept = mask[name]
        if not kept.all():
            assert weight.abs()[kept].min() >= weight.abs()[~kept].max()


def spiked() -> dict[str, Tensor]:
    """Weights of which one layer is so small that magnitude prunes all of it."""
    return {**weights(), "small": weights()["small"] * 1e-3}


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_a_layer_keeps_its_least_and_the_total_stays_exact(scope: str) -> None:
    state = spiked()
    free = prune(state, 0.2, names=state, scope=scope)  # pyright: ignore[reportArgumentType]
    held = prune(state, 0.2, names=state, scope=scope, max_sparsity={"small": 0.1, "conv": 0.7})  # pyright: ignore
    assert held.kept == free.kept == kept_count(0.2, free.numel)
    assert int(held["small"].sum()) >= 27
    assert int(held["conv"].sum()) >= kept_count(0.3, free["conv"].numel())
    assert free["small"].sum() < 27 or scope == "erk"
    least = state["small"].abs()[held["small"]].min()
    assert (state["small"].abs() > least).sum() < 30 - 3 + 1


def test_without_the_least_magnitude_prunes_the_small_layer_whole() -> None:
    mask = prune_magnitude(spiked(), 0.2, names=SHAPES)
    assert int(mask["small"].sum()) == 0
    assert int(prune(spiked(), 0.2, names=SHAPES, max_sparsity=0.9)["small"].sum()) == 3


def test_beyond_the_least_the_largest_of_all_are_kept() -> None:
    state = spiked()
    held = prune(state, 0.2, names=state, max_sparsity={"small": 0.9})
    rest = {name: weight for name, weight in state.items() if name != "small"}
    total = held.kept - int(held["small"].sum())
    expected = prune_magnitude(rest, total / sum(w.numel() for w in rest.values()), names=rest)
    assert all(torch.equal(held[name], expected[name]) for name in rest)


def test_rounds_of_magnitude_end_where_one_step_does() -> None:
    state = weights()
    assert prune(state, 0.1, names=state, rounds=7) == prune(state, 0.1, names=state)
    earlier = prune(state, 0.5, names=state)
    assert prune(state, 0.1, within=earlier, rounds=4) == prune(state, 0.1, names=state)


def test_what_cannot_be_is_refused() -> None:
    state = weights()
    with pytest.raises(MaskError, match=r"max_sparsity keeps at least 1044 weights, but density 0.2 only 209; allow"):
        prune(state, 0.2, names=state, max_sparsity=0.0)
    with pytest.raises(MaskError, match=r"max_sparsity 1.0 is not in \[0, 1\)"):
        Budget(0.5, max_sparsity=1.0)
    with pytest.raises(MaskError, match=r"max_sparsity 'smal' fits none of the 4 weights, did you mean 'small'"):
        prune(state, 0.5, names=state, max_sparsity={"smal": 0.5})
    within = Mask({name: torch.zeros(shape, dtype=torch.bool) for name, shape in SHAPES.items()})
    within = Mask({**within, "wide": torch.ones(20, 30, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"max_sparsity 0.5 keeps 15 weights in 'small', but `within` only has 0"):
        prune(state, 0.1, within=within, max_sparsity={"small": 0.5})
    with pytest.raises(MaskError, match="rounds is 0, expected at least 1"):
        prune(state, 0.1, names=state, rounds=0)
