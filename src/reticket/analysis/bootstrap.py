"""A paired bootstrap over few seeds: every resample counted where they can be counted."""

import math
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float

EXACT_UP_TO = 6  # seeds; 6 have 462 different resamples


def resamples(n: int, count: int, seed: int) -> tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, " draws"]]:
    """Return how often each of `n` seeds is drawn in each resample, and the probability of the resample.

    Args:
        n: seeds; up to 6 all n^n draws are counted.
        count: draws beyond that.
        seed: of the draws.
    """
    if n <= EXACT_UP_TO:
        draws = np.array(
            [np.bincount(chosen, minlength=n) for chosen in combinations_with_replacement(range(n), n)],
            dtype=np.float64,
        )
        ways = [math.factorial(n) / math.prod(math.factorial(int(times)) for times in draw) for draw in draws]
        return draws, np.array(ways) / n**n
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=count).astype(np.float64)
    return draws, np.full(count, 1 / count)


def interval(
    values: Float[np.ndarray, " draws"], weights: Float[np.ndarray, " draws"], confidence: float
) -> tuple[float, float]:
    """Return the interval of attained values that leaves out at most (1 - confidence) / 2 at either end."""
    tail = (1 - confidence) / 2
    return _quantile(values, weights, tail), -_quantile(-values, weights, tail)


def _quantile(values: Float[np.ndarray, " draws"], weights: Float[np.ndarray, " draws"], tail: float) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= tail - 1e-12
    return float(values[order][np.argmax(reached)])
