"""How much of the gap between a lottery ticket and a naive transfer a method closes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reticket.analysis.bootstrap import interval as bootstrap_interval
from reticket.analysis.bootstrap import resamples as resample
from reticket.analysis.stats import mean_interval, t_quantile
from reticket.errors import InputError


@dataclass(frozen=True)
class GapClosed:
    """Share of the LTH - naive gap that a method closes, paired by seed.

    Args:
        n: number of seeds.
        share: percent of the gap that is closed, mean(other - naive) / mean(lth - naive); None when the gap is not
            positive.
        low: lower end of its interval by Fieller's theorem, percent; None when there is none, and `reason` says why.
        high: upper end, percent.
        gap: mean(lth - naive), points.
        gap_low: lower end of its t interval, points; None for a single seed.
        gap_high: upper end, points.
        left: mean(lth - other), points: what is still open.
        confidence: of the intervals, in (0, 1).
        reason: why share or interval is missing; empty when nothing is.
        bootstrap_low: lower end of the paired bootstrap interval of the share, percent, for comparison with other work;
            with 3 seeds it covers about 76 % where 95 % are claimed. None where the bootstrap of the gap reaches 0.
        bootstrap_high: upper end.
        interval: what `low` and `high` are.
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
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    interval: str = "fieller"


def gap_closed(
    lth: Sequence[float],
    naive: Sequence[float],
    other: Sequence[float],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    unit: str = "points",
) -> GapClosed:
    """Return the share of the gap between LTH and naive that `other` closes, with an interval paired by seed.

    The share is a ratio of two means, rho = mean(g) / mean(d) with g = other - naive and d = lth - naive of a seed. Its
    interval holds every rho for which mean(g - rho d) is within t sd(g - rho d) / sqrt(n) of 0 (Fieller 1954), t being
    Student's quantile with n - 1 degrees of freedom: exact for normal differences at any n, where a bootstrap over 3 to
    5 seeds is far too narrow. Where the t interval of the gap itself reaches 0, a share of it has no bounded interval,
    and none is given. The bootstrap is kept beside it: seeds are drawn with replacement, all three methods of a seed
    together; up to 6 seeds all n^n draws are counted, beyond, `resamples` are drawn, and nothing is interpolated.

    Args:
        lth: accuracy of the lottery ticket for each seed, percent, or any number that is higher where it is better.
        naive: of the naive transfer, same seeds in the same order.
        other: of the method, likewise.
        resamples: draws of the bootstrap, when there are more than 6 seeds.
        confidence: of the intervals, in (0, 1).
        seed: of the draws.
        unit: what a gap is called in `reason`.

    Raises:
        InputError: when the lengths differ, there is no seed, a value is not finite, or the confidence is out of range.

    >>> closed = gap_closed([97.0, 96.0, 96.5], [93.0, 93.0, 93.0], [96.0, 95.0, 95.0])
    >>> [round(value, 1) for value in (closed.share, closed.gap, closed.left, closed.low, closed.high)]
    [66.7, 3.5, 1.2, 36.1, 87.6]
    """
    values = _checked(lth, naive, other, resamples, confidence)
    gaps, gains = values[0] - values[1], values[2] - values[1]
    n, gap, left = len(gaps), float(gaps.mean()), float((values[0] - values[2]).mean())
    share = 100 * float(gains.mean()) / gap if gap > 0 else None
    if n == 1:
        reason = "one seed has no interval" if gap > 0 else f"the gap is {_in_unit(unit, gap)}, not positive"
        return GapClosed(1, share, None, None, gap, None, None, left, confidence, reason)
    gap_low, gap_high = mean_interval(gaps.tolist(), confidence)
    low, high, reason = None, None, ""
    if gap <= 0:
        reason = f"the gap is {_in_unit(unit, gap)}, not positive"
    elif gap_low <= 0:
        reason = f"the interval of the gap, {_in_unit(unit, gap_low, gap_high)}, reaches 0"
    else:
        low, high = _fieller(gains, gaps, confidence)
    drawn = _bootstrap(gains, gaps, resamples, confidence, seed)
    return GapClosed(n, share, low, high, gap, gap_low, gap_high, left, confidence, reason, *drawn)


def _in_unit(unit: str, *values: float) -> str:
    """Return one value, or a pair as an interval, with its unit."""
    texts = [f"{value:.2f}" if unit == "points" else f"{value:.3g}" for value in values]
    return " ".join([texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]", *([unit] if unit else [])])


def _fieller(gains: Float[np.ndarray, " n"], gaps: Float[np.ndarray, " n"], confidence: float) -> tuple[float, float]:
    """Return the interval of mean(gains) / mean(gaps), percent, for gaps whose own interval does not reach 0."""
    n = len(gaps)
    t2 = t_quantile(n - 1, confidence) ** 2 / n
    centred = gains - gains.mean(), gaps - gaps.mean()
    (gg, gd), (_, dd) = ([float(x @ y) / (n - 1) for y in centred] for x in centred)
    a = float(gaps.mean()) ** 2 - t2 * dd  # above 0 where the gap's interval does not reach 0
    b = float(gains.mean() * gaps.mean()) - t2 * gd
    c = float(gains.mean()) ** 2 - t2 * gg
    half = math.sqrt(max(0.0, b * b - a * c))
    return 100 * (b - half) / a, 100 * (b + half) / a


def _bootstrap(
    gains: Float[np.ndarray, " n"], gaps: Float[np.ndarray, " n"], resamples: int, confidence: float, seed: int
) -> tuple[float | None, float | None]:
    """Return the bootstrap interval of the share; a draw with a gap of 0 or less counts as infinite."""
    n = len(gaps)
    draws, weights = resample(n, resamples, seed)
    gap_draws, gain_draws = draws @ gaps / n, draws @ gains / n
    if gaps.mean() <= 0 or bootstrap_interval(gap_draws, weights, confidence)[0] <= 0:
        return None, None
    infinite = np.copysign(math.inf, gain_draws)
    shares = np.divide(gain_draws, gap_draws, out=infinite, where=gap_draws > 0)
    low, high = bootstrap_interval(shares, weights, confidence)
    return 100 * low, 100 * high


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
