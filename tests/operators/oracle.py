"""The true freedom of a case by brute force, and the verdict on what discovery claims.

What discovery can claim are groups of units, each in any order, and such an order is a sequence of exchanges of
neighbours: of two neighbouring positions of an axis, or of several such pairs at once (the second and the third unit of
every head), where neighbours are d apart if d positions belong to each unit. So every exchange of every axis, together
with every exchange of every other axis, is tried: the parameters are moved, and the exchange counts where all results
stay. The freedom is the order of the group that these generate. Exchanges of units that nothing reads are left out, as
discovery leaves them where they are.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from sympy.combinatorics import Permutation, PermutationGroup
from torch import Tensor
from torch.func import functional_call

from reticket.errors import ModelError
from reticket.symmetry import discover
from reticket.symmetry.alignment import random_alignment
from tests.operators.case import Case, Net
from tests.together import Together

Axis = tuple[str, int]
Order = tuple[int, ...]
TOLERANCE = 1e-9  # of the largest value; moved sums differ by about 1e-15
FREE, LESS, UNSOUND = "as free as it is", "less free", "UNSOUND"


def exchanges(size: int) -> list[Order]:
    """Return the identity and every exchange of neighbours, one pair or several at once.

    Neighbours are d apart, for the divisors d of the size: the units of a factor before another of d positions.

    >>> exchanges(3)
    [(0, 1, 2), (0, 2, 1), (1, 0, 2)]
    >>> (2, 1, 0, 3) in exchanges(4), (2, 3, 0, 1) in exchanges(4), (0, 3, 2, 1) in exchanges(4)
    (True, True, True)
    """
    found = {}
    for distance in (d for d in range(1, size // 2 + 1) if size % d == 0):
        found.update(dict.fromkeys(_exchanged(tuple(range(size)), 0, distance)))
    return list(found) or [tuple(range(size))]


def _exchanged(order: Order, start: int, distance: int) -> Iterator[Order]:
    if start + distance >= len(order):
        yield order
        return
    yield from _exchanged(order, start + 1, distance)
    other = start + distance
    if order[start] == start:  # it was not exchanged with what stands before it
        swapped = (*order[:start], other, *order[start + 1 : other], start, *order[other + 1 :])
        yield from _exchanged(swapped, start + 1, distance)


@dataclass(frozen=True)
class Finding:
    """What brute force and discovery say of one case.

    Args:
        true: order of the group that keeps the function.
        found: order of the group that discovery claims.
        kept: whether the function was kept by every permutation drawn from the claimed group.
        note: why the case cannot be traced; empty where it can.
    """

    true: int
    found: int
    kept: bool
    note: str = ""

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
        self.readers = [
            {a: exchanges(y.shape[a]) for a in names} for y, names in zip(self.base, net.readers, strict=True)
        ]
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


def claimed(nets: Sequence[Net], draws: int = 8) -> list[tuple[int, bool]]:
    """Return the order of the group that discovery claims of each network, and whether its permutations keep it.

    The networks are discovered as one model, which takes less time than one by one.
    """
    model = Together({str(i): net for i, net in enumerate(nets)})
    symmetry = discover(model, tuple(net.inputs for net in nets), verify=False)
    state = {name: p.detach() for name, p in model.named_parameters()}
    own = [f"models.{i}." for i in range(len(nets))]
    orders = [math.fsum(g.log10_order for g in symmetry.groups.values() if g.name.startswith(name)) for name in own]
    drawn = [random_alignment(symmetry, torch.Generator().manual_seed(draw)).apply(state) for draw in range(draws)]
    kept = [_kept(net, [_cut(one, name) for one in (state, *drawn)]) for net, name in zip(nets, own, strict=True)]
    return [(round(math.pow(10, order)), same) for order, same in zip(orders, kept, strict=True)]


def _cut(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _kept(net: Net, states: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether the network gives with all these parameters what it gives with the first."""
    results = []
    for state in states:
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(functional_call(net, dict(state), net.inputs))
    return all(_same(y, z) for run in results[1:] for y, z in zip(run, results[0], strict=True))


def _same(value: Tensor, wanted: Tensor) -> bool:
    return bool((value - wanted).abs().max() <= TOLERANCE * wanted.abs().max().clamp(min=1e-30))


def find(cases: Sequence[Case]) -> list[Finding]:
    """Try cases by brute force, and ask discovery about all at once, or one by one where one cannot be traced."""
    nets = [Net(case) for case in cases]
    true = [BruteForce(net).order() for net in nets]
    try:
        claims = claimed(nets)
    except ModelError as error:
        if len(nets) > 1:
            return [finding for case in cases for finding in find([case])]
        return [Finding(true[0], 1, True, str(error))]
    return [Finding(order, *claim) for order, claim in zip(true, claims, strict=True)]
