"""Sparse training in any loop: masked weights stay exactly zero."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reticket.errors import MaskError
from reticket.tickets.mask import Mask


@contextmanager
def sparse(model: nn.Module, mask: Mask, optimizer: Optimizer) -> Iterator[nn.Module]:
    """Keep the masked weights of `model` exactly 0 while the block runs, whatever the loop and the optimizer.

    On entry the masked weights and their gradients are set to 0. Every gradient is masked before it is accumulated, so
    that momenta, second moments, clipping norms and line searches see the kept weights alone; after every step the
    masked weights are set to 0 again, so that older momenta and weight decay cannot move them. On exit the hooks are
    gone and the weights stay as they are. Neither the module nor its `state_dict` gains a tensor.

    Args:
        model: the module to train; its parameters are written into.
        mask: which weights are kept, by the names of `model.named_parameters()`.
        optimizer: any `torch.optim.Optimizer` over the model's parameters.

    Yields:
        The model.

    Raises:
        MaskError: when the mask belongs to another model, or the optimizer holds none of the masked weights.

    >>> net = nn.Linear(4, 1)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    >>> mask = Mask({"weight": torch.tensor([[True, False, True, False]])})
    >>> with sparse(net, mask, sgd):
    ...     for _ in range(3):
    ...         sgd.zero_grad()
    ...         net(torch.ones(2, 4)).square().mean().backward()
    ...         sgd.step()
    >>> int((net.weight == 0).sum())
    2
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    mask.check_fits(parameters)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    masked = [(parameters[name], _Pruned(~kept)) for name, kept in mask.items()]
    if not any(id(parameter) in held for parameter, _ in masked):
        raise MaskError(
            "the optimizer holds none of the masked weights, so it was made for another model; "
            "make it from model.parameters()"
        )

    def clear(*_: Any) -> None:
        with torch.no_grad():
            for parameter, pruned in masked:
                parameter.masked_fill_(pruned.beside(parameter), 0)

    with ExitStack() as hooks:
        clear()
        for parameter, pruned in masked:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(pruned.beside(parameter.grad), 0)
            if parameter.requires_grad:
                hooks.callback(parameter.register_hook(pruned.clear).remove)
        hooks.callback(optimizer.register_step_post_hook(clear).remove)
        yield model


class _Pruned:
    """Where a parameter is pruned, kept on whatever device the parameter has moved to."""

    def __init__(self, where: Tensor) -> None:
        self.where = where

    def beside(self, tensor: Tensor) -> Tensor:
        if self.where.device != tensor.device:
            self.where = self.where.to(tensor.device)
        return self.where

    def clear(self, gradient: Tensor) -> Tensor:
        return gradient.masked_fill(self.beside(gradient), 0)
