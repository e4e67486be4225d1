"""Iterative magnitude pruning: the chain is the same whatever the targets, leaves are exact."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reticket.errors import MaskError
from reticket.tickets import STYLES, Mask, Round, chain, iterative_magnitude_pruning, kept_count, prune_round
from reticket.types import StateDict

Weights = dict[str, Tensor]


def weights(seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(40, 50, generator=generator),
        "b": torch.randn(500, generator=generator),
        "bias": torch.ones(3),
    }


def retrain(start: StateDict, mask: Mask, step: Round) -> Weights:
    """Stand in for training: move the kept weights in a way that changes their order."""
    noise = weights(1000 + step.number)
    return mask.apply_to({name: tensor + noise[name] for name, tensor in start.items()})


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5), st.floats(0.05, 0.6))
def test_every_leaf_branches_from_the_last_round_above_it(targets: list[float], rate: float) -> None:
    plan = chain(targets, rate)
    assert plan.densities == tuple((1 - rate) ** n for n in range(len(plan.densities)))
    assert [leaf.density for leaf in plan.leaves] == sorted(set(targets), reverse=True)
    for leaf in plan.leaves:
        assert plan.densities[leaf.branches_from] > leaf.density
        assert (1 - rate) ** (leaf.branches_from + 1) <= leaf.density * (1 + 1e-9)
    assert len(plan.densities) - 1 == plan.leaves[-1].branches_from


def test_a_target_that_is_a_round_branches_from_the_round_before() -> None:
    assert chain([0.8]).leaves[0].branches_from == 0
    assert chain([0.64]).leaves[0].branches_from == 1
    assert chain([0.8**9]).leaves[0].branches_from == 8


def test_paper_targets() -> None:
    plan = chain([1 - 0.9, 1 - 0.95, 1 - 0.98])
    assert [leaf.branches_from for leaf in plan.leaves] == [10, 13, 17]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_leaves_are_exact_and_do_not_depend_on_the_other_targets(style: str, scope: str) -> None:
    settings = {"names": ["a", "b"], "style": style, "rewound": weights(7), "scope": scope}
    together = iterative_magnitude_pruning(weights(0), [0.5, 0.1, 0.05], retrain, **settings)  # pyright: ignore[reportArgumentType]
    alone = iterative_magnitude_pruning(weights(0), [0.1], retrain, **settings)  # pyright: ignore[reportArgumentType]
    assert list(together) == [0.5, 0.1, 0.05]
    for density, network in together.items():
        assert network.mask.kept == kept_count(density, 2500)
    assert together[0.1].mask == alone[0.1].mask
    for name, tensor in alone[0.1].weights.items():
        torch.testing.assert_close(together[0.1].weights[name], tensor, rtol=0, atol=0)


def test_the_driver_is_rounds_of_prune_round() -> None:
    names, plan = ["a", "b"], chain([0.3])
    current, mask = weights(0), None
    for number, density in enumerate([*plan.densities[1:], 0.3], start=1):
        start = prune_round(current, density, names=names, within=mask)
        mask = start.mask
        current = retrain(start.weights, mask, Round(number, density, is_leaf=number == len(plan.densities)))
    driven = iterative_magnitude_pruning(weights(0), [0.3], retrain, names=names)[0.3]
    assert driven.mask == mask
    torch.testing.assert_close(driven.weights["a"], current["a"], rtol=0, atol=0)


def test_rounds_are_told_their_number_density_and_whether_they_are_leaves() -> None:
    seen: list[Round] = []

    def record(start: StateDict, mask: Mask, step: Round) -> StateDict:
        seen.append(step)
        return start

    iterative_magnitude_pruning(weights(0), [0.7, 0.55], record, names=["a"])
    assert [(step.number, step.is_leaf) for step in seen] == [(1, False), (2, True), (2, False), (3, True)]


def test_styles_start_from_trained_or_rewound_weights() -> None:
    trained, rewound = weights(0), weights(7)
    for style, source in (("finetune", trained), ("lr-rewind", trained), ("weight-rewind", rewound)):
        start = prune_round(trained, 0.5, names=["a"], style=style, rewound=rewound)  # pyright: ignore[reportArgumentType]
        kept = start.mask["a"]
        torch.testing.assert_close(start.weights["a"][kept], source["a"][kept], rtol=0, atol=0)
        assert (start.weights["a"][~kept] == 0).all()
        again = prune_round(trained, 0.5, names=["a"]).mask
        torch.testing.assert_close(kept, again["a"])


def test_retraining_that_revives_pruned_weights_is_caught() -> None:
    with pytest.raises(MaskError, match="pruned weights of 'a' are not 0"):
        iterative_magnitude_pruning(weights(0), [0.5], lambda start, mask, step: weights(1), names=["a"])
