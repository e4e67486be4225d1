"""Whether claims of the form "this method is better than that one" are settled, many of them at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reticket.analysis.stats import Stat, alike, mean_interval
from reticket.errors import InputError

Verdict = Literal["for", "against", "open"]


@dataclass(frozen=True)
class Claim:
    """What paired seeds say of one claim among others: that the mean difference is above 0.

    Args:
        n: number of seeds.
        mean, sd: of the differences, in their unit; None without a seed, and sd with one.
        low, high: t interval of the mean; None below two seeds.
        p: of the paired two-sided t test; 1 below two seeds, which can test nothing.
        adjusted: p after Holm's adjustment over all claims.
        verdict: "for" or "against" where the adjusted p is below the level, by the sign of the mean; else "open".
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float
    adjusted: float
    verdict: Verdict


def settle_claims(
    differences: Sequence[Sequence[float]], *, level: float = 0.01, confidence: float = 0.95
) -> tuple[Claim, ...]:
    """Return what each list of differences says of its claim when all of them are claimed together.

    A claim is settled where p of its paired t test, by Holm's adjustment over all the claims, is below `level`: the
    probability that any claim is settled wrongly is at most that. Claims that cannot be tested yet count as open ones
    of p = 1, so that the family of the tasks that were begun is the same however far these have come.

    Args:
        differences: by claim, what should be better less what should be worse, one value a seed.
        level: of all claims together, in (0, 1).
        confidence: of the intervals, each by itself, in (0, 1).

    Raises:
        InputError: when a value is not finite or the level is out of range.

    >>> first, second = settle_claims([[1.0, 1.5, 1.2, 0.9], [0.4, -0.6, 0.1, 0.3]])
    >>> first.verdict, round(first.p, 4), round(first.adjusted, 4), second.verdict
    ('for', 0.0032, 0.0064, 'open')
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level}, expected a probability between 0 and 1, for instance 0.01")
    p_values = [paired_t_test(values) if len(values) > 1 else 1.0 for values in differences]
    return tuple(
        _claim(values, p, adjusted, level, confidence)
        for values, p, adjusted in zip(differences, p_values, holm_adjusted(p_values), strict=True)
    )


def _claim(values: Sequence[float], p: float, adjusted: float, level: float, confidence: float) -> Claim:
    if not values:
        return Claim(0, None, None, None, None, p, adjusted, "open")
    stat = Stat.of(values)
    low, high = mean_interval(values, confidence) if stat.n > 1 else (None, None)
    verdict = "open" if adjusted >= level else "for" if stat.mean > 0 else "against"
    return Claim(stat.n, stat.mean, stat.sd, low, high, p, adjusted, verdict)


def paired_t_test(differences: Sequence[float]) -> float:
    """Return p of the two-sided t test that the mean of paired differences is 0 (Student 1908, Biometrika 6).

    With t = mean sqrt(n) / sd: p = P(|T| >= |t|), T by Student's distribution with n - 1 degrees of freedom. Deviation:
    where all differences are equal, and not 0, t is infinite and would settle everything from two seeds on; p is then
    2^(1 - n), that of the exact test by flipped signs.

    Args:
        differences: at least two, one a seed.

    Raises:
        InputError: when there are fewer than two, or one is not finite.

    >>> round(paired_t_test([1.0, 2.0, 3.0]), 3), paired_t_test([0.5, 0.5, 0.5]), paired_t_test([0.0, 0.0])
    (0.074, 0.25, 1.0)
    """
    from scipy.special import stdtr

    stat = Stat.of(differences)
    if stat.sd is None:
        raise InputError("a paired test needs at least two seeds, got one")
    if stat.mean == 0:
        return 1.0
    if alike(stat.values):
        return 2.0 ** (1 - stat.n)
    return 2 * float(stdtr(stat.n - 1, -abs(stat.mean) * math.sqrt(stat.n) / stat.sd))


def holm_adjusted(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p values adjusted for being tested together (Holm 1979, Scandinavian Journal of Statistics 6).

    In ascending order, the i-th of m becomes max_{j <= i} min(1, (m - j + 1) p_j): below a level exactly where Holm's
    step-down procedure rejects at that level, which keeps the probability of any wrong rejection under it whatever the
    tests have in common.

    Args:
        p_values: one a claim.

    Returns:
        The adjusted ones, in the same order.

    Raises:
        InputError: when one is no probability.

    >>> holm_adjusted([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong:
        raise InputError(f"a p value is {wrong[0]}, expected a probability from 0 to 1")
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return tuple(adjusted)
