"""Statistics of channels, and the corrections held for layers that run several times in a forward pass."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ChannelStats:
    """Mean and standard deviation of each output channel of a layer over `samples` samples."""

    samples: int
    mean: Float64[Tensor, " channels"]
    std: Float64[Tensor, " channels"]


@dataclass
class Held:
    """What such layers do to each of their outputs while the others are measured, revised from pass to pass.

    A layer's first run decides what its later runs receive, so a correction changes what calls for it. Moved by 1 / n
    of the way (on a logarithmic scale, for n runs) a homogeneous network's corrections approach their fixed point.

    Args:
        layers: name -> scale and shift of each channel.
        norms: name of a BatchNorm layer -> mean and variance it normalises by.
    """

    layers: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    norms: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def revise(self, name: str, new: tuple[Tensor, Tensor], wanted: ChannelStats, runs: int) -> float:
        """Move towards the scale and shift called for; return how far off these were, relative to what is wanted."""
        scale, shift = new
        before, moved = self.layers.get(name) or (torch.ones_like(scale), torch.zeros_like(shift))
        size = wanted.std + wanted.mean.abs()
        off = torch.maximum(_relative(scale - before, torch.maximum(scale, before)), _relative(shift - moved, size))
        towards = before * (scale / before) ** (1 / runs)
        self.layers[name] = torch.where(before * scale > 0, towards, scale), torch.lerp(moved, shift, 1 / runs)
        return float(off.max())

    def revise_norm(self, name: str, new: tuple[Tensor, Tensor]) -> float:
        """Move half way towards the mean and variance seen; return how far off these were, in standard deviations."""
        mean, variance = new
        if name not in self.norms:
            self.norms[name] = new
            return float("inf")
        before, spread = self.norms[name]
        off = torch.maximum(
            _relative(mean - before, variance.sqrt()), _relative(variance - spread, torch.maximum(variance, spread))
        )
        self.norms[name] = torch.lerp(before, mean, 0.5), torch.lerp(spread, variance, 0.5)
        return float(off.max())


def _relative(difference: Tensor, size: Tensor) -> Tensor:
    return torch.where(difference == 0, 0.0, difference.abs() / size)
