"""How many classes pruning changed by more than chance: a paired t test for each, corrected for their number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reticket.errors import InputError


@dataclass(frozen=True)
class ClassTest:
    """Tests of the change of every class, over seeds.

    Args:
        n: seeds.
        p: for each class the p value of "its mean change is 0".
        p_relative: of "it changes as the mean over the classes does".
        changed: classes whose change is not 0, at a family-wise level (Holm 1979).
        apart: classes that change otherwise than the mean, likewise.
        level: the family-wise level.
    """

    n: int
    p: tuple[float, ...]
    p_relative: tuple[float, ...]
    changed: tuple[bool, ...]
    apart: tuple[bool, ...]
    level: float


def changed_classes(
    changes: Sequence[Sequence[float]], level: float = 0.05, steps: Sequence[float] | None = None
) -> ClassTest:
    """Test the change of every class by a paired t test over seeds, with Holm's correction over the classes.

    t = mean(x) sqrt(n) / sd(x) with n - 1 degrees of freedom, x being a class's changes, or these less the mean
    over the classes of the same seed: whether pruning hurts a class, and whether more or less than
    the others.

    An accuracy moves in steps of one image. Few seeds often agree to the image by chance, so the variance of rounding,
    step^2 / 12, is added to that of the seeds; without any variance there is no test, and p is 1.

    Args:
        changes: for each class its change of accuracy (points), one value a seed, in the same order of seeds.
        level: family-wise probability of a false claim.
        steps: for each class the points that one image is worth, 100 / images; 0 when None.

    Raises:
        InputError: when there are fewer than two seeds or classes, the classes have different numbers of seeds, or a
            value is not finite.

    >>> found = changed_classes([[-4.1, -4.0, -3.9], [0.2, -0.1, -0.1]])
    >>> found.changed, found.n
    ((True, False), 3)
    """
    counts = sorted({len(one) for one in changes})
    if len(changes) < 2 or len(counts) != 1 or counts[0] < 2:
        raise InputError(
            f"a test of classes needs at least two classes over the same two or more seeds, got {len(changes)} classes "
            f"over {', '.join(map(str, counts)) or 'no'} seeds"
        )
    values = np.array(changes, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("a change of a class is NaN or infinite; leave out the seed that failed")
    if steps is not None and len(steps) != len(changes):
        raise InputError(f"a step for each class is needed, got {len(steps)} for {len(changes)} classes")
    rounding = np.square(np.zeros(len(changes)) if steps is None else np.array(steps, dtype=np.float64)) / 12
    p, relative = _p_values(values, rounding), _p_values(values - values.mean(0), rounding)
    return ClassTest(counts[0], p, relative, holm(p, level), holm(relative, level), level)


def _p_values(values: Float[np.ndarray, "classes n"], rounding: Float[np.ndarray, " classes"]) -> tuple[float, ...]:
    """Return the two-sided p value of each row's mean being 0."""
    from scipy.special import stdtr

    found = []
    for row, extra in zip(values, rounding, strict=True):
        sd = math.sqrt(float(row.var(ddof=1)) + float(extra))
        t = abs(float(row.mean())) * math.sqrt(len(row)) / sd if sd > 1e-9 else 0.0
        found.append(float(2 * stdtr(len(row) - 1, -t)))
    return tuple(found)


def holm(p: Sequence[float], level: float = 0.05) -> tuple[bool, ...]:
    """Return which hypotheses are rejected by Holm's procedure: the i-th smallest p must not exceed level / (m - i).

    >>> holm([0.01, 0.04, 0.03, 0.005])
    (True, False, False, True)
    """
    order = sorted(range(len(p)), key=lambda index: p[index])
    rejected = [False] * len(p)
    for rank, index in enumerate(order):
        if p[index] > level / (len(p) - rank):
            break
        rejected[index] = True
    return tuple(rejected)
