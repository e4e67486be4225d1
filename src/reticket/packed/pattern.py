"""Where the kept entries of a matrix stand: the part of a packed weight that all initialisations share."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KeptEntries:
    """The kept entries of a matrix, row by row.

    Args:
        kept: True for what is kept.

    >>> entries = KeptEntries(torch.tensor([[True, False, True], [False, True, False]]))
    >>> entries.starts.tolist(), entries.columns.tolist(), entries.count
    ([0, 2, 3], [0, 2, 1], 3)
    """

    kept: Bool[Tensor, "outputs inputs"]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.kept.shape[0], self.kept.shape[1]

    @property
    def count(self) -> int:
        """How many entries are kept."""
        return len(self.columns)

    @cached_property
    def flat(self) -> Int[Tensor, " kept"]:
        """Their places in the flattened matrix."""
        return self.kept.flatten().nonzero().flatten()

    @cached_property
    def columns(self) -> Int[Tensor, " kept"]:
        """The input of each, int32."""
        return (self.flat % self.shape[1]).int()

    @cached_property
    def starts(self) -> Int[Tensor, " outputs+1"]:
        """Where each output's entries begin, and where the last one's end, int32."""
        ends = self.kept.sum(dim=1).cumsum(0)
        return torch.cat([torch.zeros_like(ends[:1]), ends]).int()

    @cached_property
    def transposed(self) -> "KeptEntries":
        """Those of the transposed matrix."""
        return KeptEntries(self.kept.T.contiguous())

    @cached_property
    def order(self) -> Int[Tensor, " kept"]:
        """Which entry of this matrix each of the transposed one is."""
        outputs, inputs = self.shape
        rank = torch.empty(outputs * inputs, dtype=torch.int64, device=self.kept.device)
        rank[self.flat] = torch.arange(self.count, device=self.kept.device)
        return rank.view(outputs, inputs).T[self.transposed.kept]

    def values_of(self, weight: Float[Tensor, "outputs inputs *ones"]) -> Float[Tensor, " kept"]:
        """Return the kept entries of a weight, in memory of their own."""
        return weight.detach().reshape(-1)[self.flat.to(weight.device)]

    def dense(self, values: Float[Tensor, " kept"]) -> Float[Tensor, "outputs inputs"]:
        """Return the matrix with these entries and zeros."""
        whole = values.new_zeros(self.kept.numel())
        whole[self.flat] = values.detach()
        return whole.view(self.shape)

    def to(self, device: torch.device) -> "KeptEntries":
        """Return them on a device."""
        return self if self.kept.device == device else KeptEntries(self.kept.to(device))
