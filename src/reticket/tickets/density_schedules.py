"""Density schedules: which density is wanted after which step of a training.

A schedule is any function from the number of steps done to a density, or None where nothing is pruned at that step.
"""

from collections.abc import Callable
from dataclasses import dataclass

from reticket.errors import MaskError

Schedule = Callable[[int], float | None]


@dataclass(frozen=True)
class OneShot:
    """Prune once.

    Args:
        density: fraction kept, in (0, 1].
        at: number of steps done by then.

    Raises:
        MaskError: when a number is out of range.

    >>> [OneShot(0.1, at=2)(step) for step in range(4)]
    [None, None, 0.1, None]
    """

    density: float
    at: int = 0

    def __post_init__(self) -> None:
        _check_densities(self.density, 1.0)
        if self.at < 0:
            raise MaskError(f"at is {self.at}, expected a number of steps of at least 0")

    def __call__(self, step: int) -> float | None:
        return self.density if step == self.at else None


@dataclass(frozen=True)
class Gradual:
    """Prune more and more slowly: d_t = d + (d_0 - d) (1 - t)^3 for t from 0 to 1 (Zhu & Gupta 2017, equation 1).

    The equation of arXiv 1710.01878 is that of sparsities s = 1 - d.

    Args:
        density: d, fraction kept at the end, in (0, 1].
        end: steps done when it is reached.
        begin: steps done at t = 0.
        every: steps from one pruning to the next; one falls on the end too.
        initial: d_0, fraction kept at t = 0.

    Raises:
        MaskError: when a number is out of range.

    >>> [Gradual(0.2, end=8, every=4)(step) for step in (0, 3, 4, 8, 9)]
    [1.0, None, 0.30000000000000004, 0.2, None]
    """

    density: float
    end: int
    begin: int = 0
    every: int = 1
    initial: float = 1.0

    def __post_init__(self) -> None:
        _check_densities(self.density, self.initial)
        if not (0 <= self.begin < self.end and self.every >= 1):
            raise MaskError(
                f"a schedule begins at {self.begin}, ends at {self.end} and prunes every {self.every} steps, expected "
                f"0 <= begin < end and every >= 1"
            )

    def __call__(self, step: int) -> float | None:
        done, length = step - self.begin, self.end - self.begin
        if not 0 <= done <= length or (done % self.every and done != length):
            return None
        return self.density + (self.initial - self.density) * (1 - done / length) ** 3


@dataclass(frozen=True)
class Cyclic:
    """Prune gradually, let all weights grow again, and so on: what one cycle prunes wrongly comes back in the next.

    Cyclical pruning (Srinivas et al. 2022, arXiv 2202.01290) with the steps of `Gradual` in each cycle. The learning
    rate, which may start over with each cycle too, is the training's.

    Args:
        density: fraction kept at the end of each cycle, in (0, 1].
        length: steps of a cycle.
        cycles: how many there are.
        begin: steps done when the first begins.
        every: steps from one pruning to the next.
        initial: fraction kept at the beginning of each cycle.

    Raises:
        MaskError: when a number is out of range.

    >>> [Cyclic(0.25, length=3, cycles=2)(step) for step in range(7)]
    [1.0, 0.34375, 0.25, 1.0, 0.34375, 0.25, None]
    """

    density: float
    length: int
    cycles: int
    begin: int = 0
    every: int = 1
    initial: float = 1.0

    def __post_init__(self) -> None:
        _check_densities(self.density, self.initial)
        if self.length < 2 or self.cycles < 1 or self.begin < 0 or self.every < 1:
            raise MaskError(
                f"{self.cycles} cycles of {self.length} steps from {self.begin} on, pruning every {self.every} steps: "
                f"expected cycles >= 1, length >= 2, begin >= 0 and every >= 1"
            )

    def __call__(self, step: int) -> float | None:
        cycle, inside = divmod(step - self.begin, self.length)
        if not 0 <= cycle < self.cycles:
            return None
        return Gradual(self.density, self.length - 1, every=self.every, initial=self.initial)(inside)


def _check_densities(density: float, initial: float) -> None:
    if not 0 < density <= initial <= 1:
        raise MaskError(
            f"density {density} is not in (0, {initial}], initial density {initial}; give fractions of weights to keep "
            f"(1 - sparsity), the smaller one at the end"
        )
