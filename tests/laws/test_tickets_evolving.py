"""Laws of `evolving`: the same as a loop written out by hand, for any optimizer, and nothing left behind."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket.errors import MaskError
from reticket.tickets import Mask, random_mask
from reticket.tickets.dynamics import DYNAMICS, MaskMoment
from reticket.tickets.evolving import evolving

STEPS, EVERY = 20, 4  # and the mask stays from step 15 on
CHANGES = [4, 8, 12, 15]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def begun(model: nn.Module) -> Mask:
    return random_mask({n: p.detach() for n, p in model.named_parameters() if p.dim() > 1}, 0.3, 0)


def by_hand() -> tuple[dict[str, Tensor], Mask, list[Mask]]:
    """SGD with momentum and RigL, by single tensors; every gradient is a dense one."""
    model, masks = network(), []
    mask, velocity = begun(model), {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, kept in mask.items():
            parameters[name].mul_(kept)
    for step in range(1, STEPS + 1):
        x, y = batch(step)
        loss = F.cross_entropy(model(x), y)
        gradient = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        with torch.no_grad():
            for name, weight in parameters.items():
                kept = mask[name] if name in mask else torch.ones_like(weight, dtype=torch.bool)
                velocity[name] = (0.9 * velocity[name] + gradient[name]) * kept
                weight.sub_(0.1 * velocity[name])
        if step in CHANGES:
            weights = {name: parameters[name].detach().clone() for name in mask}
            now = MaskMoment(mask, weights, step / 15, 0.3, 0.3, {name: gradient[name] for name in mask})
            mask = DYNAMICS["rigl"](now, {"alpha": 0.5})
            with torch.no_grad():
                for name, kept in mask.items():
                    parameters[name].mul_(kept)
                    velocity[name].mul_(kept)
        masks.append(mask)
    return {name: p.detach() for name, p in parameters.items()}, mask, masks


def in_a_loop(
    name: str = "rigl", parts: int = 1, optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, **options: Any
) -> tuple[nn.Module, Mask, list[Mask]]:
    model, masks = network(), []
    chosen: dict[str, Any] = {"lr": 0.1, "momentum": 0.9} if optimizer is torch.optim.SGD else {"lr": 0.02}
    stepping = optimizer(model.parameters(), **chosen)
    before = begun(model)
    with evolving(model, stepping, before, name, steps=STEPS, every=EVERY, **options) as run:
        for step in range(1, STEPS + 1):
            stepping.zero_grad()
            for x, y in zip(*(t.chunk(parts) for t in batch(step)), strict=True):
                (F.cross_entropy(model(x), y) / parts).backward()
            stepping.step()
            assert run.step() == (step in CHANGES)
            for key, kept in run.mask.items():
                weight = model.get_parameter(key)
                assert not weight.detach()[~kept].any()
                new = kept & ~(masks[-1] if masks else before)[key]
                for tensor in (weight, *stepping.state[weight].values()):
                    if isinstance(tensor, Tensor) and tensor.shape == kept.shape:
                        assert not tensor.detach()[new].any(), "what comes begins at 0"
            masks.append(run.mask)
    return model, run.mask, masks


@pytest.mark.parametrize("parts", [1, 2])
def test_rigl_in_a_loop_is_that_written_by_hand(parts: int) -> None:
    """With a batch in two parts too, whose gradients add up."""
    weights, mask, masks = by_hand()
    model, found, seen = in_a_loop(parts=parts, alpha=0.5)
    assert found == mask != begun(network())
    assert seen == masks
    assert_close(dict(model.named_parameters()), weights, rtol=1e-5, atol=1e-6)
    with pytest.raises(AssertionError):
        assert in_a_loop(alpha=0.1)[2] == masks


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("name", ["set", "rigl"])
def test_the_count_stays_in_each_layer(name: str, optimizer: type[torch.optim.Optimizer]) -> None:
    _, found, masks = in_a_loop(name, optimizer=optimizer)
    counts = {key: int(kept.sum()) for key, kept in begun(network()).items()}
    assert all({key: int(kept.sum()) for key, kept in mask.items()} == counts for mask in masks)
    assert found != begun(network())


def test_gradual_ends_at_the_density() -> None:
    model = network()
    adam = torch.optim.Adam(model.parameters())
    full = Mask.full({n: p for n, p in model.named_parameters() if p.dim() > 1})
    with evolving(model, adam, full, "gradual", steps=8, density=0.2, every=2) as run:
        for step in range(8):
            adam.zero_grad()
            F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            adam.step()
            run.step()
    assert run.mask.kept == round(0.2 * 90)
    assert sum(int(model.get_parameter(name).count_nonzero()) for name in run.mask) == run.mask.kept


def test_nothing_is_left_behind() -> None:
    model, _, _ = in_a_loop()
    for parameter in model.parameters():
        assert not parameter._backward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("name", ["rigl", "set"])
def test_what_grows_by_gradients_needs_a_backward_pass_for_each_change(name: str) -> None:
    """Without one the first pruned weights came, whichever they were; and those of older passes count for nothing."""
    model = network()
    adam, mask = torch.optim.Adam(model.parameters()), begun(model)
    with evolving(model, adam, mask, name, steps=8, every=2) as run:
        for step in (1, 2, 3):
            F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            adam.step()
            run.step()
        changed = run.mask
        assert changed != mask
        if name == "set":
            assert run.step()
            return
        with pytest.raises(MaskError, match=r"'rigl' look at gradients, and no backward pass .* for step 4, after"):
            run.step()
        assert run.mask == changed


def test_what_cannot_be_is_one_sentence() -> None:
    model = network()
    adam = torch.optim.Adam(model.parameters())
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"dynamics": "riggl"}, "unknown dynamics 'riggl', did you mean 'rigl'"),
        ({"dynamics": "RigL"}, "unknown dynamics 'RigL', did you mean 'rigl'"),
        (
            {"dynamics": "rigl(alpha=0.5)"},
            r"unknown dynamics 'rigl\(alpha=0.5\)'; options are given by keyword: evolving\(..., 'rigl', alpha=0.5\)$",
        ),
        ({"dynamics": "rigg(alpha=0.5)"}, "unknown dynamics 'rigg', did you mean 'rigl'"),
        ({"alpa": 0.2}, "dynamics 'rigl' has no option 'alpa', did you mean 'alpha'"),
        ({"dynamics": "gradual"}, "need the fraction of weights that is kept at the end; give density="),
        ({"every": 0}, "every is 0, expected the steps"),
        ({"every": 8}, "the mask would change every 8 steps up to step 7 of 9, which is never; give a smaller 'every'"),
        ({"end": 0.01}, "every 1 steps up to step 0 of 9, which is never"),
        ({"steps": 0}, "steps is 0, expected the number of steps of the whole training, 1 or more"),
        ({"steps": -4}, "steps is -4, expected the number"),
    )
    for arguments, words in wrong:
        with pytest.raises(MaskError, match=words), evolving(model, adam, begun(model), **{"steps": 9, **arguments}):
            pass
    with (
        pytest.raises(MaskError, match="the mask"),
        evolving(model, adam, Mask({"no.weight": torch.ones(2, 2) > 0}), steps=9),
    ):
        pass
