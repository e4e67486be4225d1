"""Modules that keep something between calls, or make their weights from other tensors."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune


class Running(nn.Module):
    """Divides by a running size of every unit, which training updates; counts the steps."""

    size: Tensor
    steps: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("size", torch.ones(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                now = x.abs().flatten(0, -2).mean(0)
                self.size.mul_(0.9).add_(now.to(self.size.dtype), alpha=0.1)
                self.steps += 1
        return x / (1 + self.size)


class Positions(nn.Module):
    """Adds a table over the axis before the last, which is made on first use and again for a longer input."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or len(self.table) < x.shape[-2]:
            self.table = torch.arange(1.0, x.shape[-2] + 1).unsqueeze(-1).sin()
        return x + self.table[: x.shape[-2]]


class Folded(nn.Module):
    """Two linear layers that become one on the first use outside training."""

    def __init__(self, size: int, hidden: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(hidden, size)), nn.Parameter(torch.randn(out, hidden))
        self.folded: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.folded = None
            return x @ self.first.T @ self.second.T
        if self.folded is None:
            self.folded = self.second @ self.first
        return x @ self.folded.T


class Scaled(nn.Module):
    """Multiplies by numbers outside the state_dict: a plain attribute, or a buffer that is not saved."""

    def __init__(self, size: int, *, buffer: bool) -> None:
        super().__init__()
        numbers = torch.linspace(0.5, 1.5, size)
        if buffer:
            self.register_buffer("numbers", numbers, persistent=False)
        else:
            self.numbers = numbers

    def forward(self, x: Tensor) -> Tensor:
        return x * self.numbers


class Symmetric(nn.Module):
    """A square matrix from its upper triangle."""

    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


class Even(nn.Module):
    """A matrix that is the same whichever way round both of its axes are moved together."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mT


class Shares(nn.Module):
    """Weights that are positive and sum to 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


class Doubled(nn.Module):
    """The same rows twice."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x])


def parametrized(module: nn.Module, by: nn.Module) -> nn.Module:
    """Return the module with its weight made from another tensor."""
    parametrize.register_parametrization(module, "weight", by, unsafe=True)
    return module


def pruned(module: nn.Module) -> nn.Module:
    """Return the module with the smallest half of its weights masked by torch's own pruning."""
    prune.l1_unstructured(module, "weight", 0.5)
    return module


def tied(first: nn.Module, second: nn.Module) -> nn.Module:
    """Return a network of two layers that share one weight."""
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)
