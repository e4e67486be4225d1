"""The closed-form gradient of a chain of linear layers against autograd, and when it must not be used."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from reticket.models import build_model
from reticket.models.mlp import MLP
from reticket.rng import generator_for
from reticket.training import chain
from reticket.training.chain import loss_and_gradient


def prepared(hidden: tuple[int, ...]) -> nn.Module:
    model = build_model("mlp", in_features=12, hidden=hidden, classes=5).double()
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator_for("grad"), dtype=p.dtype)
    return model


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(9, 3, 4, generator=generator_for("x"), dtype=torch.float64)
    return x, torch.arange(9) % 5


def gradients(model: nn.Module, compute: Callable[[Tensor, Tensor, int], Tensor], parts: int = 1) -> list[Tensor]:
    x, y = batch()
    pairs = zip(x.tensor_split(parts), y.tensor_split(parts), strict=True)
    loss = sum((compute(*pair, len(y)) for pair in pairs), torch.zeros(()))
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def autograd(model: nn.Module) -> Callable[[Tensor, Tensor, int], Tensor]:
    def compute(x: Tensor, y: Tensor, n: int) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return compute


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6), (8, 4, 6)])
def test_closed_form_equals_autograd(hidden: tuple[int, ...]) -> None:
    one, two = prepared(hidden), prepared(hidden)
    closed, exact = gradients(one, loss_and_gradient(one)), gradients(two, autograd(two))
    assert_close(closed, exact, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("parts", [2, 4, 12])
@pytest.mark.parametrize("plain", [True, False])
def test_parts_of_a_batch_add_up_to_it(plain: bool, parts: int) -> None:
    """Of 9 inputs: uneven parts, and with 12 parts some without any input."""
    one, two = prepared((7, 6)), prepared((7, 6))
    if not plain:
        one.register_forward_hook(lambda *_: None)
    assert isinstance(loss_and_gradient(one), chain.ChainGradient) == plain
    assert_close(gradients(one, loss_and_gradient(one), parts), gradients(two, autograd(two)), rtol=1e-12, atol=1e-13)


def test_a_wrong_closed_form_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = prepared((7, 6)), prepared((7, 6))
    monkeypatch.setattr(chain, "relu_backward", lambda gradient, below, threshold: gradient)
    wrong = gradients(one, loss_and_gradient(one))
    with pytest.raises(AssertionError):
        assert_close(wrong, gradients(two, autograd(two)), rtol=1e-12, atol=1e-13)


class Scaled(MLP):
    """Changes what the class it comes from says of itself."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def scaled() -> nn.Module:
    return Scaled((12, 7, 5)).double()


def hooked() -> nn.Module:
    model = build_model("mlp", in_features=12, hidden=(7,), classes=5).double()

    def triple(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output * 3

    model.get_submodule("layers.0").register_forward_hook(triple)
    return model


def reparametrised() -> nn.Module:
    model = build_model("mlp", in_features=12, hidden=(7,), classes=5).double()
    parametrizations.weight_norm(model.get_submodule("layers.0"))
    return model


def frozen() -> nn.Module:
    model = build_model("mlp", in_features=12, hidden=(7,), classes=5).double()
    model.get_parameter("layers.0.weight").requires_grad_(False)
    return model


@pytest.mark.parametrize("make", [scaled, hooked, reparametrised, frozen])
def test_autograd_is_used_where_the_model_is_more_than_the_chain(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    one = make()
    two = make()
    two.load_state_dict(one.state_dict())
    for model in (one, two):
        for p in model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
    assert_close(gradients(one, loss_and_gradient(one)), gradients(two, autograd(two)), rtol=1e-12, atol=1e-13)
