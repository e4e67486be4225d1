"""Exact streaming moments of a pair of unit matrices: products in the batch's precision, sums in float64.

Every batch is centred on its own mean before any product is taken, and batches are merged by the pairwise update of
Chan, Golub & LeVeque (1983), so neither a large mean nor the cut into batches changes the result.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

BOUND = 2.0**60  # of what is no mask: squares of more do not sum up in float32
HALF_BOUND = 2.0**15  # the same in float16, whose largest number is 65504
CHUNK = 16_384  # samples whose products are summed in the batch's precision: bounds the rounding of the running sum


@dataclass(frozen=True, eq=False)
class CentredBatch:
    """One batch of units, a fresh copy that later in-place operations on the activations cannot reach.

    Args:
        values: units minus a shift near their mean, float32 or float64.
        mean: exact mean of each unit over the batch.
        rest: mean of `values`, which is what rounding the shift to `values`' precision left over.
        squares: sum of squared deviations from `mean`.
        unmasked: which samples of those given these are; None for all.
    """

    values: Float[Tensor, "units samples"]
    mean: Float64[Tensor, " units"]
    rest: Float64[Tensor, " units"]
    squares: Float64[Tensor, " units"]
    unmasked: Bool[Tensor, " given"] | None = None

    @property
    def samples(self) -> int:
        """Number of samples in the batch."""
        return self.values.shape[1]


def centre(units: Float[Tensor, "units samples"]) -> CentredBatch:
    """Return `units` minus their mean, with the moments of the batch.

    Args:
        units: one row per unit, at least one sample; half precisions are taken up to float32.
    """
    units = units.detach()
    if units.dtype not in (torch.float32, torch.float64):
        units = units.float()
    shift = units.mean(dim=1)
    values = units - shift[:, None]
    rest = values.mean(dim=1).double()
    norms = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in values.split(CHUNK, dim=1)]).double()
    squares = norms.square().sum(dim=0) - values.shape[1] * rest.square()
    return CentredBatch(values, shift.double() + rest, rest, squares.clamp_min(0))


def centre_unmasked(units: Float[Tensor, "units samples"]) -> CentredBatch:
    """Return `centre(units)` without the samples that a mask has taken out, as additive masks of attention do.

    Masked is a sample whose values are infinite, not a number or next to the largest of their type, and the same in
    every unit. Where no sample is left, none is taken out.

    >>> batch = centre_unmasked(torch.tensor([[1.0, -torch.inf, 2.0], [5.0, -torch.inf, 3.0]]))
    >>> batch.mean.tolist(), batch.unmasked.tolist()
    ([1.5, 4.0], [True, False, True])
    """
    batch, bound = centre(units), HALF_BOUND if units.dtype == torch.float16 else BOUND
    if bool((batch.squares < bound**2).all()) and bool((batch.mean.abs() < bound).all()):
        return batch
    same = (units == units[:1]) | (units.isnan() & units[:1].isnan())
    unmasked = ~(same & ~(units.abs() < bound)).all(dim=0)
    if not bool(unmasked.any()) or bool(unmasked.all()):
        return batch
    return replace(centre(units[:, unmasked]), unmasked=unmasked)


class Moments:
    """Streaming mean and variance of each unit.

    >>> m = Moments(1)
    >>> for part in ([[1.0, 2.0]], [[6.0]]):
    ...     batch = centre(torch.tensor(part))
    ...     _ = m.update(batch.samples, batch.mean, batch.squares)
    >>> m.samples, m.mean.item(), round(m.variance.item(), 6)
    (3, 3.0, 4.666667)
    """

    def __init__(self, units: int, device: torch.device | str = "cpu") -> None:
        self.samples = 0
        self.resolution = 0.0  # of the precision the samples came in
        self.mean = torch.zeros(units, dtype=torch.float64, device=device)
        self.squares = torch.zeros(units, dtype=torch.float64, device=device)

    @property
    def variance(self) -> Float64[Tensor, " units"]:
        """Variance of each unit, divided by the number of samples (not that less one)."""
        return self.squares / max(self.samples, 1)

    @property
    def constant(self) -> Bool[Tensor, " units"]:
        """Which units do not vary, up to the rounding of the precision they were computed in."""
        return self.squares <= self.samples * (8 * self.resolution * self.mean).square()

    def update(
        self, samples: int, mean: Float64[Tensor, " units"], squares: Float64[Tensor, " units"]
    ) -> Float64[Tensor, " units"]:
        """Take in one batch by its mean and its squared deviations from it; returns its mean minus that before it."""
        delta = mean - self.mean
        total = self.samples + samples
        self.mean = self.mean + delta * (samples / total)
        self.squares = self.squares + squares + delta.square() * (self.samples * samples / total)
        self.samples = total
        return delta


class PairMoments:
    """Streaming moments of A's and B's units on the same samples, with their cross product.

    `cross[i, j] = sum_s (a_is - mean_a_i) (b_js - mean_b_j)` over every sample s seen so far.

    >>> p = PairMoments(1, 1)
    >>> p.update(centre(torch.tensor([[1.0, 2.0, 3.0]])), centre(torch.tensor([[2.0, 4.0, 6.0]])))
    >>> p.a.samples, round(p.cross.item(), 6)
    (3, 4.0)
    """

    def __init__(self, units_a: int, units_b: int, device: torch.device | str = "cpu") -> None:
        self.a = Moments(units_a, device)
        self.b = Moments(units_b, device)
        self.cross = torch.zeros(units_a, units_b, dtype=torch.float64, device=device)

    @property
    def samples(self) -> int:
        """Number of samples seen."""
        return self.a.samples

    def update(self, a: CentredBatch, b: CentredBatch) -> None:
        """Take in the same samples of both models."""
        for cols in zip(a.values.split(CHUNK, dim=1), b.values.split(CHUNK, dim=1), strict=True):
            self.cross += cols[0] @ cols[1].T
        self.cross -= a.samples * torch.outer(a.rest, b.rest)
        before = self.samples
        self.a.resolution = self.b.resolution = torch.finfo(a.values.dtype).eps
        delta_a = self.a.update(a.samples, a.mean, a.squares)
        delta_b = self.b.update(b.samples, b.mean, b.squares)
        self.cross += torch.outer(delta_a, delta_b) * (before * a.samples / self.samples)


def moments_bytes(sizes: Iterable[int]) -> int:
    """Return the memory in bytes that matching's cross products hold: 8 * the sum over sites of size^2.

    Args:
        sizes: number of units at each site; a residual stream counts once for every site it is seen at.

    >>> moments_bytes([128, 128])
    262144
    """
    return 8 * sum(size * size for size in sizes)
