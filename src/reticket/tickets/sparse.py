"""Sparse training in any loop: masked weights stay exactly zero."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from reticket.errors import MaskError
from reticket.tickets.held import held_weights, mask_state, optimizers_in
from reticket.tickets.mask import Mask


@contextmanager
def sparse(model: nn.Module, mask: Mask, optimizer: Optimizer | Iterable[Optimizer]) -> Iterator[nn.Module]:
    """Keep the masked weights of `model` exactly 0 while the block runs, whatever the loop and the optimizer.

    On entry the masked weights, their gradients and what the optimizer holds for them (momenta, averages, slow weights)
    are set to 0. Every gradient is masked before it is accumulated, so that momenta, second moments, clipping norms and
    line searches see the kept weights alone. Masked weights are set to 0 again after every step of any optimizer that
    holds them, before every forward of `model`, and after `model.load_state_dict`, so that weight decay, another
    optimizer or weights from elsewhere cannot move them. On exit the hooks are gone and the weights stay as they are.
    Neither the module nor its `state_dict` gains a tensor.

    Args:
        model: the module to train, in a parallel or compiled wrapper or not; its parameters are written into.
        mask: which weights are kept, by the names of `model.named_parameters()`.
        optimizer: any `torch.optim.Optimizer` over the model's parameters, or several.

    Yields:
        The model.

    Raises:
        MaskError: when the mask belongs to another model, a masked weight is computed from several tensors, the
            optimizer holds none of the masked weights and they are not frozen, or a masked parameter was replaced
            inside the block (`load_state_dict(assign=True)`, an assignment), so that nothing would hold it.

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
    masked = held_weights(model, mask)
    own = {id(weight.parameter) for weight in masked}
    optimizers = optimizers_in([optimizer] if isinstance(optimizer, Optimizer) else optimizer)
    trained = any(weight.parameter.requires_grad for weight in masked)  # under adapters they may all be frozen
    if trained and not any(_holds(each, own) for each in optimizers):
        raise MaskError(
            "the optimizer holds none of the masked weights, so it was made for another model; "
            "make it from model.parameters()"
        )
    seen = {id(each): each for each in optimizers}  # kept alive, so that no other gets its id

    def clear(*_: Any) -> None:
        for weight in masked:
            weight.check()
            weight.clear()

    def after_step(stepped: Optimizer, *_: Any) -> None:
        if _holds(stepped, own):
            if id(stepped) not in seen:
                seen[id(stepped)] = stepped
                mask_state(stepped, masked)
            clear()

    def after_load(loaded: Optimizer) -> None:
        mask_state(loaded, masked)

    def before_forward(*_: Any) -> None:
        if not torch.compiler.is_compiling():
            for weight in masked:
                weight.clear()  # unchecked: `functional_call` puts other tensors in its place for a while

    with ExitStack() as hooks:
        clear()
        for weight in masked:
            weight.mask_gradient(hooks.callback)
        for each in optimizers:
            mask_state(each, masked)
            if hasattr(each, "_optimizer_load_state_dict_post_hooks"):  # not in one that skips Optimizer.__init__
                hooks.callback(each.register_load_state_dict_post_hook(after_load).remove)
        hooks.callback(register_optimizer_step_post_hook(after_step).remove)
        hooks.callback(model.register_forward_pre_hook(before_forward).remove)
        hooks.callback(model.register_load_state_dict_post_hook(clear).remove)
        yield model
        clear()


def _holds(optimizer: Optimizer, parameters: Iterable[int]) -> bool:
    return any(id(parameter) in parameters for group in optimizer.param_groups for parameter in group["params"])
