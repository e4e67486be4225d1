"""How free an operator is, by trying every permutation: the measure of what its rule may claim.

`Made` is a network around one operator: weights make the axes of its operands, so that each may move, and a weight with
an axis for each of its result's reads them. A permutation g of the operands' axes and h of the result's keep the
network's function when f(g x) = h f(x), whatever the weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import torch
from torch import Tensor, nn

from tests.models_for_symmetry import Case, orders

Function = Callable[..., Tensor]


class Made(nn.Module):
    """`x = sinc(w_2 + w_1[:, None] z) -> function -> sum(read * .)` for operands x of shape (batch, n_1, n_2)."""

    def __init__(self, function: Function, *shapes: Sequence[int]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ModuleList(
            nn.ParameterList(torch.randn(n, *(1 for _ in shape[axis + 1 :])) for axis, n in enumerate(shape))
            for shape in shapes
        )
        self.read = nn.Parameter(torch.randn(function(*self.operands(example()))[0].shape))

    def operands(self, z: Tensor) -> list[Tensor]:
        """Return the operands made of an input of shape (batch, 1, 1)."""
        found = []
        for weights in self.weights:
            assert isinstance(weights, nn.ParameterList)
            first, *others = weights
            x = z[..., None] if len(others) > 1 else z
            x = torch.addcmul(others[-1], x, first) if others else x[..., 0] * first
            found.append(math.prod(others[:-1], start=x).sinc())
        return found

    def forward(self, z: Tensor) -> Tensor:
        y = self.function(*self.operands(z))
        return (y * self.read).sum(tuple(range(1, y.dim())))


def example(batch: int = 2) -> Tensor:
    """An input: one number each."""
    return torch.linspace(-2, 3, batch)[:, None, None]


def moves(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield every choice of a permutation for each axis."""
    return product(*(permutations(range(n)) for n in shape))


def moved(x: Tensor, move: Sequence[Sequence[int]]) -> Tensor:
    """Permute every axis but the first."""
    for axis, order in enumerate(move, 1):
        x = x.index_select(axis, torch.tensor(order))
    return x


def kept(model: Made, batch: int = 3) -> int:
    """Return how many pairs (g, h) keep the function, in float64."""
    operands = model.double().operands(example(batch).double())
    y = model.function(*operands).double()
    results = torch.stack([moved(y, h) for h in moves(y.shape[1:])])
    found = 0
    for g in product(*(list(moves(x.shape[1:])) for x in operands)):
        z = model.function(*map(moved, operands, g)).double()
        found += int(((results - z).abs().flatten(1).amax(1) <= 1e-9 * y.abs().max()).sum())
    return found


@dataclass(frozen=True)
class Tried:
    """An operator and how free it is.

    Args:
        function: from operands (batch, ...) to a result (batch, ...).
        shapes: shapes of the operands without the batch.
        sizes: sizes of the groups that discovery must find, each as often as it has copies.
        share: how many times as many permutations keep the function; 1 where everything is found.
    """

    function: Function
    shapes: Sequence[Sequence[int]]
    sizes: Sequence[int]
    share: int = 1

    def case(self) -> Case:
        """The case for tests of rules and for mutants."""
        return Case(lambda: Made(self.function, *self.shapes), example, orders(*self.sizes))

    @property
    def order(self) -> int:
        """The number of permutations that keep the function."""
        return math.prod(map(math.factorial, self.sizes)) * self.share


class Table(nn.Module):
    """`z sum(read * function(table))`: nothing ties the positions of one axis of the table to those of another."""

    def __init__(self, function: Function, shape: Sequence[int]) -> None:
        super().__init__()
        self.function = function
        self.table = nn.Parameter(torch.randn(*shape))
        self.read = nn.Parameter(torch.randn(function(self.table).shape))

    def forward(self, z: Tensor) -> Tensor:
        return z * (self.read * self.function(self.table)).sum()


def tabled(function: Function, shape: Sequence[int], sizes: Sequence[int]) -> Case:
    """The case of a table, with the sizes of its groups, each as often as it has copies."""
    return Case(lambda: Table(function, shape), example, orders(*sizes))
