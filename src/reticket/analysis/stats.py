"""Mean and spread of one number over seeds."""

import math
import statistics
from collections.abc import Iterable
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
