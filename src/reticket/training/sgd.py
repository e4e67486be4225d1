"""SGD with momentum and weight decay on one flat vector; the velocity is also where autograd adds the gradient."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from reticket.training.flat import FlatParameters
from reticket.training.optimisers import optimiser


@optimiser("sgd")
class SGD:
    """SGD with momentum and weight decay: `v <- m v + l p + g; p <- p - lr v`, as `torch.optim.SGD` with dampening 0.

    With g the gradient, p the parameters, v the velocity, l the weight decay, m the momentum, lr the learning rate:
    `before_backward` makes `m v + l p` of the velocity, backward adds g, `after_backward` moves p.

    Args:
        parameters: what is moved; their gradient's vector is the velocity.
        momentum: m, in [0, 1).
        weight_decay: l.
    """

    def __init__(self, parameters: FlatParameters, momentum: float, weight_decay: float) -> None:
        self.state: Mapping[str, Tensor] = {}  # the velocity is the gradient's vector
        self.parameters, self.momentum, self.weight_decay = parameters, momentum, weight_decay

    @torch.no_grad()
    def before_backward(self, *, leads: bool = True) -> None:
        """Make the velocity ready for the gradient.

        Args:
            leads: False in all processes but the first of several, which add nothing but their gradients: the sum of
                their velocities is then that of one process.
        """
        velocity = self.parameters.gradient
        if not leads:
            velocity.zero_()
            return
        velocity.mul_(self.momentum)
        if self.weight_decay:
            velocity.add_(self.parameters.weights, alpha=self.weight_decay)

    @torch.no_grad()
    def after_backward(self, lr: float | Float[Tensor, ""]) -> None:
        """Do the step; with the learning rate as a tensor it may be recorded and done again with another one."""
        self.parameters.clear_masked_gradient()
        if isinstance(lr, Tensor):
            self.parameters.weights.addcmul_(self.parameters.gradient, lr, value=-1)
        else:
            self.parameters.weights.add_(self.parameters.gradient, alpha=-lr)
