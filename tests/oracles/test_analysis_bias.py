"""Exemplars against counting by hand and leaving out for real; tests of classes against scipy and by simulation."""

from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from reticket.analysis import accuracy_on, changed_classes, exemplars, modal_prediction
from reticket.analysis.class_tests import holm
from reticket.errors import InputError


def votes(seed: int, networks: int, n: int = 40, classes: int = 4) -> torch.Tensor:
    return torch.randint(classes, (networks, n), generator=torch.Generator().manual_seed(seed))


def by_hand(column: list[int]) -> int | None:
    ranked = Counter(column).most_common(2)
    return None if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]


@given(st.integers(0, 200), st.integers(1, 6))
def test_modes_are_those_counted_by_hand(seed: int, networks: int) -> None:
    predictions = votes(seed, networks)
    found = modal_prediction(predictions, 4)
    for index, column in enumerate(predictions.T.tolist()):
        expected = by_hand(column)
        assert (expected is None) == (found.margin[index].item() == 0)
        assert expected in (None, found.mode[index].item())
        assert found.votes[index].item() == max(Counter(column).values())


@given(st.integers(0, 200), st.integers(1, 5), st.integers(1, 5))
def test_exemplars_by_hand_and_their_stability_by_leaving_out(seed: int, before: int, after: int) -> None:
    dense, sparse = votes(seed, before), votes(seed + 1000, after)
    found = exemplars(dense, sparse, 4)
    for index in range(dense.shape[1]):
        modes = by_hand(dense[:, index].tolist()), by_hand(sparse[:, index].tolist())
        assert found.found[index].item() == (None not in modes and modes[0] != modes[1])
        assert found.undecided[index].item() == (None in modes)
    stays = found.found.clone() if min(before, after) > 1 else torch.zeros_like(found.found)
    if min(before, after) > 1:
        for gone in range(before):
            stays &= same_exemplars(found.dense.mode, found.sparse.mode, exemplars(without(dense, gone), sparse, 4))
        for gone in range(after):
            stays &= same_exemplars(found.dense.mode, found.sparse.mode, exemplars(dense, without(sparse, gone), 4))
    assert torch.equal(found.stable, stays)


def without(predictions: torch.Tensor, gone: int) -> torch.Tensor:
    return torch.cat([predictions[:gone], predictions[gone + 1 :]])


def same_exemplars(dense: torch.Tensor, sparse: torch.Tensor, other) -> torch.Tensor:
    return other.found & (other.dense.mode == dense) & (other.sparse.mode == sparse)


def test_the_order_of_networks_and_names_of_classes_do_not_matter() -> None:
    dense, sparse = votes(3, 5), votes(4, 5)
    found = exemplars(dense, sparse, 4)
    assert torch.equal(exemplars(dense.flip(0), sparse.roll(2, 0), 4).found, found.found)
    renamed = torch.tensor([2, 0, 3, 1])
    assert torch.equal(exemplars(renamed[dense], renamed[sparse], 4).found, found.found)
    assert torch.equal(exemplars(sparse, dense, 4).found, found.found)
    assert not exemplars(dense, dense, 4).found.any()


def test_modes_of_the_first_network_alone_would_be_seen() -> None:
    dense, sparse = votes(3, 5), votes(4, 5)
    assert not torch.equal(dense[0] != sparse[0], exemplars(dense, sparse, 4).found)


def test_accuracy_on_a_part() -> None:
    predictions, labels = votes(1, 3), votes(2, 1)[0]
    where = votes(5, 1)[0] > 1
    expected = [100 * float((row[where] == labels[where]).float().mean()) for row in predictions]
    assert accuracy_on(predictions, labels, where) == pytest.approx(expected, rel=1e-6)
    assert accuracy_on(predictions, labels, torch.zeros(40, dtype=torch.bool)) == ()


def test_inputs_of_modes_are_checked() -> None:
    with pytest.raises(InputError, match="at least one network and one example"):
        modal_prediction(torch.zeros(0, 3, dtype=torch.int64), 2)
    with pytest.raises(InputError, match="reach from 0 to 3, but there are 3 classes"):
        modal_prediction(torch.tensor([[0, 3]]), 3)


def test_p_values_against_scipy() -> None:
    changes = np.random.default_rng(0).normal(-1, 1, (6, 5))
    found = changed_classes(changes.tolist())
    expected = scipy.stats.ttest_1samp(changes, 0.0, axis=1)
    assert found.p == pytest.approx(tuple(np.asarray(expected)[1]))
    relative = scipy.stats.ttest_1samp(changes - changes.mean(0), 0.0, axis=1)
    assert found.p_relative == pytest.approx(tuple(np.asarray(relative)[1]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_what_its_adjusted_p_values_reject(p: list[float], level: float) -> None:
    order = sorted(range(len(p)), key=lambda index: p[index])
    adjusted, running = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        running = max(running, p[index] * (len(p) - rank))
        adjusted[index] = running
    near = [abs(value - level) < 1e-9 for value in adjusted]
    assert [a for a, close in zip(holm(p, level), near, strict=True) if not close] == [
        value <= level for value, close in zip(adjusted, near, strict=True) if not close
    ]


def test_without_an_effect_a_class_is_claimed_at_most_as_often_as_the_level_says() -> None:
    """Without the correction one of ten classes would be claimed in about 40 of 100 experiments."""
    rng = np.random.default_rng(1)
    changes = rng.normal(0, 1, (600, 10, 4))
    claims = [changed_classes(one.tolist()) for one in changes]
    assert np.mean([any(one.changed) for one in claims]) < 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5
    assert np.mean([min(one.p) < 0.05 for one in claims]) > 0.3


def test_inputs_of_the_test_of_classes_are_checked() -> None:
    with pytest.raises(InputError, match="got 1 classes over 3 seeds"):
        changed_classes([[1.0, 2.0, 3.0]])
    with pytest.raises(InputError, match="got 2 classes over 1, 2 seeds"):
        changed_classes([[1.0], [1.0, 2.0]])
    with pytest.raises(InputError, match="leave out the seed that failed"):
        changed_classes([[1.0, 2.0], [1.0, float("nan")]])
    with pytest.raises(InputError, match="got 1 for 2 classes"):
        changed_classes([[1.0, 2.0], [1.0, 3.0]], steps=[2.0])


def test_seeds_that_agree_to_the_image_are_no_proof() -> None:
    agreeing = [[-2.0, -2.0, -2.0], *([[0.0, 2.0, -2.0]] * 9)]
    assert changed_classes(agreeing).p[0] == 1.0
    assert not changed_classes(agreeing, steps=[2.0] * 10).changed[0]
    assert changed_classes(agreeing, steps=[0.1] * 10).changed[0]  # of 1,000 images that would be 20
    p = changed_classes(agreeing, steps=[2.0] * 10).p[0]
    assert p == pytest.approx(2 * scipy.stats.t.sf(2 * 3**0.5 / (2 / 12**0.5), 2))
