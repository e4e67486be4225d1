"""Parameters that a mask is held on, and what optimizers keep beside them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reticket.errors import MaskError
from reticket.nested import tensors_in
from reticket.tickets.mask import Mask, mask_of
from reticket.weights import module_of
from reticket.wrapped import inside


class HeldWeight:
    """One parameter and where it is pruned, kept on whatever device the parameter has moved to.

    Args:
        model: the model.
        name: the parameter's name in `model.named_parameters()`.
        pruned: True where pruned.
    """

    def __init__(self, model: nn.Module, name: str, pruned: Tensor) -> None:
        self.model, self.name, self.where = model, name, pruned
        self.path, _, self.attribute = name.rpartition(".")
        self.parameter = model.get_parameter(name)

    def check(self) -> None:
        """Raise unless the parameter is still the model's own.

        Raises:
            MaskError: when another one stands in its place.
        """
        try:
            owner = self.model.get_submodule(self.path)
        except AttributeError:
            owner = None
        if owner is None or all(p is not self.parameter for p in owner._parameters.values()):
            raise MaskError(
                f"'{self.name}' was replaced inside `sparse`, so its mask would hold a tensor that the model no longer "
                f"uses; write into it (load_state_dict without assign=True, or copy_), or leave the block and make "
                f"optimizer and mask anew"
            )

    def clear(self) -> None:
        """Set what is pruned to 0, unseen by autograd: no graph that uses the kept weights gets out of date."""
        self.fill(self.parameter.data)

    def fill(self, tensor: Tensor) -> Tensor:
        """Set the pruned entries of a tensor of the parameter's shape to 0 in place."""
        return tensor.masked_fill_(self._beside(tensor), 0)

    def mask_gradient(self, at_exit: Callable[[Callable[[], None]], object]) -> None:
        """Mask the gradient there is, and every one to come until the end of the block."""
        if self.parameter.grad is not None:
            self.fill(self.parameter.grad.data)
        if self.parameter.requires_grad:
            at_exit(self.parameter.register_hook(lambda grad: grad.masked_fill(self._beside(grad), 0)).remove)

    def _beside(self, tensor: Tensor) -> Tensor:
        if self.where.device != tensor.device:
            self.where = self.where.to(tensor.device)
        return self.where


def held_weights(model: nn.Module, mask: Mask) -> list[HeldWeight]:
    """Return the parameters that hold a mask's weights, wrappers looked through.

    Raises:
        MaskError: when there is no such parameter, or it is not the weight itself.
    """
    model = inside(module_of(model))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = mask_of(mask).names_among(parameters)
    return [HeldWeight(model, names[name], ~kept) for name, kept in mask.items()]


def optimizers_in(optimizers: Iterable[Optimizer]) -> list[Optimizer]:
    """Return these optimizers and those inside them (Lookahead, SAM and others step one that they hold)."""
    found: list[Optimizer] = []
    waiting = list(optimizers)
    while waiting:
        optimizer = waiting.pop(0)
        if not hasattr(optimizer, "param_groups"):
            raise MaskError(f"an optimizer was expected, or several, got a {type(optimizer).__name__}")
        if all(optimizer is not other for other in found):
            found.append(optimizer)
            waiting += [value for value in vars(optimizer).values() if isinstance(value, Optimizer)]
    return found


def mask_state(optimizer: Optimizer, masked: Iterable[HeldWeight]) -> None:
    """Set to 0 what an optimizer holds for masked weights: older momenta, averages, slow weights.

    A square matrix may as well be a factor that goes with one axis (Shampoo, SOAP, PSGD); one that is symmetric,
    orthogonal or triangular is left alone.
    """
    for weight in masked:
        for tensor in tensors_in(optimizer.state.get(weight.parameter)):
            if tensor.shape == weight.parameter.shape and not _may_be_factor(tensor):
                weight.fill(tensor.data)


def _may_be_factor(tensor: Tensor) -> bool:
    """Whether a tensor has the form of a preconditioner of one axis."""
    if tensor.dim() != 2 or tensor.shape[0] != tensor.shape[1] or not tensor.is_floating_point():
        return False
    matrix = tensor.detach().double()
    product = matrix @ matrix.T
    forms = (
        (matrix, matrix.T),
        (matrix, matrix.triu()),
        (matrix, matrix.tril()),
        (product, torch.eye(len(matrix), device=matrix.device)),
    )
    return any(
        torch.allclose(seen, form.to(seen), rtol=1e-3, atol=1e-5 * float(seen.abs().max())) for seen, form in forms
    )
