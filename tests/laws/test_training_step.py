"""The step by itself: an optimiser and a loss from outside the package take their seats, and the mask still holds."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket.rng import generator_for
from reticket.training.flat import FlatParameters
from reticket.training.sgd import SGD
from reticket.training.step import Optimiser, TrainingStep


class SignSGD:
    """Moves every weight by the learning rate against its gradient's sign."""

    def __init__(self, parameters: FlatParameters) -> None:
        self.parameters, self.state = parameters, {}

    def before_backward(self, *, leads: bool = True) -> None:
        self.parameters.gradient.zero_()

    @torch.no_grad()
    def after_backward(self, lr: float | Tensor) -> None:
        self.parameters.clear_masked_gradient()
        self.parameters.weights.sub_(self.parameters.gradient.sign() * lr)


def network() -> nn.Linear:
    layer = nn.Linear(6, 3).double()
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator_for("step"), dtype=torch.float64)
    return layer


X = torch.randn(8, 6, generator=generator_for("step", "x"), dtype=torch.float64)
Y = torch.arange(8) % 3
KEPT = torch.rand(3, 6, generator=generator_for("step", "mask")) < 0.5


def squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x), F.one_hot(y, 3).double(), reduction="sum") / len(x)


def stepped(optimiser: type[SignSGD] | None) -> tuple[nn.Linear, list[float]]:
    model = network()
    parameters = FlatParameters(model, {"weight": KEPT}, channels_last=False)

    def loss_and_gradient(x: Tensor, y: Tensor, n: int) -> Tensor:
        loss = squared(model, x, y)
        loss.backward()
        return loss.detach()

    own: Optimiser = SGD(parameters, 0.9, 0.0) if optimiser is None else optimiser(parameters)
    step = TrainingStep(model, parameters, loss_and_gradient, own)
    return model, [float(step(X, Y, len(X), 0.01)) for _ in range(5)]


def by_hand(signs: bool) -> nn.Linear:
    model, velocity = network(), [torch.zeros(3, 6).double(), torch.zeros(3).double()]
    model.weight.data *= KEPT
    for _ in range(5):
        gradients = torch.autograd.grad(squared(model, X, Y), [model.weight, model.bias])
        for parameter, gradient, v in zip(model.parameters(), gradients, velocity, strict=True):
            masked = gradient * KEPT if parameter is model.weight else gradient
            v.mul_(0.9).add_(masked)
            parameter.data -= 0.01 * (masked.sign() if signs else v)
    return model


@pytest.mark.parametrize("optimiser", [SignSGD, None], ids=["own", "sgd"])
def test_a_step_does_what_its_loss_and_optimiser_say(optimiser: type[SignSGD] | None) -> None:
    model, losses = stepped(optimiser)
    assert losses == sorted(losses, reverse=True)
    assert not model.weight.detach()[~KEPT].any()
    expected, other = by_hand(signs=optimiser is not None), by_hand(signs=optimiser is None)
    assert_close(model.weight.detach(), expected.weight.detach(), rtol=1e-12, atol=1e-12)
    assert_close(model.bias.detach(), expected.bias.detach(), rtol=1e-12, atol=1e-12)
    with pytest.raises(AssertionError):
        assert_close(model.weight.detach(), other.weight.detach(), rtol=1e-12, atol=1e-12)
