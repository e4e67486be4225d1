"""Small models that stress symmetry discovery, each with the freedom it should find."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.models import build_model, example_input
from reticket.symmetry import Symmetry, discover


def orders(*sizes: int) -> float:
    """log10 of the product of the factorials."""
    return sum(math.lgamma(n + 1) for n in sizes) / math.log(10)


class ConvMeanLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


class ConvFlattenLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.Linear(6 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(F.relu(self.conv(x))).flatten(1))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6)
        self.bn, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.hardswish(self.bn(self.deep(self.first(x)))).amax((2, 3)))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.mid, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 3, groups=2), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.mid(F.relu(self.first(x))))).mean((2, 3))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(9, 6, 1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([F.relu(self.a(x)), F.relu(self.b(x))], dim=1)
        return self.fc(F.relu(self.c(joined)).mean((2, 3)))


class PixelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.shuffle, self.last = nn.Conv2d(3, 12, 1), nn.PixelShuffle(2), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.shuffle(self.up(x)))).flatten(1)


class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.last(F.relu(y)).mean((2, 3))


class ResidualBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(3, 5, 1, bias=False), nn.BatchNorm2d(5)
        self.conv1, self.bn1 = nn.Conv2d(5, 7, 3, padding=1, bias=False), nn.BatchNorm2d(7)
        self.conv2, self.bn2 = nn.Conv2d(7, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.act, self.drop, self.fc = nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn0(self.stem(x)))
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        y += x
        return self.fc(self.drop(F.relu(y, inplace=True).mean((2, 3))))


class FreeScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.scale, self.fc2 = nn.Linear(6, 8), nn.Parameter(torch.ones(8)), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(x)) * self.scale)


class SharedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.shared, self.fc2 = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        return self.fc2(F.relu(self.shared(F.relu(self.shared(x)))))


class FunctionalLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(8))
        self.w2 = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(x, self.w1, self.b1)), self.w2)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0][:, -1])


class PreNormAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.norm2 = nn.Embedding(11, 8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        n, t, d = x.shape
        y = self.norm(x)
        q, k, v = (f(y).view(n, t, 2, d // 2).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        x = x + self.o(y)
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


class PadShortcut(nn.Module):
    """The shortcut of He et al. without parameters: every second position, zeros for the new channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        return self.fc(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc(self.embed(ids))))


class Positions(nn.Module):
    """Reads only the first rows of its table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.embed, self.fc = nn.Parameter(torch.randn(10, 6)), nn.Embedding(9, 6), nn.Linear(6, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc((self.embed(ids) + self.table[: ids.shape[1]]).sum(1))


class NoRule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(F.relu(self.fc2(torch.special.hermite_polynomial_h(self.fc1(x), 3))))


@dataclass(frozen=True)
class Case:
    """A model, its example input, and log10 of the freedom that the terms without dependent atoms allow."""

    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    log10_order: float


def image() -> Tensor:
    return torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8).sin()


def features() -> Tensor:
    return torch.linspace(-1, 1, 12).reshape(2, 6)


def ids() -> Tensor:
    return torch.tensor([[1, 4, 2, 8], [0, 3, 7, 5]])


CASES = {
    "conv-mean-linear": Case(ConvMeanLinear, image, orders(6)),
    "conv-flatten-linear": Case(ConvFlattenLinear, image, orders(6)),
    "depthwise": Case(Depthwise, image, orders(6)),
    "grouped": Case(Grouped, image, orders(2, 3, 3, 4, 4)),
    "concat": Case(Concat, image, orders(4, 5, 6)),
    "pixel-shuffle": Case(PixelShuffle, image, orders(3)),
    "channel-shuffle": Case(ChannelShuffle, image, orders(2, 3, 3)),
    "residual-batchnorm": Case(ResidualBatchNorm, image, orders(5, 7)),
    "free-scale": Case(FreeScale, features, orders(8)),
    "shared-twice": Case(SharedTwice, features, orders(7)),
    "functional-linear": Case(FunctionalLinear, features, orders(8)),
    "lstm": Case(Recurrent, lambda: torch.linspace(-1, 1, 40).reshape(2, 4, 5), orders(6)),
    "attention": Case(PreNormAttention, ids, orders(8, 12, 2, 4, 4, 4, 4)),
    "pad-shortcut": Case(PadShortcut, image, orders(2, 2, 4)),
    "tied": Case(Tied, ids, orders(6)),
    "positions": Case(Positions, ids, orders(6)),
    "no-rule": Case(NoRule, features, orders(5)),
}


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@cache
def _solved(name: str) -> tuple[nn.Module, Symmetry]:
    torch.manual_seed(sum(map(ord, name)))
    model = CASES[name].build()
    return model, discover(model, CASES[name].example(), verify=False)


def solved(name: str) -> tuple[nn.Module, Symmetry]:
    """A copy of the model of a case and what the rules alone find for it; tracing is the slow part, so it is kept."""
    model, symmetry = _solved(name)
    return copy.deepcopy(model), symmetry


@cache
def family(name: str, width: int | None = None) -> tuple[nn.Module, Tensor, Symmetry]:
    """One of the package's own models, its example input and what the rules alone find for it."""
    params: dict[str, Any] = {} if width is None else {"width": width}
    model, example = build_model(name, **params), example_input(name, **params)
    return model, example, discover(model, example, verify=False)
