"""On real data: matching lowers the barrier between two trained networks, and REPAIR undoes variance collapse."""

import functools

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.connectivity import barrier, interpolate, repair
from reticket.matching import match
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import discover, load_into, random_alignment


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.as_tensor(images, dtype=torch.float32) / 8 - 1, torch.as_tensor(labels)


def trained(model: nn.Module, label: str, *, steps: int = 150, square: bool = False) -> nn.Module:
    """Train by Adam on random batches of the first 1200 images."""
    x, y = digits()
    x = x.view(-1, 1, 8, 8) if square else x
    generator = generator_for(label, "order")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = torch.randint(1200, (100,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model.eval()


def test_matching_lowers_the_barrier_between_two_mlps() -> None:
    a, b = (trained(build_model("mlp", generator=generator_for(label)), label) for label in "ab")
    x, y = digits()
    sym = discover(a, x[:2], verify=False)
    moved = match(a, b, sym, x[:1200].split(100)).apply(a.state_dict())
    shuffled = random_alignment(sym, generator_for("shuffle")).apply(a.state_dict())
    test = [(x[1200:], y[1200:])]
    before, after = (barrier(a, start, b.state_dict(), test) for start in (a.state_dict(), moved))
    assert after.loss[0] == pytest.approx(before.loss[0], rel=1e-5)
    assert after.accuracy[0] == before.accuracy[0]
    assert after.loss_barrier < 0.6 * before.loss_barrier
    assert barrier(a, shuffled, b.state_dict(), test).loss_barrier > after.loss_barrier
    repaired = barrier(a, moved, b.state_dict(), test, repair=True, repair_batches=[x[:1200]])
    assert repaired.loss_barrier < 0.6 * before.loss_barrier
    assert (repaired.loss[0], repaired.accuracy[-1]) == (after.loss[0], after.accuracy[-1])


@pytest.mark.slow
def test_repair_undoes_the_collapse_of_a_batchnorm_network() -> None:
    nets = [build_model("conv-small", generator=generator_for(label)) for label in "ab"]
    a, b = (trained(net, label, steps=80, square=True) for net, label in zip(nets, "ab", strict=True))
    x, y = digits()
    x = x.view(-1, 1, 8, 8)
    sym = discover(a, x[:2], verify=False)
    moved = match(a, b, sym, x[:1200].split(200)).apply(a.state_dict())
    plain = interpolate(moved, b.state_dict(), 0.5)
    fixed = repair(a, (moved, b.state_dict()), 0.5, [x[:1200]])
    seen: list[float] = []
    a.get_submodule("norms.3").register_forward_hook(lambda _, __, y: seen.append(y.std(dim=(0, 2, 3)).mean().item()))
    for state in (moved, b.state_dict(), plain, fixed):
        load_into(a, state)
        a(x[:1200])
    ends, collapsed, repaired = (seen[0] + seen[1]) / 2, seen[2], seen[3]
    assert collapsed < 0.6 * ends
    assert repaired == pytest.approx(ends, rel=0.05)
    test = [(x[1200:], y[1200:])]
    raw, mended = (barrier(a, moved, b.state_dict(), test, repair=r, repair_batches=[x[:1200]]) for r in (False, True))
    assert mended.loss_barrier < 0.5 * raw.loss_barrier
    assert mended.accuracy_barrier < raw.accuracy_barrier
