"""BatchNorm in evaluation mode multiplies each channel by a number and adds one: its output tells nothing new.

What its input has shown of a channel, moments and products, gives those of its output by arithmetic.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class Scaling:
    """What is done to each channel, the second axis of a tensor: `factor * x + shift`.

    Args:
        factor: of each channel; it may be negative or 0.
        shift: of each channel.
    """

    factor: Float64[Tensor, " channels"]
    shift: Float64[Tensor, " channels"]


def scaling_of(module: nn.Module) -> Scaling | None:
    """Return what a BatchNorm in evaluation mode does to each channel; None for any other module, mode or forward.

    >>> norm = nn.BatchNorm2d(1, eps=0.0).eval()
    >>> norm.running_mean[:], norm.running_var[:], norm.weight.data[:] = 3.0, 4.0, -1.0
    >>> scaling_of(norm)
    Scaling(factor=tensor([-0.5000], dtype=torch.float64), shift=tensor([1.5000], dtype=torch.float64))
    """
    if not isinstance(module, NORMS) or type(module) not in NORMS or "forward" in vars(module) or module.training:
        return None
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        return None
    with torch.no_grad():
        factor = (variance.double() + module.eps).rsqrt()
        factor = factor if module.weight is None else factor * module.weight.double()
        shift = -mean.double() * factor
        return Scaling(factor, shift if module.bias is None else shift + module.bias.double())
