"""The true freedom of a case by brute force, and the verdict on what discovery claims.

What discovery can claim are groups of units, each in any order, and such an order is a sequence of exchanges of
neighbours: of two neighbouring runs of equal length on an axis, or of several such pairs at once (the second of three
units in every head). So every exchange of every axis, together with every exchange of every other axis, is tried: the
parameters are moved, and the exchange counts where all results stay. The freedom is the order of the group that these
generate. Exchanges of units that nothing reads are left out, as discovery leaves them where they are.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from sympy.combinatorics import Permutation, PermutationGroup
from torch import Tensor
from torch.func import functional_call

from reticket.symmetry import discover
from reticket.symmetry.alignment import random_alignment
from tests.operators.case import Case, Net

Axis = tuple[str, int]
Order = tuple[int, ...]
TOLERANCE = 1e-9  # of the largest value; moved sums differ by about 1e-15
FREE, LESS, UNSOUND = "as free as it is", "less free", "UNSOUND"


def exchanges(size: int) -> list[Order]:
    """Return the identity and every way to exchange neighbouring runs of one length, one pair or several at once.

    >>> exchanges(3)
    [(0, 1, 2), (0, 2, 1), (1, 0, 2)]
    """
    found = {tuple(range(size)): None}
    for length in range(1, size // 2 + 1):
        for order in _exchanged(0, size, length):
            found[order] = None
    return list(found)


def _exchanged(start: int, size: int, length: int) -> Iterator[Order]:
    if start >= size:
        yield ()
        return
    for rest in _exchanged(start + 1, size, length):
        yield (start, *rest)
    if start + 2 * length <= size:
        first, second = range(start, start + length), range(start + length, start + 2 * length)
        for rest in _exchanged(start + 2 * length, size, length):
            yield (*second, *first, *rest)


@dataclass(frozen=True)
class Finding:
    """What brute force and discovery say of one case.

    Args:
        true: order of the group that keeps the function.
        found: order of the group that discovery claims.
        kept: whether the function was kept by every permutation drawn from the claimed group.
    """

    true: int
    found: int
    kept: bool

    @property
    def verdict(self) -> str:
        """One of the three."""
        if not self.kept:
            return UNSOUND
        return FREE if self.found >= self.true else LESS


def moved(tensor: Tensor, orders: Mapping[int, Order]) -> Tensor:
    """Return the tensor with some of its axes in another order."""
    for axis, order in orders.items():
        tensor = tensor.index_select(axis, torch.tensor(order))
    return tensor


class BruteForce:
    """Tries every exchange of one network."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.state = {name: p.detach() for name, p in net.named_parameters()}
        self.axes: list[Axis] = [(name, axis) for name, axes in net.sources.items() for axis in axes]
        self.base = self._results(self.state)
        for y in self.base:
            assert y.isfinite().all(), "the results of a case must be finite"
        self.still = {axis: self._unread(axis) for axis in self.axes}
        self.readers = [{a: exchanges(y.shape[a]) for a in names} for y, names in zip(self.base, net.readers, strict=True)]
        self.wanted = [self._read(i, y)[(0,) * len(self.readers[i])] for i, y in enumerate(self.base)]

    def _results(self, state: Mapping[str, Tensor]) -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad():
            return self.net.results(state)

    def _unread(self, axis: Axis) -> frozenset[int]:
        """Return the positions of an axis on which nothing depends."""
        name, dim = axis
        found = set()
        for position in range(self.state[name].shape[dim]):
            if not any(self._matters(axis, position, factor) for factor in (-1.7, 30.0, -30.0)):
                found.add(position)
        return frozenset(found)

    def _matters(self, axis: Axis, position: int, factor: float) -> bool:
        name, dim = axis
        other = self.state[name].clone()
        other.select(dim, position).mul_(factor).add_(0.3)
        results = self._results({**self.state, name: other})
        return not all(torch.equal(y, z) for y, z in zip(results, self.base, strict=True))

    def _read(self, index: int, result: Tensor) -> Tensor:
        """Return the result read by its weights in every order: axes of orders first, then what is read."""
        y = result
        for done, (axis, orders) in enumerate(self.readers[index].items()):
            weight = self.state[self.net.readers[index][axis]]
            stacked = torch.stack([moved(weight, {1: order}) for order in orders])  # (orders, 2, size)
            y = torch.einsum("...s,oks->...ko", y.movedim(done + axis, -1), stacked)
            y = y.movedim(-2, done + axis).movedim(-1, done)
        return y

    def _readings(self, index: int, result: Tensor) -> list[tuple[Order, ...]]:
        """Return the orders of the weights that read a result in which it gives what it gave before."""
        if result.shape != self.base[index].shape:
            return []
        got, wanted = self._read(index, result), self.wanted[index]
        difference = (got - wanted).abs().flatten(len(self.readers[index])) if wanted.dim() else (got - wanted).abs()
        worst = difference.amax(-1) if wanted.dim() else difference
        hits = (worst <= TOLERANCE * wanted.abs().max().clamp(min=1e-30)).nonzero().tolist()
        choices = list(self.readers[index].values())
        return [tuple(orders[i] for orders, i in zip(choices, hit, strict=True)) for hit in hits]

    def generators(self) -> list[list[Order]]:
        """Return the exchanges that keep the function, one order for each axis of sources and then of readers."""
        found = []
        for orders in itertools.product(*(self._possible(axis) for axis in self.axes)):
            chosen: dict[str, dict[int, Order]] = {}
            for (name, axis), order in zip(self.axes, orders, strict=True):
                chosen.setdefault(name, {})[axis] = order
            state = {name: moved(value, chosen.get(name, {})) for name, value in self.state.items()}
            readings = [self._readings(i, y) for i, y in enumerate(self._results(state))]
            first = [choices[0] for choices in readings if choices]
            for i, choices in enumerate(readings if len(first) == len(readings) else []):
                found += [[*orders, *itertools.chain(*first[:i], one, *first[i + 1 :])] for one in choices]
        return found

    def _possible(self, axis: Axis) -> list[Order]:
        name, dim = axis
        still = self.still[axis]
        return [order for order in exchanges(self.state[name].shape[dim]) if all(order[i] == i for i in still)]

    def order(self) -> int:
        """Return the number of permutations of all axes that exchanges make and that keep the function."""
        unique = dict.fromkeys(tuple(map(tuple, generator)) for generator in self.generators())
        points = [_joined(generator) for generator in unique]
        return int(PermutationGroup([Permutation(p) for p in points]).order())  # pyright: ignore


def _joined(orders: Sequence[Order]) -> list[int]:
    """Return permutations of several sets as one of their disjoint union.

    >>> _joined([(1, 0), (0, 2, 1)])
    [1, 0, 2, 4, 3]
    """
    joined: list[int] = []
    for order in orders:
        joined += [len(joined) + i for i in order]
    return joined


def claimed(net: Net, draws: int = 8) -> tuple[int, bool]:
    """Return the order of the group that discovery claims, and whether permutations drawn from it keep the function."""
    symmetry = discover(net, net.inputs, verify=False)
    state = {name: p.detach() for name, p in net.named_parameters()}

    def run(given: Mapping[str, Tensor]) -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad():
            return functional_call(net, dict(given), net.inputs)

    wanted = run(state)
    kept = True
    for draw in range(draws if symmetry.groups else 0):
        alignment = random_alignment(symmetry, torch.Generator().manual_seed(draw))
        for y, z in zip(run(alignment.apply(state)), wanted, strict=True):
            kept &= bool((y - z).abs().max() <= TOLERANCE * z.abs().max().clamp(min=1e-30))
    return round(math.pow(10, symmetry.log10_order)), kept


def find(case: Case) -> Finding:
    """Try a case."""
    net = Net(case)
    true = BruteForce(net).order()
    return Finding(true, *claimed(net))
