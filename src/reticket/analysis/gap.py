"""How much of the gap between a lottery ticket and a naive transfer a method closes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float

from reticket.errors import InputError

EXACT_UP_TO = 6  # seeds; 6 have 462 different resamples


@dataclass(frozen=True)
class GapClosed:
    """Share of the LTH - naive gap that a method closes, paired by seed.

    Args:
        n: number of seeds.
        share: percent of the gap that is closed, mean(other - naive) / mean(lth - naive); None when the gap is not
            positive.
        low: lower end of its interval, percent; None when there is none, and `reason` says why.
        high: upper end, percent.
        gap: mean(lth - naive), points.
        gap_low: lower end of its interval, points; None for a single seed.
        gap_high: upper end, points.
        left: mean(lth - other), points: what is still open.
        confidence: of the intervals, in (0, 1).
        reason: why share or interval is missing; empty when nothing is.
    """

    n: int
    share: float | None
    low: float | None
    high: float | None
    gap: float
    gap_low: float | None
    gap_high: float | None
    left: float
    confidence: float
    reason: str


def gap_closed(
    lth: Sequence[float],
    naive: Sequence[float],
    other: Sequence[float],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> GapClosed:
    """Return the share of the gap between LTH and naive that `other` closes, with a paired bootstrap interval.

    Seeds are drawn with replacement, all three methods of a seed together, and the share of means is taken of each
    draw. Up to 6 seeds all n^n draws are counted exactly and nothing is random; beyond, `resamples` are drawn. The
    interval reaches from the smallest attained value with at least (1 - confidence) / 2 of the draws at or below it to
    the largest with as much at or above it; nothing is interpolated. Where the interval of the gap itself reaches 0, a
    share of it has no meaningful interval, and none is given. A draw with a gap of 0 or less counts as infinite, with
    the sign of its gain.

    Args:
        lth: accuracy of the lottery ticket for each seed, percent.
        naive: of the naive transfer, same seeds in the same order.
        other: of the method, likewise.
        resamples: draws, when there are more than 6 seeds.
        confidence: of the intervals, in (0, 1).
        seed: of the draws.

    Raises:
        InputError: when the lengths differ, there is no seed, a value is not finite, or the confidence is out of range.

    >>> closed = gap_closed([97.0, 96.0], [93.0, 94.0], [96.0, 95.0])
    >>> round(closed.share, 1), closed.gap, closed.left, closed.low, closed.high
    (66.7, 3.0, 1.0, 50.0, 75.0)
    """
    values = _checked(lth, naive, other, resamples, confidence)
    gaps, gains = values[0] - values[1], values[2] - values[1]
    n, gap, left = len(gaps), float(gaps.mean()), float((values[0] - values[2]).mean())
    share = 100 * float(gains.mean()) / gap if gap > 0 else None
    if n == 1:
        reason = "one seed has no interval" if gap > 0 else f"the gap is {gap:.2f} points, not positive"
        return GapClosed(1, share, None, None, gap, None, None, left, confidence, reason)
    draws, weights = _resamples(n, resamples, seed)
    gap_draws, gain_draws = draws @ gaps / n, draws @ gains / n
    gap_low, gap_high = _interval(gap_draws, weights, confidence)
    low = high = None
    if gap <= 0:
        reason = f"the gap is {gap:.2f} points, not positive"
    elif gap_low <= 0:
        reason = f"the interval of the gap, [{gap_low:.2f}, {gap_high:.2f}] points, reaches 0"
    else:
        reason = ""
        infinite = np.copysign(math.inf, gain_draws)
        shares = np.divide(gain_draws, gap_draws, out=infinite, where=gap_draws > 0)
        low, high = (100 * end for end in _interval(shares, weights, confidence))
    return GapClosed(n, share, low, high, gap, gap_low, gap_high, left, confidence, reason)


def _checked(
    lth: Sequence[float], naive: Sequence[float], other: Sequence[float], resamples: int, confidence: float
) -> Float[np.ndarray, "3 n"]:
    if not len(lth) == len(naive) == len(other):
        raise InputError(
            f"LTH, naive and the method are paired by seed, got {len(lth)}, {len(naive)} and {len(other)} values; "
            f"give the seeds that all three have"
        )
    if len(lth) == 0:
        raise InputError("the gap needs at least one seed, got none")
    values = np.array([lth, naive, other], dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("an accuracy is NaN or infinite; leave out the seed that failed, for all three methods")
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence} is not in (0, 1); use 0.95")
    if resamples < 1:
        raise InputError(f"resamples {resamples} is below 1; use 10000")
    return values


def _resamples(n: int, resamples: int, seed: int) -> tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, " draws"]]:
    """Return how often each seed is drawn in each resample, and the probability of the resample."""
    if n <= EXACT_UP_TO:
        draws = np.array(
            [np.bincount(chosen, minlength=n) for chosen in combinations_with_replacement(range(n), n)],
            dtype=np.float64,
        )
        ways = [math.factorial(n) / math.prod(math.factorial(int(times)) for times in draw) for draw in draws]
        return draws, np.array(ways) / n**n
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    return draws, np.full(resamples, 1 / resamples)


def _interval(
    values: Float[np.ndarray, " draws"], weights: Float[np.ndarray, " draws"], confidence: float
) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    return _quantile(values, weights, tail), -_quantile(-values, weights, tail)


def _quantile(values: Float[np.ndarray, " draws"], weights: Float[np.ndarray, " draws"], tail: float) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= tail - 1e-12
    return float(values[order][np.argmax(reached)])
