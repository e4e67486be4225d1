"""The gradient of a chain of linear layers with ReLU in closed form.

For a small multilayer perceptron autograd's bookkeeping costs as much as the arithmetic; without it a step takes about
half the time.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

LossAndGradient = Callable[[Tensor, Tensor], Tensor]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@runtime_checkable
class ReluChain(Protocol):
    """A model that says of itself: I flatten, then apply these layers with ReLU in between, and nothing else."""

    def relu_chain(self) -> Sequence[nn.Linear]:
        """Return the layers from input to output."""
        ...


def loss_and_gradient(model: nn.Module) -> LossAndGradient:
    """Return a function of (inputs, labels) that adds the gradient to every parameter's `grad` and returns the loss.

    The loss is the mean cross entropy in nats. For a model that is a `ReluChain` by its own class (a subclass may have
    changed `forward`), of plain trainable linear layers without hooks, it is the closed form; else it is autograd.

    Args:
        model: every trainable parameter has its `grad` tensor already.
    """
    own = vars(type(model))
    if isinstance(model, ReluChain) and "relu_chain" in own and "forward" in own and _is_plain(model):
        layers = model.relu_chain()
        return lambda x, y: chain_loss_and_gradient(layers, x, y)

    def by_autograd(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach()

    return by_autograd


def _is_plain(model: nn.Module) -> bool:
    layers = [m for m in model.modules() if m is not model and not isinstance(m, nn.ModuleList)]
    return (
        all(type(layer) is nn.Linear and layer.bias is not None for layer in layers)
        and all(p.requires_grad and p.grad is not None for p in model.parameters())
        and not any(getattr(m, hooks) for m in model.modules() for hooks in HOOKS)
    )


@torch.no_grad()
def chain_loss_and_gradient(
    layers: Sequence[nn.Linear], x: Float[Tensor, "n ..."], y: Int64[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Return the loss and add the gradient of each weight and bias to its `grad`.

    With h_i the input of layer i and d_i the gradient of its output: `d_last = (softmax - onehot) / n`,
    `dW_i = d_i^T h_i`, `db_i = sum d_i`, `d_(i-1) = (d_i W_i) [h_i > 0]`.

    Args:
        layers: from input to output.
        x: inputs, flattened here.
        y: labels.
    """
    inputs = [x.flatten(1)]
    for layer in layers[:-1]:
        inputs.append(torch.addmm(layer.bias, inputs[-1], layer.weight.t()).relu_())
    log_p = torch.log_softmax(torch.addmm(layers[-1].bias, inputs[-1], layers[-1].weight.t()), 1)
    loss = F.nll_loss(log_p, y)
    d = log_p.exp_().sub_(torch.eye(log_p.shape[1], dtype=x.dtype, device=x.device).index_select(0, y)).div_(len(y))
    ones = torch.ones(len(y), dtype=x.dtype, device=x.device)
    for i in range(len(layers) - 1, -1, -1):
        weight, bias = layers[i].weight, layers[i].bias
        assert weight.grad is not None
        assert bias.grad is not None
        weight.grad.addmm_(d.t(), inputs[i])
        bias.grad.addmv_(d.t(), ones)
        if i > 0:
            d = torch.mm(d, weight).mul_(inputs[i].sign())  # 0 or 1 after ReLU; comparing is ten times slower
    return loss
