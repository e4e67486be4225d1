"""How much of each of several networks is taken: weights, or a position on the line between two."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reticket.dense import is_dense, mixed, same_stored
from reticket.errors import InputError

SUM = 1e-6  # by which the sum of weights may miss 1


@dataclass(frozen=True)
class Mixture:
    """Shares of n networks; build it with `mixture`.

    Args:
        weights: of each network, their sum is 1; below 0 only beyond one of two networks on their line.
        alpha: the position on the line where that is how it was given; two networks are then mixed by `torch.lerp`.
    """

    weights: tuple[float, ...]
    alpha: float | None = None

    @property
    def end(self) -> int | None:
        """The number of the only network that has a share, None where several have one."""
        if self.alpha is not None:
            return {0.0: 0, 1.0: 1}.get(self.alpha)
        having = [number for number, weight in enumerate(self.weights) if weight > 0]
        return having[0] if len(having) == 1 else None

    @property
    def nearest(self) -> int:
        """The number of the network with the largest share, the last one of several: b at alpha = 0.5."""
        return max(range(len(self.weights)), key=lambda number: (self.weights[number], number))

    @property
    def between(self) -> "Mixture":
        """The mixture itself, or the nearer end of one that lies beyond both: for what must not fall below 0."""
        if self.alpha is None or 0 <= self.alpha <= 1:
            return self
        return mixture(2, min(max(self.alpha, 0.0), 1.0))

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the mixture of one tensor of every network, on the device and of the type of the first one's.

        That is a new tensor: the end itself bit for bit, and so is every entry in which those with a share are equal.
        What cannot be mixed (integers, booleans, quantised tensors) is that of the `nearest`.
        """
        first = tensors[0]
        tensors = [tensor.to(first.device) for tensor in tensors]
        if self.end is not None:
            return tensors[self.end].clone()
        if not (first.is_floating_point() or first.is_complex()):
            return tensors[self.nearest].clone()
        shares = [(weight, tensor) for weight, tensor in zip(self.weights, tensors, strict=True) if weight != 0]
        if not is_dense(first):
            same = all(same_stored(shares[0][1], tensor) for _, tensor in shares)
            return shares[0][1].clone() if same else mixed(shares, like=first)
        # Equal entries are kept as they are: between two infinities of an attention mask lerp gives NaN.
        kept = shares[0][1].to(first.dtype)
        equal = torch.stack([tensor == shares[0][1] for _, tensor in shares]).all(dim=0)
        if self.alpha is not None:
            return torch.where(equal, kept, torch.lerp(first, tensors[1].to(first.dtype), self.alpha))
        return torch.where(equal, kept, _sum([weight * _wide(tensor) for weight, tensor in shares]).to(first.dtype))


def mixture(count: int, at: float | int | Sequence[float | int]) -> Mixture:
    """Return the mixture of so many networks.

    Args:
        count: number of networks.
        at: a weight for each, none below 0, with sum 1; or for two the position on the line from first to second, which
            goes on beyond both.

    Raises:
        InputError: for any other.

    >>> mixture(2, 0.25).weights, mixture(3, (0.5, 0.25, 0.25)).nearest
    ((0.75, 0.25), 0)
    """
    if isinstance(at, str) or not (isinstance(at, Sequence) or hasattr(at, "__float__")):
        raise InputError(f"alpha is a {type(at).__name__}; give a position on the line, or a weight for each network")
    if not isinstance(at, Sequence):
        if count != 2:
            raise InputError(f"alpha {at} is a position between two networks, got {count}; give a weight for each")
        if not math.isfinite(at):
            raise InputError(f"alpha is a position on the line from a (0) to b (1) and must be a number, got {at}")
        return Mixture((1.0 - at, float(at)), float(at))
    weights = tuple(map(float, at))
    sound = all(math.isfinite(weight) and weight >= 0 for weight in weights)
    if count < 1 or len(weights) != count or not sound or abs(math.fsum(weights) - 1) > SUM:
        raise InputError(
            f"got the weights {list(weights)[:8]} for {count} networks; give one for each, none below 0, with sum 1"
        )
    return Mixture(weights)


def _wide(tensor: Tensor) -> Tensor:
    """Return numbers of half precision in float32, in which they are added up."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _sum(terms: Sequence[Tensor]) -> Tensor:
    """Return a sum that is the same bits in whatever order its terms come: every entry's are added by size."""
    stacked = torch.stack(list(terms))
    if stacked.is_complex():
        return torch.view_as_complex(_sum(torch.view_as_real(stacked).unbind()).contiguous())
    ordered = stacked.sort(dim=0).values
    total = ordered[0].clone()
    for term in ordered[1:]:
        total += term
    return total
