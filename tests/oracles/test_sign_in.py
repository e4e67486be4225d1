"""Sign-In against autograd through the product, and against the flow that it is of one neuron."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket import Mask, Recipe, build_model, generator_for, load_dataset, train
from reticket.tickets import sign_in
from reticket.training import SGD, FlatParameters, SignIn, learning_rate, steps_per_epoch

DATA = load_dataset("digits", train_size=70)
ORDER = ("sign-in", 0)
OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.1, momentum=0.9),
}


def double_model() -> nn.Module:
    return build_model("mlp", hidden=(24, 16)).double()


MASK = Mask(
    {
        n: torch.rand(p.shape, generator=generator_for(n)) < 0.3
        for n, p in double_model().named_parameters()
        if p.dim() > 1
    }
)


def by_autograd(recipe: Recipe, beta: float, every: int) -> dict[str, Tensor]:
    """Train by torch alone, through `parametrize` and torch's own optimizer of both factors."""
    model, per_epoch = double_model(), steps_per_epoch(70, recipe.batch_size)
    with sign_in(model, MASK, beta=beta) as products:
        optimizer = OPTIMISERS[recipe.optimizer](list(model.parameters()))
        for step in range(recipe.epochs * per_epoch):
            order = torch.randperm(70, generator=generator_for(*ORDER, "epoch", step // per_epoch))
            chosen = order.split(recipe.batch_size)[step % per_epoch]
            optimizer.zero_grad()
            F.cross_entropy(model(DATA.normalise(DATA.train_x[chosen]).double()), DATA.train_y[chosen]).backward()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, 0, per_epoch)
            optimizer.step()
            if every and (step + 1) % (every * per_epoch) == 0:
                products.rescale()
    return dict(model.state_dict())


@pytest.mark.parametrize(("beta", "every"), [(1.0, 1), (0.5, 2), (1.0, 0)])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_chain_rule_is_autograds(name: str, beta: float, every: int) -> None:
    options = {"beta": beta, "every": every}
    recipe = Recipe(
        4, 16, 0.05, weight_decay=0.1, optimizer=name, parametrization="sign-in", parametrization_options=options
    )
    found = dict(train(double_model(), DATA, recipe, rng_label=ORDER, mask=MASK).weights)
    assert_close(found, by_autograd(recipe, beta, every), rtol=1e-9, atol=1e-11)
    for other in (by_autograd(recipe, 2 * beta, every), by_autograd(recipe, beta, 3)):
        with pytest.raises(AssertionError):
            assert_close(found, other, rtol=1e-5, atol=1e-7)


class Neuron(nn.Module):
    """`a relu(w x)`, whose outer weight begins with the wrong sign."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w = nn.Parameter(torch.tensor([-1.0]).double()), nn.Parameter(torch.tensor([0.9]).double())

    def forward(self, x: Tensor) -> Tensor:
        return self.a * torch.relu(self.w * x)


RATE, STEPS = 4e-2, 200
ONE = torch.ones(1, dtype=torch.float64)
OUTER = {"a": torch.ones(1, dtype=torch.bool)}


def descend(parametrized: bool) -> tuple[Neuron, list[tuple[float, float]]]:
    """Teach the neuron 1 at x = 1 by the squared error; without momentum, which is gradient flow in small steps."""
    model = Neuron()
    flat = FlatParameters(model, OUTER, channels_last=False)
    plain: Callable[[FlatParameters], SGD] = lambda moved: SGD(moved, 0.0, 0.0)  # noqa: E731
    optimiser = SignIn(flat, plain) if parametrized else plain(flat)
    path = []
    for _ in range(STEPS):
        optimiser.before_backward()
        (0.5 * (model(ONE) - 1).square()).sum().backward()
        optimiser.after_backward(RATE)
        path.append((model.a.item(), model.w.item()))
    return model, path


def flow(beta: float | None) -> list[tuple[float, float]]:
    """Return the flow after each step: `da/dt = -sqrt(4 a^2 + beta^2) dL/da`, of plain weights `-dL/da`."""

    def slope(_: float, at: list[float]) -> list[float]:
        a, w = at
        error = a * max(w, 0.0) - 1
        metric = 1.0 if beta is None else math.sqrt(4 * a * a + beta * beta)
        return [-metric * error * max(w, 0.0), -error * a * (w > 0)]

    times = [RATE * (step + 1) for step in range(STEPS)]
    found = solve_ivp(slope, (0.0, times[-1]), [-1.0, 0.9], t_eval=times, rtol=1e-8, atol=1e-10)
    return list(zip(*found.y.tolist(), strict=True))


def test_a_sign_turns_that_plain_gradient_flow_keeps() -> None:
    """The same rate at a = 0, start and loss: plainly the neuron dies, as a product it learns its teacher."""
    dead, kept = descend(parametrized=False)
    alive, turned = descend(parametrized=True)
    assert all(a < 0 for a, _ in kept)
    assert dead(ONE).item() == 0.0
    assert turned[-1][0] > 0.5
    assert alive(ONE).item() == pytest.approx(1.0, abs=0.02)
    for path, beta in ((turned, 1.0), (kept, None)):
        assert_close(torch.tensor(path), torch.tensor(flow(beta)), rtol=0, atol=0.05)
    with pytest.raises(AssertionError):
        assert_close(torch.tensor(turned), torch.tensor(flow(0.5)), rtol=0, atol=0.1)
