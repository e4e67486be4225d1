"""Masked weights stay exactly zero, under any optimizer and loop."""

import sys
from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.optim import Optimizer

from reticket.errors import MaskError
from reticket.tickets import Mask, Ticket, prune_magnitude, sparse, true_density, weights_of

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


class Climber(torch.optim.Optimizer):
    """Climbs along the gradient first, then returns and lets an inner optimizer step (as SAM does)."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})
        self.inner = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)
        self.before: list[Tensor] = []

    def weights(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def climb(self) -> None:
        self.before = [p.clone() for p in self.weights()]
        for p in self.weights():
            assert p.grad is not None
            p.add_(p.grad.sign(), alpha=0.01)

    @torch.no_grad()
    def descend(self) -> None:
        for p, before in zip(self.weights(), self.before, strict=True):
            p.copy_(before)
        self.inner.step()


class Shown(torch.optim.Optimizer):
    """SGD beside averages, kept plainly, in a list and in a dict, that are swapped in for evaluation."""

    def __init__(self, parameters: Iterable[nn.Parameter], keep: Callable[[Tensor], Any]) -> None:
        super().__init__(parameters, {})
        self.keep = keep

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p in self.param_groups[0]["params"]:
            held = self.state[p].setdefault("average", self.keep(p.clone()))
            p.sub_(p.grad, alpha=0.1)
            _plain(held).lerp_(p, 0.1)

    @torch.no_grad()
    def swap(self) -> None:
        for p in self.param_groups[0]["params"]:
            average = _plain(self.state[p]["average"])
            shown = average.clone()
            average.copy_(p)
            p.copy_(shown)


def _plain(held: Any) -> Tensor:
    return held if isinstance(held, Tensor) else next(iter(held.values() if isinstance(held, dict) else held))


def backward(model: nn.Module) -> None:
    x, y = data()
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()


def test_a_loop_in_two_steps_with_older_momenta_holds_the_zeros() -> None:
    model = net()
    optimizer = Climber(model.parameters())

    def once() -> None:
        backward(model)
        optimizer.climb()
        backward(model)
        optimizer.descend()

    for _ in range(3):
        once()
    mask = prune_magnitude(model, 0.3)
    with sparse(model, mask, optimizer):
        for _ in range(3):
            once()
            assert revived(model, mask) == 0


def test_a_second_optimizer_with_older_momenta_may_step_last() -> None:
    model = net()
    first, second = (torch.optim.SGD(model[i].parameters(), lr=0.1, momentum=0.9) for i in (0, 2))
    for _ in range(3):
        backward(model)
        first.step()
        second.step()
    mask = prune_magnitude(model, 0.3)
    with sparse(model, mask, first):
        backward(model)
        second.step()
        assert revived(model, mask) == 0
        assert not second.state[model.get_parameter("2.weight")]["momentum_buffer"][~mask["2.weight"]].any()
    elsewhere = net()
    stranger = torch.optim.SGD(elsewhere.parameters(), lr=0.1, momentum=0.9)
    with sparse(model, mask, [first, second]):  # another model's optimizer steps as ever
        backward(elsewhere)
        stranger.step()
    assert stranger.state[elsewhere.get_parameter("0.weight")]["momentum_buffer"].all()
    with pytest.raises(MaskError, match="holds none of the masked weights"), sparse(model, mask, stranger):
        pass


@pytest.mark.parametrize("keep", [lambda t: t, lambda t: [t], lambda t: {"of": t}])
def test_an_average_from_before_that_is_shown_in_evaluation_is_sparse(keep: Callable[[Tensor], Any]) -> None:
    model = net()
    optimizer = Shown(model.parameters(), keep)
    for _ in range(3):
        backward(model)
        optimizer.step()
    mask = prune_magnitude(model, 0.3)
    with sparse(model, mask, optimizer):
        for _ in range(2):
            optimizer.swap()
            assert revived(model, mask) == 0
            optimizer.swap()
            backward(model)
            optimizer.step()
    model = net()  # without the block the average shows what was pruned
    optimizer = Shown(model.parameters(), keep)
    backward(model)
    optimizer.step()
    model.load_state_dict(mask.apply_to(model.state_dict()))
    optimizer.swap()
    assert revived(model, mask) > 0


def test_weights_from_elsewhere_are_masked_before_a_forward_sees_them() -> None:
    model = net()
    mask = prune_magnitude(model, 0.3)
    averages = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    optimizer = OPTIMIZERS["sgd"](model)
    with sparse(model, mask, optimizer):
        model.load_state_dict(averages)
        assert revived(model, mask) == 0
        for name, p in model.named_parameters():
            p.data.copy_(averages[name])
        expected = functional_call(model, mask.apply_to(averages), (data()[0],))
        torch.testing.assert_close(model(data()[0]), expected)
        assert revived(model, mask) == 0
        state = {key: {"momentum_buffer": torch.ones_like(p)} for key, p in enumerate(model.parameters())}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        assert not optimizer.state[model.get_parameter("0.weight")]["momentum_buffer"][~mask["0.weight"]].any()


def test_two_forwards_before_one_backward_are_not_disturbed() -> None:
    model = net()
    with sparse(model, prune_magnitude(model, 0.3), OPTIMIZERS["sgd"](model)):
        (model(data()[0]) - model(data()[0] + 1)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_factors_of_a_square_weight_are_left_alone_and_momenta_are_not() -> None:
    model = nn.Linear(6, 6)
    optimizer = OPTIMIZERS["sgd"](model)
    random = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    factors = {
        "left": random @ random.T,
        "basis": torch.linalg.qr(random).Q,
        "up": random.triu(),
        "down": random.tril(),
    }
    before = {name: factor.clone() for name, factor in factors.items()}
    optimizer.state[model.weight] = {"momentum": random.clone(), **factors, "listed": [random.clone()]}
    mask = prune_magnitude(model, 0.5)
    with sparse(model, mask, optimizer):
        state = optimizer.state[model.weight]
    torch.testing.assert_close({name: state[name] for name in before}, before, rtol=0, atol=0)
    assert torch.equal(state["momentum"] != 0, mask["weight"])
    assert torch.equal(state["listed"][0] != 0, mask["weight"])


def replaced_by_assignment(model: nn.Sequential) -> None:
    model[0].weight = nn.Parameter(torch.ones(16, 6))


def replaced_by_another_layer(model: nn.Sequential) -> None:
    model[0] = nn.Linear(6, 16)


def replaced_by_assigned_state(model: nn.Sequential) -> None:
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, assign=True)


@pytest.mark.parametrize("replace", [replaced_by_assignment, replaced_by_another_layer, replaced_by_assigned_state])
@pytest.mark.parametrize("steps", [0, 1])
def test_a_replaced_parameter_is_an_error_at_the_next_step_or_at_the_end(
    replace: Callable[[nn.Sequential], None], steps: int
) -> None:
    model = net()
    optimizer = OPTIMIZERS["sgd"](model)
    reached: list[str] = []

    def train_on() -> None:
        with sparse(model, prune_magnitude(model, 0.3), optimizer):
            replace(model)
            for _ in range(steps):
                optimizer.step()
            reached.append("the end of the block")

    with pytest.raises(MaskError, match=r"'0\.weight' was replaced inside `sparse`, so its mask would hold a tensor"):
        train_on()
    assert bool(reached) == (steps == 0 and replace is not replaced_by_assigned_state)
    assert not model._forward_pre_hooks
    assert not model._load_state_dict_post_hooks


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models_are_looked_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = net()
    mask = prune_magnitude(model, 0.3)
    wrapped = wrap(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    with sparse(wrapped, mask, optimizer):
        for _ in range(2):
            backward(wrapped)
            optimizer.step()
            assert revived(model, mask) == 0
    state = mask.apply_to({name: torch.ones_like(tensor) for name, tensor in wrapped.state_dict().items()})
    for name, tensor in state.items():
        bare = name.removeprefix("module.").removeprefix("_orig_mod.")
        assert torch.equal(tensor != 0, mask[bare] if bare in mask else torch.ones_like(tensor, dtype=torch.bool))
    ticket = Ticket.of(wrapped.state_dict(), mask)
    assert ticket == Ticket.of(model.state_dict(), mask)
    assert true_density(prune_magnitude(wrapped, 0.3), model) == true_density(mask, wrapped) == mask.density


def test_pruned_models_hold_a_mask_on_their_own_parameter_and_others_say_why_not() -> None:
    model = net()
    prune.l1_unstructured(model[0], "weight", 0.2)
    mask = prune_magnitude(model, 0.3)
    optimizer = OPTIMIZERS["adamw"](model)
    with sparse(model, mask, optimizer):
        train(model, optimizer, 3)
    weights = weights_of(model, mask)
    assert all(not weights[name][~kept].any() for name, kept in mask.items())
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)))
    own = prune_magnitude(normed, 0.3)
    said = (
        r"'0.weight' is computed from '0.parametrizations.weight.original0' and '0.parametrizations.weight.original1'"
    )
    with pytest.raises(MaskError, match=said), sparse(normed, own, OPTIMIZERS["sgd"](normed)):
        pass


def test_the_hook_of_one_optimizer_alone_would_fail() -> None:
    model = net()
    first, second = (torch.optim.SGD(model[i].parameters(), lr=0.1, momentum=0.9) for i in (0, 2))
    mask = prune_magnitude(model, 0.3)
    with (
        mock.patch.object(sys.modules["reticket.tickets.sparse"], "register_optimizer_step_post_hook",
                          first.register_step_post_hook),
        sparse(model, mask, first),
    ):  # fmt: skip
        for p in model.parameters():
            second.state[p] = {"momentum_buffer": torch.ones_like(p)}
        backward(model)
        second.step()
        assert revived(model, mask) > 0
