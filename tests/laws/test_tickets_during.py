"""Pruning during a training: schedules by their formulas, what is pruned is 0, what comes back begins at 0."""

from typing import Any

import pytest
import torch
from torch import nn

from reticket.errors import MaskError
from reticket.tickets import Cyclic, Gradual, Mask, Movement, OneShot, Schedule, kept_count, prunable, sparsify


def test_the_gradual_schedule_is_the_formula_of_sparsities() -> None:
    schedule = Gradual(0.1, end=100, begin=20, every=10, initial=0.9)
    for step in range(120):
        sparsity = 0.9 + (0.1 - 0.9) * (1 - (step - 20) / (8 * 10)) ** 3  # s_f + (s_i - s_f)(1 - (t - t_0) / (n dt))^3
        wanted = 1 - sparsity if 20 <= step <= 100 and step % 10 == 0 else None
        assert schedule(step) == (None if wanted is None else pytest.approx(wanted))
    assert Gradual(0.1, end=25, every=10)(25) == 0.1


def test_cycles_are_gradual_schedules_one_after_the_other() -> None:
    schedule, one = Cyclic(0.2, length=11, cycles=3, begin=5, every=3), Gradual(0.2, end=10, every=3)
    assert [schedule(5 + step) for step in range(33)] == [one(step % 11) for step in range(33)]
    assert schedule(4) is schedule(38) is None


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


SCHEDULES: dict[str, Schedule] = {
    "one-shot": OneShot(0.25, at=3),
    "gradual": Gradual(0.2, end=12, begin=2, every=4),
    "cyclic": Cyclic(0.3, length=6, cycles=2),
    "own": lambda step: {0: 0.9, 4: 0.5, 9: 0.1}.get(step),
}
OPTIMIZERS: dict[str, Any] = {
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_density_follows_the_schedule_and_what_is_pruned_stays_0(name: str, optimizer: str) -> None:
    model, schedule = network(), SCHEDULES[name]
    steps, names = OPTIMIZERS[optimizer](model), prunable(model)
    x, y = torch.randn(16, 6), torch.randn(16, 3)
    numel, wanted = sum(model.get_parameter(n).numel() for n in names), schedule(0) or 1.0
    with sparsify(model, steps, schedule) as pruner:
        for step in range(1, 15):
            steps.zero_grad()
            (model(x) - y).square().mean().backward()
            steps.step()
            before = pruner.mask
            changed = pruner.step()
            assert changed == (schedule(step) is not None)
            falls = (schedule(step) or wanted) <= wanted
            wanted = schedule(step) or wanted
            assert pruner.mask.kept == kept_count(wanted, numel)
            for n, kept in pruner.mask.items():
                assert not model.get_parameter(n)[~kept].any(), (step, n)
                assert not falls or not (kept & ~before[n]).any()
    assert pruner.steps == 14
    last = {n: model.get_parameter(n).detach().clone() for n in names}
    assert all(torch.equal(last[n] != 0, pruner.mask[n]) for n in names)


def test_what_a_cycle_lets_go_begins_at_0_and_grows() -> None:
    model = network()
    steps = torch.optim.AdamW(model.parameters(), lr=0.05)
    x, y = torch.randn(16, 6), torch.randn(16, 3)
    with sparsify(model, steps, Cyclic(0.2, length=3, cycles=2), names="0.weight") as pruner:
        low = pruner.mask
        for step in range(1, 6):
            steps.zero_grad()
            (model(x) - y).square().mean().backward()
            steps.step()
            if step == 4:  # nothing holds what was let go
                assert model.get_parameter("0.weight").all()
            pruner.step()
            zeros = int((model.get_parameter("0.weight") == 0).sum())
            if step == 2:
                low = pruner.mask
                assert zeros == 72 - kept_count(0.2, 72)
            if step == 3:
                assert pruner.mask == Mask.full({"0.weight": torch.zeros(12, 6)})
                assert zeros == 72 - low.kept
            if step == 4:  # the first step of the cycle moved them, its end keeps some of them
                assert (pruner.mask["0.weight"] & ~low["0.weight"]).any()


def test_movement_is_gathered_while_it_prunes() -> None:
    model = network()
    steps, names = torch.optim.SGD(model.parameters(), lr=0.1), prunable(model)
    x, y = torch.randn(16, 6), torch.randn(16, 3)
    with (
        Movement(model, names, steps) as movement,
        sparsify(model, steps, Gradual(0.2, end=8, begin=1, every=2), "movement", movement=movement) as pruner,
    ):
        for _ in range(8):
            steps.zero_grad()
            (model(x) - y).square().mean().backward()
            steps.step()
            pruner.step()
    assert pruner.mask.kept == kept_count(0.2, 108)
    kept = torch.cat([movement[n][pruner.mask[n]] for n in names])
    assert kept.mean() > torch.cat([movement[n][~pruner.mask[n]] for n in names]).mean()


def test_hooks_are_gone_after_the_block_and_after_an_error() -> None:
    model = network()
    steps = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="stop"), sparsify(model, steps, OneShot(0.1)):
        raise RuntimeError("stop")
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1.0)
    model(torch.zeros(1, 6))
    assert int((model.get_parameter("0.weight") != 1).sum()) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gradual(0.5, end=3, begin=3), "begins at 3, ends at 3 and prunes every 1 steps, expected 0 <= begin"),
        (
            lambda: Gradual(0.5, end=3, initial=0.2),
            r"density 0.5 is not in \(0, 0.2\], initial density 0.2; give fractions",
        ),
        (
            lambda: Cyclic(0.5, length=1, cycles=2),
            "2 cycles of 1 steps from 0 on, pruning every 1 steps: expected cycles",
        ),
        (lambda: OneShot(0.0), r"density 0.0 is not in \(0, 1.0\]"),
        (lambda: OneShot(0.5, at=-1), "at is -1, expected a number of steps of at least 0"),
    ],
)
def test_schedules_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        make()
