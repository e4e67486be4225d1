"""At which steps of a training a mask changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from reticket.errors import MaskError

LONGEST = 100  # steps between two changes, as in RigL
FEWEST = 25  # changes of a short training


@dataclass(frozen=True)
class Updates:
    """The steps after which a mask changes: each `every`-th one up to `last`, and `last` itself.

    Args:
        every: steps from one change to the next, at least 1.
        last: steps done at the last change; 0 for none.

    Raises:
        MaskError: when a number is out of range.

    >>> updates = Updates(every=4, last=10)
    >>> [(step, updates.progress(step)) for step in range(12) if updates.progress(step)]
    [(4, 0.4), (8, 0.8), (10, 1.0)]
    """

    every: int
    last: int

    def __post_init__(self) -> None:
        if self.every < 1 or self.last < 0:
            raise MaskError(f"a mask cannot change every {self.every} steps up to step {self.last}; give 1 or more")

    @classmethod
    def of(cls, options: Mapping[str, Any], length: int) -> "Updates":
        """Return those of some options of dynamics.

        Args:
            options: `end`, the share of the training after which the mask stays, in (0, 1], and `every`, in steps: if
                it is left out, 100 as in RigL, or fewer where that makes less than 25 changes.
            length: steps of the training.

        Raises:
            MaskError: when an option or the length is out of range.

        >>> Updates.of({"end": 0.75}, 32_000), Updates.of({"end": 0.75}, 400)
        (Updates(every=100, last=24000), Updates(every=12, last=300))
        """
        end, every = options["end"], options.get("every")
        if not 0 < end <= 1:
            raise MaskError(f"end is {end}, expected the share of the training after which the mask stays, in (0, 1]")
        if every is not None and every < 1:
            raise MaskError(f"every is {every}, expected the steps from one change of the mask to the next, 1 or more")
        if not isinstance(length, Integral) or length < 1:
            raise MaskError(f"steps is {length!r}, expected the number of steps of the whole training, 1 or more")
        last = round(end * length)
        return cls(max(1, min(LONGEST, last // FEWEST)) if every is None else every, last)

    @classmethod
    def changing(cls, options: Mapping[str, Any], length: int) -> "Updates":
        """Return those of some options, refused where the mask would never change between the first step and the last.

        Args:
            options: as `of`.
            length: steps of the training.

        Raises:
            MaskError: when it never would, or an option or the length is out of range.

        >>> Updates.changing({"end": 0.75, "every": 31}, 40)
        Traceback (most recent call last):
        reticket.errors.MaskError: the mask would change every 31 steps up to step 30 of 40, which is never; ...
        """
        found = cls.of(options, length)
        if not found.last or found.every > found.last:
            raise MaskError(
                f"the mask would change every {found.every} steps up to step {found.last} of {length}, which is never; "
                f"give a smaller 'every' or a larger 'end'"
            )
        return found

    @property
    def count(self) -> int:
        """How often the mask changes.

        >>> Updates(every=4, last=10).count, Updates(every=5, last=10).count
        (3, 2)
        """
        return -(-self.last // self.every)

    def progress(self, done: int) -> float | None:
        """Return the share of the changing part that is done, in (0, 1], or None where the mask stays.

        Args:
            done: steps of the training done.
        """
        if not 0 < done <= self.last or (done % self.every and done != self.last):
            return None
        return done / self.last
