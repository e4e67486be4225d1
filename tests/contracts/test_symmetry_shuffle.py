"""Channels that are shuffled between two grouped convolutions: each keeps to the pair of groups that it stands in."""

import math
from collections import Counter
from itertools import permutations, product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.symmetry import discover
from reticket.symmetry.graph import Inputs
from reticket.symmetry.verify import guilty_groups


class Unit(nn.Module):
    """A unit of ShuffleNet: grouped 1 x 1, shuffle, depthwise, grouped 1 x 1, with or without a residual stream."""

    def __init__(self, outer: int, inner: int, groups: int, *, residual: bool, native: bool) -> None:
        super().__init__()
        self.groups, self.residual, self.native = groups, residual, native
        self.stem, self.head = nn.Conv2d(3, outer, 1), nn.Conv2d(outer, 2, 1)
        self.first = nn.Conv2d(outer, inner, 1, groups=groups)
        self.depthwise = nn.Conv2d(inner, inner, 1, groups=inner)
        self.last = nn.Conv2d(inner, outer, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.stem(x).relu()
        x = self.first(x).relu()
        if self.native:
            x = F.channel_shuffle(x, self.groups)
        else:
            x = x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        x = self.last(self.depthwise(x))
        return self.head((x + y if self.residual else x).relu())


def order(outer: int, inner: int, groups: int, *, residual: bool) -> int:
    """The number of permutations of all channels that keep every connection, by trying those of the outer channels.

    An inner channel is known by the group that makes it and the group that reads it; channels alike in both may be
    exchanged. Permutations of the outer channels permute the groups, and cells must come to lie on cells as large.
    """
    made = [i * groups // inner for i in range(inner)]
    read = [(i % (inner // groups) * groups + made[i]) * groups // inner for i in range(inner)]
    cells = Counter(zip(made, read, strict=True))
    ways: Counter[tuple[int, ...]] = Counter()
    for sigma in permutations(range(outer)):
        images = {(i * groups // outer, sigma[i] * groups // outer) for i in range(outer)}
        if len(images) == groups:
            ways[tuple(image for _, image in sorted(images))] += 1
    total = 0
    for (before, m), (after, n) in product(ways.items(), ways.items()):
        if residual and before != after:
            continue
        if all(cells[before[g], after[h]] == cells[g, h] for g in range(groups) for h in range(groups)):
            total += m if residual else m * n
    return total * math.prod(map(math.factorial, cells.values()))


def found(outer: int, inner: int, groups: int, *, residual: bool, native: bool = False) -> float:
    torch.manual_seed(3)
    model, x = Unit(outer, inner, groups, residual=residual, native=native), torch.randn(2, 3, 2, 2)
    symmetry = discover(model, x, verify=False)
    assert guilty_groups(symmetry, model, Inputs.of(x), draws=2)[0] == {}
    return 10**symmetry.log10_order


@pytest.mark.slow_cases(but=["sizes1-True"])
@pytest.mark.parametrize(("sizes", "native"), [((4, 8, 2), False), ((6, 12, 2), True), ((6, 9, 3), False)])
def test_every_pair_of_groups_has_channels_of_its_own(sizes: tuple[int, int, int], native: bool) -> None:
    assert found(*sizes, residual=False, native=native) == pytest.approx(order(*sizes, residual=False))


def test_a_residual_stream_ties_both_groups_and_costs_their_copies() -> None:
    """One order of groups for both roles stands twice beside the channels, which then have one order in all cells."""
    assert order(4, 8, 2, residual=True) == 2 * math.factorial(2) ** 2 * math.factorial(2) ** 4
    assert found(4, 8, 2, residual=True) == pytest.approx(2 * math.factorial(2) * math.factorial(2))


def test_groups_that_do_not_divide_the_channels_of_a_group_stay() -> None:
    """Three channels a group go to two groups: cells of two and of one, which no term says."""
    assert order(6, 6, 2, residual=False) == 2 * 36 * 36 * 4
    assert found(6, 6, 2, residual=False) == pytest.approx(36 * 36)
