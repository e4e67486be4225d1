"""One-pass matching against a plain implementation that permutes A layer by layer and runs everything again."""

import copy
import functools
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.matching import match
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover

State = dict[str, Tensor]
Moves = tuple[tuple[str, int], ...]  # (tensor, axis) that a group's permutation acts on


class MLP(nn.Module):
    """Two hidden layers, the second pair of units shared by nothing."""

    moves: Mapping[str, Moves] = {
        "one.weight": (("one.weight", 0), ("one.bias", 0), ("two.weight", 1)),
        "two.weight": (("two.weight", 0), ("two.bias", 0), ("end.weight", 1)),
    }

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.end = nn.Linear(6, 9), nn.Linear(9, 7), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(torch.relu(self.two(torch.relu(self.one(x)))))

    @staticmethod
    def seen(s: State, x: Tensor) -> dict[str, list[Tensor]]:
        """Return the activations of each group, units last, by plain arithmetic."""
        one = x @ s["one.weight"].T + s["one.bias"]
        two = one.clamp_min(0) @ s["two.weight"].T + s["two.bias"]
        return {"one.weight": [one, one.clamp_min(0)], "two.weight": [two, two.clamp_min(0)]}


class Residual(nn.Module):
    """A stem, one residual block with BatchNorm and in-place ReLU, pooling and a linear layer."""

    moves: Mapping[str, Moves] = {
        "stem.weight": (
            *(("stem.weight", 0), ("conv1.weight", 1), ("conv2.weight", 0), ("fc.weight", 1)),
            *((f"{n}.{t}", 0) for n in ("n0", "n2") for t in ("weight", "bias", "running_mean", "running_var")),
        ),
        "conv1.weight": (
            *(("conv1.weight", 0), ("conv2.weight", 1)),
            *((f"n1.{t}", 0) for t in ("weight", "bias", "running_mean", "running_var")),
        ),
    }

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.n1 = nn.Conv2d(8, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10)
        self.conv2, self.n2 = nn.Conv2d(10, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.n0(self.stem(x)), inplace=True)
        y = self.n2(self.conv2(F.relu(self.n1(self.conv1(x)), inplace=True)))
        return self.fc(F.relu(x + y).mean((2, 3)))

    @staticmethod
    def seen(s: State, x: Tensor) -> dict[str, list[Tensor]]:
        """Return the activations of each group at every site, units last, by plain functions."""

        def norm(name: str, x: Tensor) -> Tensor:
            mean, var, weight, bias = (s[f"{name}.{t}"] for t in ("running_mean", "running_var", "weight", "bias"))
            return F.batch_norm(x, mean, var, weight, bias)

        stem = F.conv2d(x, s["stem.weight"], padding=1)
        stream = norm("n0", stem).clamp_min(0)
        first = F.conv2d(stream, s["conv1.weight"], padding=1)
        inner = norm("n1", first)
        second = F.conv2d(inner.clamp_min(0), s["conv2.weight"], padding=1)
        added = stream + norm("n2", second)
        every = [stem, norm("n0", stem), stream, second, norm("n2", second), added, added.clamp_min(0)]
        pooled = added.clamp_min(0).mean((2, 3))
        return {
            "stem.weight": [*(t.movedim(1, -1).flatten(0, -2) for t in every), pooled],
            "conv1.weight": [t.movedim(1, -1).flatten(0, -2) for t in (first, inner, inner.clamp_min(0))],
        }


def generic(build: Callable[[], nn.Module], label: str) -> nn.Module:
    """Return a float64 model whose every tensor, statistics included, is random."""
    model, generator = build().double().eval(), generator_for(label)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(generator=generator)
        if name.endswith(("bias", "running_mean")):
            tensor.mul_(0.3)  # few enough units are dead for every best assignment to be the only one
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
    return model


def numpy_correlation(a: Tensor, b: Tensor) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        both = np.corrcoef(a.numpy(), b.numpy(), rowvar=False)
    return np.nan_to_num(both[: a.shape[1], a.shape[1] :])  # a dead unit resembles none


def greedy(
    model: type[MLP] | type[Residual], a: State, b: State, x: Tensor, cost: Callable[[Tensor, Tensor], np.ndarray]
) -> dict[str, list[int]]:
    """Match layer by layer: run both, permute this layer of A by hand, and run both again for the next layer."""
    a, found = dict(a), {}
    for group, moves in model.moves.items():
        sites = zip(model.seen(a, x)[group], model.seen(b, x)[group], strict=True)
        scores = np.mean([cost(of_a, of_b) for of_a, of_b in sites], axis=0)
        _, index = linear_sum_assignment(-scores.T)
        for name, axis in moves:
            a[name] = a[name].index_select(axis, torch.as_tensor(index))
        found[group] = index.tolist()
    return found


def data(model: type[MLP] | type[Residual]) -> Tensor:
    shape = (60, 6) if model is MLP else (24, 2, 6, 6)
    return torch.randn(shape, generator=generator_for("data"), dtype=torch.float64) + 0.5


COSTS = {
    "correlation": numpy_correlation,
    "covariance": lambda a, b: np.cov(a.numpy(), b.numpy(), rowvar=False, bias=True)[: a.shape[1], a.shape[1] :],
    "cosine": lambda a, b: (F.normalize(a, dim=0).T @ F.normalize(b, dim=0)).numpy(),
}


@functools.cache
def symmetry(model: type[MLP] | type[Residual]) -> Symmetry:
    a, x = generic(model, "any"), data(model)
    sym = discover(a, x[:2], verify=False)
    assert {g: len([s for s in sym.sites if g in s.groups]) for g in sym.groups} == {
        g: len(sites) for g, sites in model.seen(dict(a.state_dict()), x).items()
    }
    return sym


def both(model: type[MLP] | type[Residual], seed: int, cost: str) -> tuple[Alignment, dict[str, list[int]]]:
    a, b, x = generic(model, f"a{seed}"), generic(model, f"b{seed}"), data(model)
    alignment = match(a, b, symmetry(model), x.split(7), cost=cost)
    return alignment, greedy(model, dict(a.state_dict()), dict(b.state_dict()), x, COSTS[cost])


@pytest.mark.slow_cases("MLP-correlation", "Residual-correlation")
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("model", [MLP, Residual])
def test_one_pass_gives_the_permutations_of_layerwise_matching(model: type[MLP] | type[Residual], cost: str) -> None:
    for seed in range(2):
        alignment, expected = both(model, seed, cost)
        assert {g: p.index.tolist() for g, p in alignment.permutations.items()} == expected
        assert any(index != sorted(index) for index in expected.values())


def test_the_oracle_tells_costs_apart() -> None:
    one_pass, _ = both(Residual, 0, "covariance")
    _, expected = both(Residual, 0, "correlation")
    with pytest.raises(AssertionError):
        assert {g: p.index.tolist() for g, p in one_pass.permutations.items()} == expected


def test_quality_is_that_of_the_permuted_model() -> None:
    alignment, _ = both(Residual, 1, "correlation")
    a, b, x = generic(Residual, "a1"), generic(Residual, "b1"), data(Residual)
    moved = Residual.seen(dict(alignment.apply(a.state_dict())), x)
    for group, sites in Residual.seen(dict(b.state_dict()), x).items():
        scores = np.mean(
            [numpy_correlation(of_a, of_b) for of_a, of_b in zip(moved[group], sites, strict=True)], axis=0
        )
        others = scores - np.diag([np.inf] * len(scores))
        quality = alignment.quality[group]
        assert quality.correlation == pytest.approx(np.diag(scores).mean())
        assert quality.margin == pytest.approx((np.diag(scores) - others.max(axis=0)).mean())


def test_models_are_equal_after_the_oracle() -> None:
    model = generic(Residual, "a0")
    x = data(Residual)
    state = copy.deepcopy(model.state_dict())
    last = Residual.seen(dict(state), x)["stem.weight"][-1]
    torch.testing.assert_close(model(x), last @ state["fc.weight"].T + state["fc.bias"])
