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

from reticket.errors import TrainingError
from reticket.objectives import OBJECTIVES, Objective, Prediction, logits_of

CLASSIFICATION = OBJECTIVES["classification"]
LossAndGradient = Callable[[Tensor, Tensor, int], Tensor]
LossOf = Callable[[Prediction, Tensor, int], Tensor]  # of this part's labels, n being the inputs of all parts together
relu_backward = torch.ops.aten.threshold_backward  # one pass; comparing and multiplying takes several
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@runtime_checkable
class ReluChain(Protocol):
    """A model that says of itself: I flatten, then apply these layers with ReLU in between, and nothing else."""

    def relu_chain(self) -> Sequence[nn.Linear]:
        """Return the layers from input to output."""
        ...


def loss_and_gradient(
    model: nn.Module,
    objective: Objective = CLASSIFICATION,
    *,
    autocast: bool = False,
    smoothing: float = 0.0,
    soft: bool = False,
) -> LossAndGradient:
    """Return a function of (inputs, labels, n) that adds the gradient to each parameter's `grad` and returns the loss.

    The loss is the mean over the items of n inputs: of classification the cross entropy in nats. Where n is the size of
    a batch that several processes have parts of, it is this part's share of it, by its number of inputs. For
    classification with a model that is a `ReluChain` by its own class (a subclass may have changed `forward`), of plain
    trainable linear layers without hooks, it is the closed form; else it is autograd.

    Args:
        model: every trainable parameter has its `grad` tensor already.
        objective: what is minimised.
        autocast: compute the model in bfloat16 where torch's autocast does; always by autograd.
        smoothing: share of every label that is spread over all classes, in classification; always by autograd.
        soft: whether labels are probabilities of every class, in classification; always by autograd.
    """
    own = vars(type(model))
    closed = objective is CLASSIFICATION and not autocast and not smoothing and not soft
    if closed and "relu_chain" in own and "forward" in own and isinstance(model, ReluChain) and _is_plain(model):
        return ChainGradient(model.relu_chain())
    loss_of = _cross_entropy(smoothing) if objective is CLASSIFICATION else _share_of(objective)

    def run(module: nn.Module, batch: tuple[Tensor, Tensor]) -> object:
        with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=autocast, cache_enabled=False):
            output = module(batch[0])  # uncached, since threads share the cache
        return logits_of(output, TrainingError) if objective is CLASSIFICATION else output

    def by_autograd(x: Tensor, y: Tensor, n: int) -> Tensor:
        loss = loss_of(Prediction(model, (x, y), run, torch.float32 if autocast else None), y, n)
        loss.backward()
        return loss.detach()

    return by_autograd


def _cross_entropy(smoothing: float) -> LossOf:
    """Return the cross entropy of this part of n inputs."""

    def loss_of(seen: Prediction, y: Tensor, n: int) -> Tensor:
        if len(y) == n:
            return F.cross_entropy(seen.logits, y, label_smoothing=smoothing)
        return F.cross_entropy(seen.logits, y, reduction="sum", label_smoothing=smoothing) / n

    return loss_of


def _share_of(objective: Objective) -> LossOf:
    """Return the mean loss of this part's items, times its share of n inputs."""
    assert objective.loss.tally is not None
    tally = objective.loss.tally

    def loss_of(seen: Prediction, y: Tensor, n: int) -> Tensor:
        inputs, found = len(y), tally(seen)
        if inputs == 0:
            return found.total  # of no item, with a gradient of 0
        return found.mean if inputs == n else found.mean * (inputs / n)

    return loss_of


def _is_plain(model: nn.Module) -> bool:
    layers = [m for m in model.modules() if m is not model and not isinstance(m, nn.ModuleList)]
    return (
        all(type(layer) is nn.Linear and layer.bias is not None for layer in layers)
        and all(p.requires_grad and p.grad is not None for p in model.parameters())
        and not any(getattr(m, hooks) for m in model.modules() for hooks in HOOKS)
    )


class ChainGradient:
    """Loss and gradient of a chain of linear layers with ReLU in between, in closed form.

    With h_i the input of layer i and d_i the gradient of its output: `d_last = (softmax - onehot) / n`,
    `dW_i = d_i^T h_i`, `db_i = sum d_i`, `d_(i-1) = (d_i W_i) [h_i > 0]`. Views of weights and gradients are made once,
    because at this size making them costs as much as multiplying; the parameters must stay where they are.

    Args:
        layers: from input to output, each parameter with its `grad` tensor.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        weights = [layer.weight.detach() for layer in layers]
        self._turned = [weight.t() for weight in weights]
        self._biases = [layer.bias.detach() for layer in layers]
        self._backward = [(layer.weight.detach(), _gradient(layer.weight), _gradient(layer.bias)) for layer in layers][
            ::-1
        ]
        self._onehot = torch.eye(len(weights[-1]), dtype=weights[-1].dtype, device=weights[-1].device)
        self._ones: dict[int, Tensor] = {}

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b ..."], y: Int64[Tensor, " b"], n: int) -> Float[Tensor, ""]:
        """Return the loss in nats and add the gradient of each weight and bias to its `grad`.

        Args:
            x: inputs, flattened here.
            y: labels.
            n: what the sum over the inputs is divided by.
        """
        if len(y) not in self._ones:
            self._ones[len(y)] = self._onehot.new_ones(len(y))
        inputs = [x.flatten(1)]
        for bias, turned in zip(self._biases[:-1], self._turned[:-1], strict=True):
            inputs.append(torch.addmm(bias, inputs[-1], turned).relu_())
        log_p = torch.log_softmax(torch.addmm(self._biases[-1], inputs[-1], self._turned[-1]), 1)
        loss = F.nll_loss(log_p, y) if len(y) == n else F.nll_loss(log_p, y, reduction="sum") / n
        d = log_p.exp_().sub_(self._onehot.index_select(0, y)).mul_(1 / n)
        for i, (weight, weight_grad, bias_grad) in enumerate(self._backward):
            below, turned = inputs[-1 - i], d.t()
            weight_grad.addmm_(turned, below)
            bias_grad.addmv_(turned, self._ones[len(y)])
            if i < len(self._backward) - 1:
                d = relu_backward(torch.mm(d, weight), below, 0)
        return loss


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
