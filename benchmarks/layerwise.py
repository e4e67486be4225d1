"""Matching as arXiv 2505.05143 describes it: layer by layer, both ResNet20s run on all images for each layer.

Written from the paper: `pi_l = argmax <pi, Z_B (Z_A)^T>`, then layer l of A is permuted and the next is looked at.
Two things are as in this package, so that the permutations can be compared: a layer's correlation is pooled over all
points where it is seen, and it is exact (float64 sums over all images), no mean over batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

Moves: TypeAlias = list[tuple[str, int]]  # (tensor, axis) that a layer's permutation acts on
NORM = ("weight", "bias", "running_mean", "running_var")


class Way(NamedTuple):
    """How networks of one kind are run, and what permuting each layer moves."""

    steps: Callable[[nn.Module, Tensor], Iterator[tuple[str, Tensor]]]
    layers: Callable[[nn.Module], dict[str, Moves]]


def steps(model: nn.Module, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Run a ResNet20 and yield the layer and the values of every activation, in order."""
    m = dict(model.named_modules())
    layer, x = "conv1.weight", m["conv1"](x)
    yield layer, x
    yield layer, (x := m["bn1"](x))
    yield layer, (x := F.relu(x))
    for name in _blocks(model):
        inner, short = f"{name}.conv1.weight", list(m[f"{name}.shortcut"].children())
        yield inner, (y := m[f"{name}.conv1"](x))
        yield inner, (y := m[f"{name}.bn1"](y))
        yield inner, (y := F.relu(y))
        layer = f"{name}.conv2.weight" if short else layer
        yield layer, (y := m[f"{name}.conv2"](y))
        yield layer, (y := m[f"{name}.bn2"](y))
        for part in short:
            yield layer, (x := part(x))
        yield layer, (x := x + y)
        yield layer, (x := F.relu(x))
    yield layer, x.mean((2, 3))


def _blocks(model: nn.Module) -> list[str]:
    stages = ("layer1", "layer2", "layer3")
    return [f"{stage}.{i}" for stage in stages for i, _ in enumerate(model.get_submodule(stage).children())]


def layers(model: nn.Module) -> dict[str, Moves]:
    """Return what each layer's permutation acts on, in the order in which the layers are matched."""
    found: dict[str, Moves] = {"conv1.weight": _writers("", "conv1", "bn1")}
    stream = "conv1.weight"
    for name in _blocks(model):
        reads = [(f"{name}.conv1.weight", 1)]
        if len(model.get_submodule(f"{name}.shortcut")._modules):
            found[stream] += [*reads, (f"{name}.shortcut.0.weight", 1)]
            stream, reads = f"{name}.conv2.weight", []
            found[stream] = _writers(f"{name}.shortcut.", "0", "1")
        found[stream] += [*reads, *_writers(f"{name}.", "conv2", "bn2")]
        found[f"{name}.conv1.weight"] = [*_writers(f"{name}.", "conv1", "bn1"), (f"{name}.conv2.weight", 1)]
    found[stream] += [("fc.weight", 1)]
    return found


def _writers(where: str, conv: str, norm: str) -> Moves:
    return [(f"{where}{conv}.weight", 0), *((f"{where}{norm}.{name}", 0) for name in NORM)]


RESNET20 = Way(steps, layers)


@torch.no_grad()
def match_layerwise(
    a: nn.Module, b: nn.Module, batches: Sequence[Tensor], way: Way = RESNET20
) -> Mapping[str, list[int]]:
    """Return the permutation of every layer.

    Args:
        a: network in evaluation mode; it is permuted layer by layer.
        b: network in evaluation mode, whose order is taken.
        batches: of images.
        way: of networks of their kind.
    """
    found: dict[str, list[int]] = {}
    for layer, moves in way.layers(a).items():
        index = linear_sum_assignment(_correlation(a, b, layer, batches, way).T.numpy(), maximize=True)[1]
        for name, axis in moves:
            tensor = a.state_dict()[name]
            tensor.copy_(tensor.index_select(axis, torch.as_tensor(index)))
        found[layer] = index.tolist()
    return found


def _correlation(a: nn.Module, b: nn.Module, layer: str, batches: Sequence[Tensor], way: Way) -> Tensor:
    """Return the correlation of A's and B's units of a layer, a mean over the points where it is seen.

    Both networks are run as far as the layer is seen, and no further.
    """
    points = [name for name, _ in way.steps(a, batches[0][:1])]
    last = len(points) - points[::-1].index(layer)
    sums = [_Sums() for name in points if name == layer]
    for x in batches:
        both = zip(islice(way.steps(a, x), last), islice(way.steps(b, x), last), strict=True)
        seen = ((of_a, of_b) for (name, of_a), (_, of_b) in both if name == layer)
        for one, pair in zip(sums, seen, strict=True):
            one.add(*(z.movedim(1, 0).flatten(1).double() for z in pair))
    return torch.stack([one.correlation() for one in sums]).mean(0)


class _Sums:
    """Sums of the units of both models at one point."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []
        self.count = 0

    def add(self, a: Tensor, b: Tensor) -> None:
        """Take in units of both, one row for each unit, one column for each sample."""
        new = [a @ b.T, a.sum(1), b.sum(1), a.square().sum(1), b.square().sum(1)]
        self.sums = [one + more for one, more in zip(self.sums or [0] * len(new), new, strict=True)]
        self.count += a.shape[1]

    def correlation(self) -> Tensor:
        """Return Pearson's correlation, 0 for a unit that does not vary."""
        cross, a, b, squares_a, squares_b = self.sums
        spread = torch.outer(*(s - m.square() / self.count for s, m in ((squares_a, a), (squares_b, b))))
        return torch.where(spread > 0, (cross - torch.outer(a, b) / self.count) * spread.rsqrt(), 0.0)
