"""When a run ends although its plan does not: after so many seconds, or as soon as somebody says so."""

import time
from collections.abc import Callable

LOOK = 1.0  # seconds after which a waiting executor looks whether it is time


class OutOfTime(BaseException):
    """It is time to stop; no failure of the task that happens to be under way, whose checkpoint stays."""


class Until:
    """A moment at which a run stops by itself, keeping what is done.

    Args:
        seconds: from now on; None for never, unless `now` is called.
        clock: seconds of any origin.

    >>> until = Until(60, clock=iter([0.0, 59.0, 60.5]).__next__)
    >>> until.left, until.left
    (1.0, 0.0)
    """

    def __init__(self, seconds: float | int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    def now(self) -> None:
        """Let it be time; may be called from a signal handler or another thread."""
        self._end = float("-inf")

    @property
    def left(self) -> float | None:
        """Seconds that are left, 0 when it is time; None while no end is known."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    @property
    def patience(self) -> float:
        """Seconds that an executor may wait before it looks again."""
        left = self.left
        return LOOK if left is None else min(left, LOOK)

    def check(self) -> None:
        """Look whether it is time.

        Raises:
            OutOfTime: when it is.
        """
        if self.left == 0:
            raise OutOfTime
