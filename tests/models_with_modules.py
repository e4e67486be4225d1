"""Awkward ways to hold weights, to take inputs and to return outputs, with the freedom of each derived by hand."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.models_for_symmetry import Case, features, ids, mlp, orders


def weight_normed() -> nn.Module:
    model = mlp(6, 8, 7, 4)
    for layer in (model[0], model[2]):
        parametrizations.weight_norm(layer)  # pyright: ignore[reportArgumentType]
    return model


def spectral_normed() -> nn.Module:
    model = mlp(6, 8, 7, 4)
    for layer in (model[0], model[2]):
        parametrizations.spectral_norm(layer)  # pyright: ignore[reportArgumentType]
    return model


class Symmetric(nn.Module):
    """A parametrization that makes a weight symmetric: the same units on both axes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


class Positive(nn.Module):
    """A parametrization that works entry by entry."""

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


def symmetric() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 4))
    parametrize.register_parametrization(model[1], "weight", Symmetric())
    return model


def positive() -> nn.Module:
    model = mlp(6, 8, 4)
    parametrize.register_parametrization(model[0], "weight", Positive())
    return model


def pruned() -> nn.Module:
    model = mlp(6, 8, 7, 4)
    prune.l1_unstructured(model[0], "weight", amount=0.4)
    prune.random_structured(model[2], "weight", amount=0.3, dim=0)
    prune.l1_unstructured(model[2], "bias", amount=0.5)
    return model


class Shared(nn.Module):
    """Weights that are one by storage: a second parameter of the same memory, and parts of a flat one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(6, 7, bias=False), nn.Linear(6, 7, bias=False), nn.Linear(7, 4)
        self.b.weight = nn.Parameter(self.a.weight.data)
        flat = torch.randn(35)
        self.scale, self.shift = nn.Parameter(flat[:7]), nn.Parameter(flat[7:14])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.a(x).relu() * self.scale - self.b(x.square()) + self.shift)


class Held(nn.Module):
    """Parameters in lists and dicts, buffers that are saved and a table that is not."""

    table: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.pairs = nn.ParameterDict({"up": torch.randn(8, 6), "down": torch.randn(4, 8)})
        self.biases = nn.ParameterList([torch.randn(8), torch.randn(5)])
        self.middle = nn.Parameter(torch.randn(5, 4))
        self.register_buffer("offset", torch.randn(8))
        self.register_buffer("table", torch.arange(4.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear((F.linear(x, self.pairs["up"], self.biases[0]) + self.offset).relu(), self.pairs["down"])
        return (F.linear(x * self.table, self.middle) + self.biases[1]).tanh().sum(-1)


class TrainOnlyHead(nn.Module):
    """A second head that only training reads; there it returns one tensor more, in front."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 4)
        self.auxiliary = nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.body(x).relu()
        return (self.auxiliary(x), self.head(x)) if self.training else self.head(x)


class Unused(nn.Module):
    """A parameter and a layer that nothing reads: another input, or another version of forward, might."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 4)
        self.idle, self.spare = nn.Linear(8, 5), nn.Parameter(torch.randn(9))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


class TiedAutoencoder(nn.Module):
    """The decoder is the encoder's weight transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        code = F.linear(F.linear(x, self.first).relu(), self.second).relu()
        return F.linear(F.linear(code, self.second.T).relu(), self.first.T)


class Several(nn.Module):
    """Two inputs by position, one by keyword, integers among them; a part is switched off by None."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.numbers, self.scale = nn.Embedding(9, 7), nn.Linear(6, 7), nn.Linear(3, 7)
        self.head = nn.Linear(7, 4)

    def forward(self, ids: Tensor, x: Tensor, *, side: Tensor, nothing: Tensor | None = None) -> Tensor:
        total = self.words(ids).sum(1) + self.numbers(x).relu() * self.scale(side).sigmoid()
        return self.head(total if nothing is None else total + nothing)


class Pair(NamedTuple):
    """Two results by name."""

    first: Tensor
    second: Tensor


@dataclass
class Record:
    """A result of a kind that torch does not know."""

    scores: Tensor
    hidden: Tensor | None
    parts: dict[str, Tensor]


class Returns(nn.Module):
    """Returns its hidden units, averaged, and its scores in some container."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.body, self.other, self.head, self.way = nn.Linear(6, 8), nn.Linear(6, 5), nn.Linear(8, 4), way

    def forward(self, x: Tensor) -> Any:
        hidden, other = self.body(x).relu(), self.other(x).tanh()
        scores, mean = self.head(hidden), other.mean(-1)
        if self.way == "dict":
            return {"scores": scores, "nested": [mean, {"none": None, "number": 3}]}
        if self.way == "named":
            return Pair(scores, mean)
        return Record(scores, None, {"mean": mean}) if self.way == "dataclass" else (scores, (mean, "text"))


MODULES = {
    # a parametrization moves with the weight that it makes: as without it
    "weight-norm": Case(weight_normed, features, orders(8, 7)),
    "spectral-norm": Case(spectral_normed, features, orders(8, 7)),
    "entrywise-parametrization": Case(positive, features, orders(8)),
    # an upper triangle is what is read of the weight: its order is pinned
    "triangular-parametrization": Case(symmetric, features, 0.0),
    "pruned-by-hooks": Case(pruned, features, orders(8, 7)),
    "shared-by-storage": Case(Shared, features, orders(7)),
    # 8 hidden units; the table pins 4; the 5 summed in the end may move
    "parameters-in-containers": Case(Held, features, orders(8, 5)),
    # 8 units in the body, 5 in the head that only training reads
    "train-only-head": Case(TrainOnlyHead, features, orders(8, 5)),
    "unused-parameter": Case(Unused, features, orders(8)),
    "tied-autoencoder": Case(TiedAutoencoder, features, orders(8, 5)),
}
SEVERAL = Case(Several, lambda: {"ids": ids()[:, :3], "x": features(), "side": torch.randn(2, 3)}, orders(7))
# 8 hidden units, and 5 whose mean is returned
RETURNS = {
    way: Case(lambda way=way: Returns(way), features, orders(8, 5)) for way in ("dict", "named", "tuple", "dataclass")
}
