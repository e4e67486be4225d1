"""Masked weights stay exactly zero, under any optimizer and loop."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reticket.tickets import Mask, prune_magnitude, sparse

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-3),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-3, nesterov=True),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, weight_decay=1e-2),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=1e-1),
    "adamw-fused": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, fused=True),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-2),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=0.01, weight_decay=1e-2),
    "rprop": lambda m: torch.optim.Rprop(m.parameters(), lr=0.01),
    "lbfgs": lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=3, line_search_fn="strong_wolfe"),
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(32, 6, generator=generator), torch.randint(0, 3, (32,), generator=generator)


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    x, y = data()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)  # pyright: ignore[reportCallIssue, reportArgumentType]


def revived(model: nn.Module, mask: Mask) -> int:
    return sum(int((dict(model.named_parameters())[name][~kept] != 0).sum()) for name, kept in mask.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_weights_are_exactly_zero_after_200_steps(name: str) -> None:
    model = net()
    mask = prune_magnitude(model, 0.2, scope="layer")
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = OPTIMIZERS[name](model)
    with sparse(model, mask, optimizer) as same:
        assert same is model
        train(model, optimizer, 200 if name != "lbfgs" else 20)
    assert revived(model, mask) == 0
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_momenta_from_before_do_not_revive_weights(name: str) -> None:
    model = net()
    optimizer = OPTIMIZERS[name](model)
    train(model, optimizer, 5)
    mask = prune_magnitude(model, 0.2, scope="layer")
    with sparse(model, mask, optimizer):
        train(model, optimizer, 1)
        assert revived(model, mask) == 0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_masking_only_once_would_fail(name: str) -> None:
    model = net()
    mask = prune_magnitude(model, 0.2, scope="layer")
    model.load_state_dict(mask.apply_to(model.state_dict()))
    train(model, OPTIMIZERS[name](model), 3)
    assert revived(model, mask) > 0


def test_the_optimizer_never_sees_a_gradient_of_a_pruned_weight() -> None:
    model = net()
    mask = prune_magnitude(model, 0.2, scope="layer")
    optimizer = OPTIMIZERS["adam"](model)
    x, y = data()
    nn.functional.cross_entropy(model(x), y).backward()
    with sparse(model, mask, optimizer):
        for _ in range(2):  # accumulated, and on top of gradients from before
            nn.functional.cross_entropy(model(x), y).backward()
        for name, kept in mask.items():
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            assert (gradient[~kept] == 0).all()
            assert (gradient[kept] != 0).any()
        optimizer.step()
        for name, kept in mask.items():
            assert (optimizer.state[model.get_parameter(name)]["exp_avg_sq"][~kept] == 0).all()


def test_training_equals_a_loop_that_masks_by_hand() -> None:
    model, other = net(), net()
    mask = prune_magnitude(model, 0.3)
    optimizer, by_hand = OPTIMIZERS["sgd"](model), OPTIMIZERS["sgd"](other)
    with sparse(model, mask, optimizer):
        train(model, optimizer, 20)
    other.load_state_dict(mask.apply_to(other.state_dict()))
    for _ in range(20):
        train(other, by_hand, 1)
        other.load_state_dict(mask.apply_to(other.state_dict()))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_hooks_are_gone_after_the_block_even_after_an_error() -> None:
    model = net()
    mask = prune_magnitude(model, 0.2, scope="layer")
    optimizer = OPTIMIZERS["adamw"](model)
    names = list(model.state_dict())
    with pytest.raises(ZeroDivisionError), sparse(model, mask, optimizer):
        _ = [1 / (name in names) for name in (*model.state_dict(), "no name")]
    assert not optimizer._optimizer_step_post_hooks
    assert all(not parameter._backward_hooks for parameter in model.parameters())
    train(model, optimizer, 1)
    assert revived(model, mask) > 0


def test_a_nan_gradient_of_a_pruned_weight_is_harmless() -> None:
    model = nn.Linear(2, 1, bias=False)
    mask = Mask({"weight": torch.tensor([[True, False]])})
    optimizer = OPTIMIZERS["sgd"](model)
    with sparse(model, mask, optimizer):
        (model.weight * torch.tensor([[1.0, float("nan")]])).sum().backward()
        optimizer.step()
    assert torch.isfinite(model.weight).all()


def test_gradient_scaling_frozen_weights_and_other_parameters_work() -> None:
    model = net()
    mask = prune_magnitude(model, 0.2, scope="layer")
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with sparse(model, mask, optimizer):
        train(model, optimizer, 5)
    assert revived(model, mask) == 0


def test_a_compiled_model_trains_sparsely() -> None:
    model = net()
    mask = prune_magnitude(model, 0.2, scope="layer")
    model.compile(backend="aot_eager")
    optimizer = OPTIMIZERS["adamw"](model)
    with sparse(model, mask, optimizer):
        train(model, optimizer, 3)
    assert revived(model, mask) == 0
