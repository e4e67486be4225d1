"""Claims against scipy, the exact test by flipped signs, a step-down procedure written as a procedure, and a table."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from reticket.analysis import holm_adjusted, paired_difference, paired_t_test, settle_claims
from reticket.errors import InputError

Adjust = Callable[[Sequence[float]], Sequence[float]]
probabilities = st.lists(st.floats(0, 1), max_size=8)


def differences(n: int, mean: float, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(mean, 1.0, n).tolist()


def test_the_paired_test_is_that_of_scipy() -> None:
    for n, mean in ((2, 0.3), (5, 1.0), (30, 0.4), (30, -2.0)):
        values = differences(n, mean)
        assert paired_t_test(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0.0)[1], rel=1e-9)
        assert paired_t_test([-value for value in values]) == paired_t_test(values)


def flipped_signs(values: Sequence[float]) -> float:
    """Return the exact p: the share of all ways to choose signs whose mean is at least as far from 0."""
    seen = abs(math.fsum(values))
    signs = product((1, -1), repeat=len(values))
    sums = [abs(math.fsum(s * v for s, v in zip(chosen, values, strict=True))) for chosen in signs]
    return sum(total >= seen - 1e-12 for total in sums) / len(sums)


def check_against_the_exact(test: Callable[[Sequence[float]], float]) -> None:
    for mean, seed in ((0.2, 1), (0.6, 2), (1.0, 3), (-0.8, 4)):
        values = differences(10, mean, seed)
        exact = flipped_signs(values)
        assert abs(test(values) - exact) < 0.15 * exact + 0.01


def test_the_paired_test_agrees_with_the_exact_one_by_flipped_signs() -> None:
    check_against_the_exact(paired_t_test)
    with pytest.raises(AssertionError):  # one-sided
        check_against_the_exact(lambda values: paired_t_test(values) / 2)


def test_equal_differences_have_the_p_of_flipped_signs_and_not_0() -> None:
    for n in (2, 3, 7):
        assert paired_t_test([0.5] * n) == flipped_signs([0.5] * n) == 2.0 ** (1 - n)
    assert paired_t_test([0.0, 0.0, 0.0]) == 1.0


@pytest.mark.parametrize("images", [500, 1000, 2000])
def test_equal_differences_of_counts_are_equal_whatever_their_last_bits(images: int) -> None:
    """3 of 500 images more are .6 points or .6000000000000085, by what they are more than."""
    rng = np.random.default_rng(images)
    for _ in range(50):
        counts = rng.integers(0, images - 3, size=3)
        one, other = ([100 * (int(count) + more) / images for count in counts] for more in (3, 0))
        differences = [a - b for a, b in zip(one, other, strict=True)]
        assert paired_t_test(differences) == 0.25
        assert not paired_difference(one, other).settled
    many = paired_difference([float(k % 7) + 0.6 for k in range(12)], [float(k % 7) for k in range(12)])
    assert many.settled
    assert many.low == many.high == pytest.approx(0.6)


# -------------------------------------------------------------------- Holm


def rejected_step_by_step(p_values: Sequence[float], level: float) -> set[int]:
    """Return what Holm's procedure rejects: the smallest p at level / m, then level / (m - 1), until one fails."""
    left, rejected = set(range(len(p_values))), set[int]()
    while left:
        place = min(left, key=lambda one: p_values[one])
        if len(left) * p_values[place] >= level:
            break
        rejected.add(place)
        left.remove(place)
    return rejected


def check_holm(adjust: Adjust, p_values: Sequence[float]) -> None:
    adjusted = adjust(p_values)
    for level in (0.01, 0.05, 0.2, *(p * len(p_values) for p in p_values)):
        found = {place for place, p in enumerate(adjusted) if p < level}
        if 0 < level < 1:
            assert found == rejected_step_by_step(p_values, level)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))


@given(probabilities)
def test_adjusted_p_reject_what_the_procedure_rejects(p_values: list[float]) -> None:
    check_holm(holm_adjusted, p_values)


TABLE = ([0.001, 0.02, 0.011, 0.5, 0.012], [0.005, 0.044, 0.044, 0.5, 0.044])  # 5, then 4, 3, 2 times: .044 .036 .04


def test_adjusted_p_by_hand() -> None:
    given_p, adjusted = TABLE
    assert holm_adjusted(given_p) == pytest.approx(adjusted)
    assert holm_adjusted([]) == ()
    assert holm_adjusted([0.3, 0.4]) == (0.6, 0.6)
    assert holm_adjusted([0.7]) == (0.7,)


def bonferroni(p_values: Sequence[float]) -> list[float]:
    return [min(1.0, len(p_values) * p) for p in p_values]


def without_steps(p_values: Sequence[float]) -> list[float]:
    """As Holm's, but a larger p may end below a smaller one."""
    order = sorted(p_values)
    return [min(1.0, (len(order) - order.index(p)) * p) for p in p_values]


@pytest.mark.parametrize("adjust", [bonferroni, without_steps, lambda p_values: p_values])
def test_other_adjustments_are_told_apart(adjust: Adjust) -> None:
    with pytest.raises(AssertionError):
        check_holm(adjust, [0.03, 0.031, 0.2])


# -------------------------------------------------------------------- claims


def test_claims_are_settled_by_their_sign_after_the_adjustment() -> None:
    better, worse, unclear = differences(20, 3.0), differences(20, -3.0), differences(20, 0.05)
    up, down, open_ = settle_claims([better, worse, unclear])
    assert (up.verdict, down.verdict, open_.verdict) == ("for", "against", "open")
    assert (up.adjusted, down.adjusted, open_.adjusted) == holm_adjusted([up.p, down.p, open_.p])
    assert up.mean == pytest.approx(np.mean(better))
    assert (up.low, up.high) == pytest.approx(
        scipy.stats.t.interval(0.95, 19, np.mean(better), scipy.stats.sem(better))
    )


def test_a_claim_among_many_needs_more_than_one_alone() -> None:
    values = differences(10, 1.05, seed=5)
    alone = settle_claims([values])[0]
    among = settle_claims([values, *([[]] * 9)])[0]
    assert (alone.p, alone.verdict, among.verdict) == (among.p, "for", "open")
    assert among.adjusted == pytest.approx(10 * among.p)


def test_too_few_seeds_are_open_and_count() -> None:
    none, one, many = settle_claims([[], [2.0], differences(10, 3.0)])
    assert (none.n, none.mean, none.p, none.verdict) == (0, None, 1.0, "open")
    assert (one.n, one.mean, one.sd, one.low, one.p, one.verdict) == (1, 2.0, None, None, 1.0, "open")
    assert many.adjusted == pytest.approx(3 * many.p)


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(InputError, match="at least two seeds, got one"):
        paired_t_test([1.0])
    with pytest.raises(InputError, match="met inf"):
        settle_claims([[1.0, math.inf]])
    with pytest.raises(InputError, match=r"level is 1\.0, expected a probability between 0 and 1"):
        settle_claims([[1.0, 2.0]], level=1.0)
    with pytest.raises(InputError, match=r"a p value is 1\.5, expected a probability"):
        holm_adjusted([0.5, 1.5])
