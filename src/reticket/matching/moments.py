"""Exact streaming moments of a pair of unit matrices: products in the batch's precision, sums in float64.

Every batch is centred on its own mean before any product is taken, unless its means are near 0 already, and batches are
merged by the pairwise update of Chan, Golub & LeVeque (1983), so neither a large mean nor the cut into batches changes
the result.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn.grad import conv2d_weight

BOUND = 2.0**60  # of what is no mask: squares of more do not sum up in float32
HALF_BOUND = 2.0**15  # the same in float16, whose largest number is 65504
NEAR = 3.0  # spreads up to which a mean is near 0: products of what is not centred then lose no digit
CHUNK = 65_536  # samples whose products are summed in the batch's precision: bounds the rounding of the running sum
BLOCK = 2**19  # numbers whose squares are summed at once: they stay in the cache, and no block of memory is asked for
NARROW, LONG = 32, 2**15  # units up to which, and samples from which, products are a convolution's
TILE = 8  # height and width of the images that samples are taken for there


@dataclass(frozen=True, eq=False)
class CentredBatch:
    """One batch of units.

    Args:
        values: units minus a shift, float32 or float64.
        mean: exact mean of each unit over the batch.
        rest: mean of `values`: of a shift near the mean, what rounding it to `values`' precision left over.
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

    def is_near(self) -> bool:
        """Whether the values' means are so near 0 that products of these values lose no digit."""
        return bool((self.rest.square().mul_(self.samples / NEAR**2) <= self.squares).all())


def centre(units: Float[Tensor, "units samples"], shift: Float[Tensor, " units"] | None = None) -> CentredBatch:
    """Return `units` minus a number near their mean, with the moments of the batch.

    The values are a fresh copy that later in-place operations on the activations cannot reach.

    Args:
        units: one row per unit, at least one sample; half precisions are taken up to float32.
        shift: what the mean is likely to be near, as that of another batch; where it is not, the mean is taken. None
            for the mean.
    """
    units = _precise(units)
    if shift is not None and shift.device.type == "cpu":
        batch = _batch(units - shift[:, None], shift)
        if batch.is_near():
            return batch
    shift = units.mean(dim=1)
    return _batch(units - shift[:, None], shift)


def centred(units: Float[Tensor, "units samples"]) -> CentredBatch:
    """Return `centre(units)`, or the units themselves with their moments where all means are near 0.

    To be used at once: the values may share memory with the activations. On a GPU they are always centred, since to
    look at the means would be to wait for them.

    >>> centred(torch.tensor([[1.0, 2.0, 6.0]])).values, centred(torch.tensor([[11.0, 12.0, 16.0]])).values
    (tensor([[1., 2., 6.]]), tensor([[-2., -1.,  3.]]))
    """
    if units.device.type != "cpu":
        return centre(units)
    batch = _batch(_precise(units), None)
    return batch if batch.is_near() else centre(units)


def _precise(units: Tensor) -> Tensor:
    units = units.detach()
    return units if units.dtype in (torch.float32, torch.float64) else units.float()


def _batch(values: Tensor, shift: Tensor | None) -> CentredBatch:
    rest, squares = values.mean(dim=1).double(), _squares(values)
    squares = squares.addcmul_(rest, rest, value=-values.shape[1]).clamp_min_(0)
    return CentredBatch(values, rest if shift is None else rest + shift, rest, squares)


def _squares(values: Float[Tensor, "units samples"]) -> Float64[Tensor, " units"]:
    """Return the sum of squares of each unit."""
    if values.device.type != "cpu" or values.numel() <= BLOCK:
        return values.square().sum(dim=1).double()
    blocks = values.split(max(1, BLOCK // len(values)), dim=1)
    return torch.stack([block.square().sum(dim=1) for block in blocks]).sum(dim=0, dtype=torch.float64)


def _products(
    a: Float[Tensor, "units_a samples"], b: Float[Tensor, "units_b samples"]
) -> Float[Tensor, "units_a units_b"]:
    """Return `a @ b.T`.

    Of few units over many samples this is the gradient of the weight of a 1 x 1 convolution, for which libraries have
    kernels twice as fast as for a product of such long and narrow matrices.
    """
    if a.shape[1] < LONG or not (_is_narrow(a) and _is_narrow(b)):
        return a @ b.T
    rows = a.shape[1] // TILE**2 * TILE**2
    of_a, of_b = (one.T[:rows].view(-1, TILE, TILE, len(one)).permute(0, 3, 1, 2) for one in (a, b))
    products = conv2d_weight(of_b, (len(a), len(b), 1, 1), of_a)[:, :, 0, 0]
    return products if rows == a.shape[1] else products + a[:, rows:] @ b[:, rows:].T


def _is_narrow(units: Tensor) -> bool:
    """Whether these are few units that lie side by side, as channels that lie last do, where those kernels are."""
    return (
        (units.device.type, units.dtype) == ("cpu", torch.float32)
        and len(units) <= NARROW
        and units.stride() == (1, len(units))
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    )


def centre_unmasked(
    units: Float[Tensor, "units samples"],
    centre: Callable[[Tensor], CentredBatch] = centre,
) -> CentredBatch:
    """Return `centre(units)` without the samples that a mask has taken out, as additive masks of attention do.

    Masked is a sample whose values are infinite, not a number or next to the largest of their type, and the same in
    every unit. Where no sample is left, none is taken out.

    Args:
        units: one row per unit, at least one sample.
        centre: `centre`, or `centred` where the result is used at once.

    >>> batch = centre_unmasked(torch.tensor([[1.0, -torch.inf, 2.0], [5.0, -torch.inf, 3.0]]))
    >>> batch.mean.tolist(), batch.unmasked.tolist()
    ([1.5, 4.0], [True, False, True])
    """
    batch, bound = centre(units), HALF_BOUND if units.dtype == torch.float16 else BOUND
    if bool(torch.addcmul(batch.squares, batch.mean, batch.mean).max() < bound**2):
        return batch
    same = (units == units[:1]) | (units.isnan() & units[:1].isnan())
    unmasked = ~(same & ~(units.abs() < bound)).all(dim=0)
    if not bool(unmasked.any()) or bool(unmasked.all()):
        return batch
    return replace(centre(units[:, unmasked]), unmasked=unmasked)


@dataclass(frozen=True, eq=False)
class ScaledUnits:
    """Units that are those of another site, each multiplied by a number and moved by one.

    Args:
        source: name of the other site.
        factor: of each unit.
        shift: of each unit.
    """

    source: str
    factor: Float64[Tensor, " units"]
    shift: Float64[Tensor, " units"]


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
        self.mean.add_(delta, alpha=samples / total)
        self.squares.add_(squares).addcmul_(delta, delta, value=self.samples * samples / total)
        self.samples = total
        return delta

    def scaled(self, units: ScaledUnits) -> "Moments":
        """Return the moments of these units multiplied and moved."""
        found = copy.copy(self)
        found.mean = self.mean * units.factor + units.shift
        found.squares = self.squares * units.factor.square()
        return found


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
        for start in range(0, a.samples, CHUNK):
            of_a, of_b = (one.values[:, start : start + CHUNK] for one in (a, b))
            self.cross += _products(of_a, of_b)
        self.cross.addr_(a.rest, b.rest, alpha=-a.samples)
        before = self.samples
        self.a.resolution = self.b.resolution = torch.finfo(a.values.dtype).eps
        delta_a = self.a.update(a.samples, a.mean, a.squares)
        delta_b = self.b.update(b.samples, b.mean, b.squares)
        self.cross.addr_(delta_a, delta_b, alpha=before * a.samples / self.samples)

    def scaled(self, a: ScaledUnits, b: ScaledUnits) -> "PairMoments":
        """Return what these moments say of units that are these, multiplied and moved."""
        found = copy.copy(self)
        found.a, found.b = self.a.scaled(a), self.b.scaled(b)
        found.cross = self.cross * torch.outer(a.factor, b.factor)
        return found

    def merged(self, other: "PairMoments") -> "PairMoments":
        """Return the moments of these samples and those of another together."""
        found = copy.deepcopy(self)
        delta_a = found.a.update(other.samples, other.a.mean, other.a.squares)
        delta_b = found.b.update(other.samples, other.b.mean, other.b.squares)
        found.cross += other.cross
        found.cross.addr_(delta_a, delta_b, alpha=self.samples * other.samples / found.samples)
        return found
