"""Streaming moments against numpy on all data at once, and assignments against brute force."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from reticket.matching.assignment import assign, correlation, cosine, covariance, matched_and_margin, pooled
from reticket.matching.moments import BLOCK, CHUNK, LONG, NARROW, TILE, CentredBatch, PairMoments, centre, centred
from reticket.rng import generator_for


def pair(units: int, samples: int, *, mean: float = 0.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return correlated units, spread about 1, around a mean that differs from unit to unit."""
    generator = generator_for("pair", units, samples)
    a = torch.randn(units, samples, generator=generator, dtype=dtype)
    b = torch.randn(units, samples, generator=generator, dtype=dtype) + a.roll(1, 0)
    drift = torch.linspace(0, 2, samples, dtype=dtype)
    shift = mean * (1 + torch.arange(units, dtype=dtype)[:, None])
    return a + shift + drift, b + 2 * shift - drift


def streamed(a: Tensor, b: Tensor, sizes: list[int]) -> PairMoments:
    moments = PairMoments(a.shape[0], b.shape[0])
    for part_a, part_b in zip(a.split(sizes, 1), b.split(sizes, 1), strict=True):
        moments.update(centre(part_a), centre(part_b))
    return moments


def numpy_correlation(a: Tensor, b: Tensor) -> np.ndarray:
    both = np.corrcoef(a.double().numpy(), b.double().numpy())
    return both[: len(a), len(a) :]


@pytest.mark.parametrize("sizes", [[600], [1, 599], [7] * 85 + [5], [1] * 600])
@pytest.mark.parametrize(("mean", "dtype"), [(0.0, torch.float32), (1e4, torch.float32), (1e8, torch.float64)])
def test_correlation_is_numpys_however_the_data_are_cut(sizes: list[int], mean: float, dtype: torch.dtype) -> None:
    a, b = pair(5, 600, mean=mean, dtype=dtype)
    moments = streamed(a, b, sizes)
    assert moments.samples == 600
    np.testing.assert_allclose(correlation(moments), numpy_correlation(a, b), atol=2e-6)
    np.testing.assert_allclose(moments.a.mean, a.double().numpy().mean(1), rtol=1e-6)
    np.testing.assert_allclose(moments.a.variance, a.double().numpy().var(1), rtol=1e-5)


def test_correlation_in_float64_is_exact_to_rounding() -> None:
    a, b = pair(6, 400, mean=3.0, dtype=torch.float64)
    np.testing.assert_allclose(correlation(streamed(a, b, [150, 250])), numpy_correlation(a, b), atol=1e-13)


def test_more_samples_than_one_product_takes() -> None:
    a, b = pair(3, 2 * CHUNK + 17)
    np.testing.assert_allclose(correlation(streamed(a, b, [2 * CHUNK + 17])), numpy_correlation(a, b), atol=2e-6)


@pytest.mark.parametrize("units", [1, 3, NARROW, NARROW + 1])
@pytest.mark.parametrize("beyond", [-1, 0, 1, TILE**2 + 5])
def test_few_units_that_lie_side_by_side_over_many_samples(units: int, beyond: int) -> None:
    """Channels that lie last, whose products are a convolution's from some number of samples on."""
    a, b = (one.T.contiguous().T for one in pair(units, LONG + beyond, mean=5.0))
    expected = (a.double() - a.double().mean(1, keepdim=True)) @ (b.double() - b.double().mean(1, keepdim=True)).T
    moments = streamed(a, b, [LONG + beyond])
    np.testing.assert_allclose(moments.cross, expected, rtol=1e-5, atol=1e-6 * a.shape[1])
    np.testing.assert_allclose(correlation(moments), numpy_correlation(a, b), atol=1e-5)


def test_squares_of_more_numbers_than_are_taken_at_once() -> None:
    a, _ = pair(7, BLOCK // 3, mean=1e3)
    for units in (a, a.T.contiguous().T):
        np.testing.assert_allclose(centre(units).squares, a.double().var(1, correction=0) * a.shape[1], rtol=1e-6)


def uncentred(a: Tensor, b: Tensor) -> np.ndarray:
    """Return the correlation from raw float32 sums, the formula that large means destroy."""
    n = a.shape[1]
    cross = a @ b.T - n * torch.outer(a.mean(1), b.mean(1))
    squares = [(x * x).sum(1) - n * x.mean(1).square() for x in (a, b)]
    return (cross / torch.outer(squares[0], squares[1]).abs().sqrt().clamp_min(1e-30)).numpy()


def mean_of_batches(a: Tensor, b: Tensor, sizes: list[int]) -> np.ndarray:
    """Return the mean of per-batch correlations, the biased way."""
    parts = zip(a.split(sizes, 1), b.split(sizes, 1), strict=True)
    return np.mean([numpy_correlation(x, y) for x, y in parts], axis=0)


def test_the_oracle_can_fail() -> None:
    a, b = pair(5, 600, mean=1e4)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(uncentred(a, b), numpy_correlation(a, b), atol=2e-6)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(mean_of_batches(a, b, [100] * 6), numpy_correlation(a, b), atol=2e-6)

    class Unmerged(PairMoments):
        def update(self, a: CentredBatch, b: CentredBatch) -> None:
            cross = self.cross + a.values.double() @ b.values.double().T
            super().update(a, b)
            self.cross = cross  # the means of the batches are forgotten

    broken = Unmerged(5, 5)
    for part_a, part_b in zip(a.split(100, 1), b.split(100, 1), strict=True):
        broken.update(centre(part_a), centre(part_b))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(correlation(broken), numpy_correlation(a, b), atol=2e-6)


def test_covariance_and_cosine_are_numpys() -> None:
    a, b = pair(4, 300, mean=0.5)
    moments = streamed(a, b, [100, 200])
    x, y = a.double().numpy(), b.double().numpy()
    np.testing.assert_allclose(covariance(moments), np.cov(x, y, bias=True)[:4, 4:], rtol=1e-5, atol=1e-6)
    norms = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
    np.testing.assert_allclose(cosine(moments), x @ y.T / norms, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 12345.678])
def test_dead_units_have_correlation_zero(constant: float) -> None:
    a, b = pair(4, 100)
    a[1], b[2] = constant, constant
    moments = streamed(a, b, [33, 67])
    for cost in (correlation, cosine, covariance):
        assert cost(moments).isfinite().all()
    assert not correlation(moments)[1].any()
    assert not correlation(moments)[:, 2].any()
    assert correlation(moments)[0, 1] != 0
    assert sorted(assign(correlation(moments)).index.tolist()) == [0, 1, 2, 3]


def test_half_precision_is_taken_up_to_float32() -> None:
    a, b = pair(3, 200)
    moments = streamed(a.bfloat16(), b.bfloat16(), [200])
    np.testing.assert_allclose(correlation(moments), numpy_correlation(a.bfloat16(), b.bfloat16()), atol=1e-6)


def test_sites_are_pooled_as_matrices_and_not_as_raw_moments() -> None:
    a, b = pair(3, 200)
    small, large = streamed(a, b, [200]), streamed(1e3 * b, 1e3 * a, [200])
    expected = (numpy_correlation(a, b) + numpy_correlation(b, a)) / 2
    np.testing.assert_allclose(pooled(correlation, [small, large]), expected, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_assignment_is_the_best_of_all_permutations(n: int, seed: int) -> None:
    scores = torch.rand(n, n, generator=generator_for(n, seed), dtype=torch.float64)

    def total(index: tuple[int, ...]) -> float:
        return sum(scores[old, new].item() for new, old in enumerate(index))

    best = max(itertools.permutations(range(n)), key=total)
    assert tuple(assign(scores).index.tolist()) == best


def test_matched_correlation_and_margin_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.0], [0.7, 0.2, 0.3], [0.6, 0.0, 0.5]], dtype=torch.float64)
    permutation = assign(scores)
    assert permutation.index.tolist() == [1, 0, 2]
    matched, margin = matched_and_margin(scores, permutation)
    assert matched == pytest.approx((0.7 + 0.9 + 0.5) / 3)
    assert margin == pytest.approx((0.1 + 0.7 + 0.2) / 3)
    one = torch.tensor([[0.4]], dtype=torch.float64)
    assert matched_and_margin(one, assign(one)) == (0.4, 0.0)


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("guess", [None, 0.0, 1.0, 1e4])
def test_what_is_not_centred_or_by_another_mean_gives_numpys_correlation(mean: float, guess: float | None) -> None:
    a, b = pair(5, 600, mean=mean)
    moments, shift = PairMoments(5, 5), None if guess is None else torch.full((5,), guess)
    for part_a, part_b in zip(a.split([150, 450], 1), b.split([150, 450], 1), strict=True):
        moments.update(centre(part_a, shift), centred(part_b))
    np.testing.assert_allclose(correlation(moments), numpy_correlation(a, b), atol=2e-6)
    np.testing.assert_allclose(moments.b.variance, b.double().numpy().var(1), rtol=1e-5)
    np.testing.assert_allclose(moments.a.mean, a.double().numpy().mean(1), rtol=1e-6, atol=1e-6)


def test_values_are_taken_as_they_are_where_their_means_are_near_0_alone() -> None:
    near, far = torch.tensor([[1.0, 2.0, 6.0]]), torch.tensor([[11.0, 12.0, 16.0]])
    assert centred(near).values.data_ptr() == near.data_ptr()
    assert centre(near, torch.zeros(1)).values.data_ptr() != near.data_ptr()
    torch.testing.assert_close(centred(far).rest, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(centre(far, torch.zeros(1)).rest, torch.zeros(1, dtype=torch.float64))


def test_halves_merge_to_the_whole() -> None:
    a, b = pair(4, 300, mean=0.5, dtype=torch.float64)
    halves = [streamed(x, y, [x.shape[1]]) for x, y in zip(a.split([100, 200], 1), b.split([100, 200], 1), strict=True)]
    before = halves[0].cross.clone()
    whole, merged = streamed(a, b, [300]), halves[0].merged(halves[1])
    assert merged.samples == 300
    torch.testing.assert_close(merged.cross, whole.cross)
    torch.testing.assert_close(correlation(merged), correlation(whole))
    torch.testing.assert_close(halves[0].cross, before, rtol=0, atol=0)
