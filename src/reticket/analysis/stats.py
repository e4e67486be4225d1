"""Mean and spread of one number over seeds."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reticket.errors import InputError


@dataclass(frozen=True)
class Stat:
    """Values of one number over seeds, with mean and sample standard deviation.

    sd = sqrt(sum (x - mean)^2 / (n - 1)); None for a single value, whose spread is unknown and not zero.

    Args:
        n: number of values, at least 1.
        mean: their mean.
        sd: their sample standard deviation (ddof 1), or None when n is 1.
        values: the values, in the order of the seeds.

    >>> Stat.of([91.0, 92.0, 93.0])
    Stat(n=3, mean=92.0, sd=1.0, values=(91.0, 92.0, 93.0))
    >>> print(Stat.of([91.0, 92.0, 93.0]), "|", Stat.of([91.0]))
    92.00 ± 1.00 (n=3) | 91.00 (n=1)
    """

    n: int
    mean: float
    sd: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Stat":
        """Return the statistics of `values`.

        Raises:
            InputError: when there is no value, or one is not finite.
        """
        numbers = tuple(float(value) for value in values)
        if not numbers:
            raise InputError("a mean needs at least one value, got none")
        bad = [number for number in numbers if not math.isfinite(number)]
        if bad:
            raise InputError(f"a mean over {len(numbers)} values met {bad[0]}; leave out the run that failed")
        return cls(
            n=len(numbers),
            mean=statistics.fmean(numbers),
            sd=statistics.stdev(numbers) if len(numbers) > 1 else None,
            values=numbers,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""
        return {"n": self.n, "mean": self.mean, "sd": self.sd, "values": list(self.values)}

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.2f}"
        return f"{self.mean:.2f}{spread} (n={self.n})"


def alike(values: Sequence[float]) -> bool:
    """Whether numbers differ by no more than the rounding of what they were computed from.

    Accuracies are counts over a number of images, so that differences that are equal come out as .6 and .60000001: by
    Student's t they would settle anything.

    >>> alike([80.8 - 80.2, 87.2 - 86.6]), alike([0.6, 0.4])
    (True, False)
    """
    return max(values) - min(values) <= 1e-9 * max(1.0, max(map(abs, values)))


def t_quantile(freedom: int | float, confidence: float) -> float:
    """Return t such that Student's t with `freedom` degrees of freedom lies in [-t, t] with probability `confidence`.

    >>> round(t_quantile(2, 0.95), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the t interval of the mean of at least two values: mean -+ t sd / sqrt(n).

    Args:
        values: one a seed.
        confidence: in (0, 1).

    Raises:
        InputError: when there are fewer than two values, or one is not finite.

    >>> [round(end, 2) for end in mean_interval([91.0, 92.0, 93.0])]
    [89.52, 94.48]
    """
    found = Stat.of(values)
    if found.sd is None:
        raise InputError("an interval of a mean needs at least two values, got one")
    half = t_quantile(found.n - 1, confidence) * found.sd / math.sqrt(found.n)
    return found.mean - half, found.mean + half


def welch_interval(one: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of mean(one) - mean(other) for values that belong to no pairs (Welch 1947, Biometrika 34).

    With v = sd^2 / n of either: the difference -+ t sqrt(v_1 + v_2), with (v_1 + v_2)^2 / sum (v^2 / (n - 1)) degrees
    of freedom.

    Args:
        one, other: at least two values each.
        confidence: in (0, 1).

    Raises:
        InputError: when there are fewer than two values of either, or one is not finite.

    >>> [round(end, 2) for end in welch_interval([91.0, 92.0, 93.0], [90.0, 90.5])]
    [-0.42, 3.92]
    """
    stats = [Stat.of(values) for values in (one, other)]
    if any(stat.sd is None for stat in stats):
        raise InputError(f"an interval needs two values of either, got {len(one)} and {len(other)}")
    difference = stats[0].mean - stats[1].mean
    parts = [((stat.sd or 0.0) ** 2 / stat.n, stat.n - 1) for stat in stats]
    whole = sum(part for part, _ in parts)
    if whole == 0:
        return difference, difference
    freedom = 1 / sum((part / whole) ** 2 / free for part, free in parts)
    half = t_quantile(freedom, confidence) * math.sqrt(whole)
    return difference - half, difference + half
