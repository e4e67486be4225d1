"""The difference of two methods over paired seeds: its interval, and how many seeds would settle its sign."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reticket.analysis.stats import Stat, alike, mean_interval, t_quantile
from reticket.errors import InputError

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two methods over seeds that both were run with.

    Args:
        n: number of seeds.
        mean, sd: of the differences; sd is the sample standard deviation.
        values: the differences, one a seed.
        low, high: interval of the mean by Student's t.
        confidence: of the interval.
        seeds: with how many seeds the sign would be settled, see `seeds_needed`; None when the interval excludes 0
            already, or no number up to 10,000 is enough.
    """

    n: int
    mean: float
    sd: float
    values: tuple[float, ...]
    low: float
    high: float
    confidence: float
    seeds: int | None

    @property
    def settled(self) -> bool:
        """Whether the interval lies on one side of 0, see `is_settled`."""
        return is_settled(self.n, self.low, self.high, self.confidence)


def paired_difference(one: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> PairedDifference:
    """Return `one` minus `other`, seed by seed.

    Args:
        one, other: values in the order of the same seeds, at least two.
        confidence: in (0, 1).

    Raises:
        InputError: when the lengths differ, there are fewer than two values, or one is not finite.

    >>> found = paired_difference([91.0, 92.5, 92.0], [90.0, 91.0, 91.5])
    >>> found.mean, found.settled, found.seeds
    (1.0, False, 5)
    """
    if len(one) != len(other):
        raise InputError(f"paired values are needed, got {len(one)} and {len(other)}; give both for the same seeds")
    values = [a - b for a, b in zip(one, other, strict=True)]
    low, high = mean_interval(values, confidence)
    stat, sd = Stat.of(values), 0.0
    if alike(values):
        low = high = stat.mean
    else:
        sd = stat.sd or 0.0
    settled = is_settled(stat.n, low, high, confidence)
    seeds = None if settled or sd == 0 else seeds_needed(stat.mean, sd, confidence)
    return PairedDifference(stat.n, stat.mean, sd, stat.values, low, high, confidence, seeds)


def is_settled(n: int, low: float, high: float, confidence: float) -> bool:
    """Return whether paired seeds settle the sign of a difference: whether its t interval excludes 0.

    Where all differences are equal the interval is a point, which two seeds would settle anything by; then that counts
    which the exact test by flipped signs says, p = 2^(1 - n).

    Args:
        n: number of seeds.
        low, high: the interval.
        confidence: of the interval, in (0, 1).

    >>> is_settled(2, 0.6, 0.6, 0.95), is_settled(6, 0.6, 0.6, 0.95), is_settled(3, 0.1, 0.9, 0.95)
    (False, True, True)
    """
    if low == high:
        return low != 0 and 2.0 ** (1 - n) < 1 - confidence
    return low > 0 or high < 0


def seeds_needed(mean: float, sd: float, confidence: float = 0.95, power: float = 0.8) -> int | None:
    """Return the smallest number of seeds whose t interval would exclude 0 with probability `power`.

    This takes the observed mean and spread for the true ones, which few seeds know badly: an order of magnitude, not a
    promise. The probability is that of the noncentral t distribution (Cohen 1988, Statistical Power Analysis for the
    Behavioral Sciences, chapter 2).

    Args:
        mean: the mean difference.
        sd: the standard deviation of the differences, above 0.
        confidence: of the interval.
        power: in (0, 1).

    Returns:
        At least 2; None when more than 10,000 would be needed.

    Raises:
        InputError: when a number is not finite, or `sd` is not above 0.

    >>> seeds_needed(0.5, 1.0), seeds_needed(0.0, 1.0)
    (34, None)
    """
    if not (math.isfinite(mean) and math.isfinite(sd)) or sd <= 0:
        raise InputError(f"a mean and a standard deviation above 0 are needed, got {mean} and {sd}")
    effect = abs(mean) / sd
    if _power(effect, MOST_SEEDS, confidence) < power:
        return None
    low, high = 1, MOST_SEEDS  # not enough, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(effect, middle, confidence) >= power else (middle, high)
    return high


def _power(effect: float, n: int, confidence: float) -> float:
    """Return how probably the t interval of n values excludes 0 on the side where the mean is."""
    from scipy.special import nctdtr

    shift = effect * math.sqrt(n)
    if shift > 30:  # where the distribution function is not computed any more
        return 1.0
    return 1.0 - float(nctdtr(n - 1, shift, t_quantile(n - 1, confidence)))
