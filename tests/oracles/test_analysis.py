"""Analysis against scipy and brute force."""

from itertools import combinations, product

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from torch import Tensor

from reticket.analysis import (
    Stat,
    diversity,
    gap_closed,
    overlap,
    paired_difference,
    per_class_accuracy,
    per_class_change,
    seeds_needed,
    welch_interval,
)
from reticket.analysis.bootstrap import resamples
from reticket.errors import InputError, MaskError


def logits(members: int, n: int, classes: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(members * n)
    values = scale * torch.randn(members, n, classes, generator=generator)
    return values, torch.randint(0, classes, (n,), generator=generator)


def test_diversity_against_scipy() -> None:
    values, labels = logits(4, 30, 5)
    found = diversity(values, labels)
    p, y = softmax(values.double().numpy(), axis=-1), labels.numpy()
    kl, js, disagree = [], [], []
    for i, j in combinations(range(4), 2):
        for example in range(30):
            a, b = p[i, example], p[j, example]
            kl += [rel_entr(a, b).sum(), rel_entr(b, a).sum()]
            js.append(jensenshannon(a, b) ** 2)
            disagree.append(a.argmax() != b.argmax())
    assert found.kl == pytest.approx(np.mean(kl), rel=1e-10)
    assert found.js == pytest.approx(np.mean(js), rel=1e-10)
    assert found.disagreement == pytest.approx(np.mean(disagree))
    assert found.mean_accuracy == pytest.approx(100 * (p.argmax(-1) == y).mean())
    assert found.ensemble_accuracy == pytest.approx(100 * (p.mean(0).argmax(-1) == y).mean())
    assert found.js != pytest.approx(np.mean(np.sqrt(js)), rel=0.1)  # the distance is another number


def test_one_direction_of_kl_is_not_the_mean_of_both() -> None:
    two = torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]]])
    p, q = (softmax(two[i, 0].double().numpy()) for i in (0, 1))
    found = diversity(two, torch.tensor([0])).kl
    assert found == pytest.approx((rel_entr(p, q).sum() + rel_entr(q, p).sum()) / 2)
    assert found != pytest.approx(rel_entr(p, q).sum(), rel=0.05)


def test_equal_members_have_no_diversity_and_extreme_logits_stay_finite() -> None:
    values, labels = logits(1, 20, 4)
    same = diversity(values.expand(3, -1, -1), labels)
    assert (same.disagreement, same.kl, same.members) == (0, 0, 3)
    assert same.js == pytest.approx(0, abs=1e-12)
    assert same.mean_accuracy == same.ensemble_accuracy
    far = diversity(torch.tensor([[[2000.0, 0.0]], [[0.0, 2000.0]]]), torch.tensor([1]))
    assert far.js == pytest.approx(np.log(2))
    assert far.kl == pytest.approx(2000)


def test_a_single_member_has_no_pairs() -> None:
    alone = diversity(*logits(1, 20, 4))
    assert (alone.disagreement, alone.kl, alone.js) == (None, None, None)


def test_logits_and_labels_are_checked() -> None:
    values, labels = logits(2, 20, 4)
    with pytest.raises(InputError, match="NaN or infinity"):
        diversity(values / 0, labels)
    with pytest.raises(InputError, match="labels reach from 0 to 9, but the logits have 4 classes"):
        diversity(values, torch.arange(20) % 10)
    with pytest.raises(InputError, match="at least one example"):
        per_class_accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_per_class_accuracy_against_numpy() -> None:
    values, labels = logits(1, 200, 6)
    correct = values[0].numpy().argmax(-1) == labels.numpy()
    expected = tuple(100 * correct[labels.numpy() == c].mean() for c in range(6))
    assert per_class_accuracy(values[0], labels) == pytest.approx(expected)


def test_per_class_change() -> None:
    assert per_class_change((90.0, None, 50.0), (80.0, 10.0, 60.0)) == (-10.0, None, 10.0)
    with pytest.raises(InputError, match="cannot compare 1 classes with 2"):
        per_class_change((1.0,), (1.0, 2.0))


@given(st.integers(0, 50))
def test_overlap_of_independent_masks_is_chance_on_average(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rates = {"a": (0.5, 0.1), "b": (0.05, 0.6)}
    one = {name: torch.rand(300, 300, generator=generator) < pa for name, (pa, _) in rates.items()}
    two = {name: torch.rand(300, 300, generator=generator) < pb for name, (_, pb) in rates.items()}
    found = overlap(one, two)
    assert found.total.share == pytest.approx(found.total.chance, rel=0.05)
    flat = {"all": torch.cat(list(one.values()))}, {"all": torch.cat(list(two.values()))}
    assert overlap(*flat).total.chance != pytest.approx(found.total.chance, rel=0.3)  # not one density for all


def test_overlap_by_hand() -> None:
    a = {"x": torch.tensor([True, True, False, False]), "y": torch.tensor([False, False])}
    b = {"x": torch.tensor([True, False, False, False]), "y": torch.tensor([True, False])}
    found = overlap(a, b)
    assert (found.layers["x"].share, found.layers["x"].chance, found.layers["x"].kept) == (50, 25, 2)
    assert (found.layers["y"].share, found.layers["y"].chance, found.layers["y"].kept) == (None, None, 0)
    assert overlap(a, a).total.share == 100
    with pytest.raises(MaskError, match="only one of them masks 'y'"):
        overlap(a, {"x": b["x"]})
    with pytest.raises(MaskError, match=r"shapes \(4,\) and \(2,\)"):
        overlap(a, {"x": b["y"], "y": b["y"]})


def brute(gains: np.ndarray, gaps: np.ndarray, confidence: float) -> tuple[float, float]:
    n = len(gaps)
    shares = sorted(100 * gains[list(draw)].sum() / gaps[list(draw)].sum() for draw in product(range(n), repeat=n))
    skip = int(np.ceil((1 - confidence) / 2 * len(shares) - 1e-9)) - 1
    return shares[skip], shares[len(shares) - 1 - skip]


@given(st.integers(2, 5), st.integers(0, 100), st.sampled_from([0.8, 0.95]))
def test_the_bootstrap_interval_is_that_of_all_resamples(n: int, seed: int, confidence: float) -> None:
    rng = np.random.default_rng(seed)
    naive = rng.normal(90, 1, n)
    lth, other = naive + rng.uniform(2, 5, n), naive + rng.normal(2, 1, n)
    found = gap_closed(lth.tolist(), naive.tolist(), other.tolist(), confidence=confidence)
    low, high = brute(other - naive, lth - naive, confidence)
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((low, high))
    assert found.share == pytest.approx(100 * (other - naive).mean() / (lth - naive).mean())
    assert found.left == pytest.approx((lth - other).mean())


@given(st.integers(3, 8), st.integers(0, 100), st.sampled_from([0.8, 0.95]))
def test_the_interval_holds_the_shares_that_a_t_test_does_not_reject(n: int, seed: int, confidence: float) -> None:
    rng = np.random.default_rng(seed)
    gaps = rng.uniform(3, 5, n)
    gains = 0.6 * gaps + rng.normal(0, 0.5, n)
    found = gap_closed(gaps.tolist(), [0.0] * n, gains.tolist(), confidence=confidence)
    assert found.low is not None
    assert found.high is not None

    def p_value(share: float) -> float:
        left = gains - share / 100 * gaps
        return 2 * float(scipy.stats.t.sf(abs(left.mean() / scipy.stats.sem(left)), n - 1))

    assert p_value(found.low) == pytest.approx(1 - confidence)
    assert p_value(found.high) == pytest.approx(1 - confidence)
    assert found.low < (found.share or 0) < found.high
    bounds = scipy.stats.t.interval(confidence, n - 1, gaps.mean(), scipy.stats.sem(gaps))
    assert (found.gap_low, found.gap_high) == pytest.approx(bounds)


@pytest.mark.parametrize(("n", "least", "most"), [(3, 0.70, 0.82), (5, 0.80, 0.90)])
def test_the_interval_covers_what_it_claims_and_the_bootstrap_does_not(n: int, least: float, most: float) -> None:
    rng, share, trials = np.random.default_rng(n), 60.0, 500
    held, drawn = [], []
    for _ in range(trials):
        lth, naive, other = rng.normal(96, 0.3, n), rng.normal(92, 0.4, n), rng.normal(94.4, 0.4, n)
        found = gap_closed(lth.tolist(), naive.tolist(), other.tolist())
        held += [found.low <= share <= found.high] if found.low is not None and found.high is not None else []
        drawn += (
            [found.bootstrap_low <= share <= (found.bootstrap_high or 0)] if found.bootstrap_low is not None else []
        )
    assert len(held) > 0.95 * trials
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)  # three standard errors of the simulation
    assert least < np.mean(drawn) < most


def test_counted_resamples_are_a_distribution() -> None:
    for n in (2, 3, 6):
        draws, weights = resamples(n, 1, 0)
        assert weights.sum() == pytest.approx(1)
        assert (draws.sum(1) == n).all()
        np.testing.assert_allclose(weights @ draws, 1)


def test_drawn_resamples_agree_with_counted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    naive = rng.normal(90, 0.5, 7)
    lth, other = (naive + rng.uniform(3, 5, 7)).tolist(), (naive + rng.uniform(1, 3, 7)).tolist()
    drawn = gap_closed(lth, naive.tolist(), other, resamples=40_000)
    assert drawn == gap_closed(lth, naive.tolist(), other, resamples=40_000)
    assert drawn != gap_closed(lth, naive.tolist(), other, resamples=40_000, seed=1)
    monkeypatch.setattr("reticket.analysis.bootstrap.EXACT_UP_TO", 7)
    counted = gap_closed(lth, naive.tolist(), other)
    ends = (drawn.bootstrap_low, drawn.bootstrap_high)
    assert ends == pytest.approx((counted.bootstrap_low, counted.bootstrap_high), rel=0.02)


def test_pairing_matters() -> None:
    naive, lth, other = [80.0, 90.0, 95.0], [84.0, 94.0, 99.0], [82.0, 92.0, 97.0]
    paired = gap_closed(lth, naive, other)
    assert (paired.share, paired.low, paired.high) == pytest.approx((50, 50, 50))
    assert (paired.bootstrap_low, paired.bootstrap_high) == (50, 50)
    assert (gap_closed(lth, naive, other[::-1]).low or 0) < 0


def test_the_ends_of_the_scale_are_exact() -> None:
    lth, naive = [97.0, 96.5, 97.5], [93.0, 94.0, 92.0]
    assert gap_closed(lth, naive, lth).share == 100
    assert gap_closed(lth, naive, naive).share == 0


def test_where_there_is_no_interval_the_reason_is_said() -> None:
    one = gap_closed([97.0], [93.0], [96.0])
    assert (one.share, one.low, one.high, one.gap_low, one.left) == (75, None, None, None, 1)
    assert one.reason == "one seed has no interval"
    none = gap_closed([90.0, 91.0], [92.0, 91.0], [91.0, 91.0])
    assert (none.share, none.low, none.gap) == (None, None, -1)
    assert none.reason == "the gap is -1.00 points, not positive"
    unsure = gap_closed([94.0, 90.0, 91.0], [92.0, 91.0, 90.5], [91.0, 91.0, 91.0])
    assert unsure.share is not None
    assert (unsure.low, unsure.high) == (None, None)
    assert "reaches 0" in unsure.reason


def test_gap_inputs_are_checked() -> None:
    with pytest.raises(InputError, match="got 1, 2 and 1 values"):
        gap_closed([1.0], [1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="at least one seed"):
        gap_closed([], [], [])
    with pytest.raises(InputError, match="leave out the seed that failed"):
        gap_closed([float("nan")], [1.0], [1.0])
    with pytest.raises(InputError, match=r"confidence 95.0 is not in"):
        gap_closed([1.0], [1.0], [1.0], confidence=95.0)
    with pytest.raises(InputError, match="resamples 0 is below 1"):
        gap_closed([1.0], [1.0], [1.0], resamples=0)


def test_stat_against_numpy() -> None:
    values = [91.5, 90.25, 92.0, 89.0]
    stat = Stat.of(values)
    assert stat.mean == pytest.approx(np.mean(values))
    assert stat.sd == pytest.approx(np.std(values, ddof=1))
    assert stat.sd != pytest.approx(np.std(values))
    assert stat.as_dict() == {"n": 4, "mean": stat.mean, "sd": stat.sd, "values": values}
    assert Stat.of([1.0]).sd is None
    with pytest.raises(InputError, match="at least one value"):
        Stat.of([])
    with pytest.raises(InputError, match="met nan"):
        Stat.of([1.0, float("nan")])


def test_a_paired_difference_is_that_of_scipy() -> None:
    draw = np.random.default_rng(5)
    one, other = draw.normal(92, 1, 7), draw.normal(91, 1, 7)
    found = paired_difference(one.tolist(), other.tolist(), confidence=0.9)
    expected = scipy.stats.ttest_rel(one, other).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n, found.confidence) == (7, 0.9)
    assert found.sd == pytest.approx(float(np.std(one - other, ddof=1)))
    assert found.settled == (found.low > 0 or found.high < 0)
    back = paired_difference(other.tolist(), one.tolist(), confidence=0.9)
    assert (back.low, back.high, back.seeds) == (-found.high, -found.low, found.seeds)


def test_a_settled_difference_needs_no_seeds_and_no_difference_none() -> None:
    assert paired_difference([92.0, 93.0, 94.0], [90.0, 91.1, 91.9]).seeds is None
    same = paired_difference([92.0, 93.0], [92.0, 93.0])
    assert (same.mean, same.sd, same.settled, same.seeds) == (0.0, 0.0, False, None)
    with pytest.raises(InputError, match="paired values are needed, got 2 and 3; give both for the same seeds"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match=r"a mean and a standard deviation above 0 are needed, got 1\.0 and 0\.0"):
        seeds_needed(1.0, 0.0)


def test_the_seeds_needed_are_those_of_tables_of_power() -> None:
    assert [seeds_needed(effect, 1.0) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]  # G*Power, two-tailed, paired
    assert seeds_needed(-0.5, 1.0) == 34


@pytest.mark.parametrize("effect", [0.6, 1.0, 1.7])
def test_so_many_seeds_settle_the_sign_in_four_of_five_experiments(effect: float) -> None:
    n = seeds_needed(effect, 1.0)
    assert n is not None
    draw = np.random.default_rng(0)

    def settled(n: int) -> float:
        values = draw.normal(effect, 1, (20_000, n))
        half = scipy.stats.t.ppf(0.975, n - 1) * values.std(1, ddof=1) / np.sqrt(n)
        return float((values.mean(1) > half).mean())

    assert settled(n) > 0.79
    assert settled(n - 1) < 0.81


@given(
    one=st.lists(st.floats(-100, 100), min_size=2, max_size=6),
    other=st.lists(st.floats(-100, 100), min_size=2, max_size=6),
    confidence=st.sampled_from([0.8, 0.95]),
)
def test_welch_interval_is_scipys(one: list[float], other: list[float], confidence: float) -> None:
    assume(min(np.ptp(one), np.ptp(other)) > 0.01)  # scipy warns of lost precision below
    expected = scipy.stats.ttest_ind(one, other, equal_var=False).confidence_interval(confidence)
    np.testing.assert_allclose(
        welch_interval(one, other, confidence), [expected.low, expected.high], rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("tiny", [0.0, 7.584628057862787e-154])
def test_an_interval_without_spread_is_a_point(tiny: float) -> None:
    np.testing.assert_allclose(welch_interval([2.0, 2.0], [0.0, tiny]), [2.0, 2.0])


def test_an_interval_of_one_value_is_refused() -> None:
    with pytest.raises(InputError, match="an interval needs two values of either, got 2 and 1"):
        welch_interval([1.0, 2.0], [1.0])
