"""All parameters of a model as one vector, so that an SGD step with a mask is a handful of operations.

A small network's step costs more in calls than in arithmetic: one call on the whole vector replaces one on each tensor.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from reticket.errors import MaskError, TrainingError
from reticket.wrapped import names_in

ALIGNMENT = 64  # bytes; tensors that begin on a cache line multiply faster
INTEGER_OF_SIZE = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class FlatParameters:
    """Moves a model's trainable parameters into one vector, their velocities into another, and does SGD there.

    With g the gradient, p the parameters, v the velocity, l the weight decay, m the momentum, lr the learning rate:
    `v <- m v + l p + g; p <- p - lr v`, as `torch.optim.SGD` with dampening 0. The velocity is also where autograd
    accumulates the gradient: `before_backward` makes `m v + l p` of it, backward adds g, `after_backward` moves p.
    A masked weight is set to 0 at the beginning and its velocity after each backward, so that both are exactly 0 at
    every step, whatever the gradient was (NaN included: bits are cleared, nothing is multiplied). A parameter that the
    loss does not reach counts as one with gradient 0.

    Args:
        model: its parameters become views of `self.weights`; **the model is changed**.
        mask: for some parameters which weights are kept.
        channels_last: whether 4-dimensional parameters are laid out as (out, height, width, in).

    Raises:
        TrainingError: when there is nothing to train, or parameters differ in type or device.
        MaskError: when the mask names what is no trainable parameter, or has another shape or type.
    """

    def __init__(self, model: nn.Module, mask: Mapping[str, Tensor] | None, *, channels_last: bool) -> None:
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        kinds = {(p.dtype, p.device) for p in parameters.values()}
        if len(kinds) != 1 or not next(iter(parameters.values())).is_floating_point():
            raise TrainingError(
                f"training needs trainable parameters of one floating-point type on one device, the model has "
                f"{', '.join(sorted(map(str, kinds))) or 'none'}; convert it first"
            )
        (self.dtype, self.device), self.channels_last = next(iter(kinds)), channels_last
        self.shapes = {name: p.shape for name, p in parameters.items()}
        unit = ALIGNMENT // self.dtype.itemsize
        self.length = sum(-(-p.numel() // unit) * unit for p in parameters.values())
        self.unit = unit
        self.weights, self.velocity = (torch.zeros(self.length, dtype=self.dtype, device=self.device) for _ in range(2))
        velocities = self.views(self.velocity)
        for name, view in self.views(self.weights).items():
            view.copy_(parameters[name].detach())
            parameters[name].data = view
            parameters[name].grad = velocities[name]
        self.keep = None if not mask else self._flat_mask(_renamed(mask, model, parameters))
        self.velocity_bits = self.velocity.view(INTEGER_OF_SIZE[self.dtype.itemsize])

    def views(self, vector: Shaped[Tensor, " n"]) -> dict[str, Tensor]:
        """Return for every parameter its part of `vector` in the parameter's shape."""
        found, begin = {}, 0
        for name, shape in self.shapes.items():
            part = vector[begin : begin + shape.numel()]
            if self.channels_last and len(shape) == 4:
                out, fan_in, height, width = shape
                found[name] = part.view(out, height, width, fan_in).permute(0, 3, 1, 2)
            else:
                found[name] = part.view(shape)
            begin += -(-shape.numel() // self.unit) * self.unit
        return found

    def _flat_mask(self, mask: Iterable[tuple[str, Bool[Tensor, "..."]]]) -> Tensor:
        keep = torch.ones(self.length, dtype=torch.bool, device=self.device)
        views = self.views(keep)
        for name, kept in mask:
            if name not in views:
                raise MaskError(
                    f"the mask names '{name}', which is no trainable parameter of this model "
                    f"({', '.join(list(views)[:3])}, ...); use the mask of this model"
                )
            if kept.dtype != torch.bool or kept.shape != views[name].shape:
                raise MaskError(
                    f"the mask of '{name}' is {kept.dtype} of shape {tuple(kept.shape)}, but torch.bool of shape "
                    f"{tuple(views[name].shape)} was expected; use the mask of this model"
                )
            views[name].logical_and_(kept.to(self.device))
        self.weights.masked_fill_(~keep, 0)
        bits = INTEGER_OF_SIZE[self.dtype.itemsize]
        return -keep.to(bits)  # all bits set where kept

    @torch.no_grad()
    def before_backward(self, momentum: float, weight_decay: float) -> None:
        """Make the velocity ready for the gradient."""
        self.velocity.mul_(momentum)
        if weight_decay:
            self.velocity.add_(self.weights, alpha=weight_decay)

    @torch.no_grad()
    def after_backward(self, lr: float | Float[Tensor, ""]) -> None:
        """Do the step; with the learning rate as a tensor it may be recorded and done again with another one."""
        if self.keep is not None:
            # as exact as masked_fill (NaN, signed zero) and several times faster on a CPU
            self.velocity_bits.bitwise_and_(self.keep)
        if isinstance(lr, Tensor):
            self.weights.addcmul_(self.velocity, lr, value=-1)
        else:
            self.weights.add_(self.velocity, alpha=-lr)


def _renamed(
    mask: Mapping[str, Tensor], model: nn.Module, parameters: Mapping[str, Tensor]
) -> list[tuple[str, Tensor]]:
    """Return the mask by the names of `parameters`: a tied weight has others too, a pruned one is `weight_orig`."""
    first = {id(parameter): name for name, parameter in parameters.items()}
    every = {name: first.get(id(p), name) for name, p in model.named_parameters(remove_duplicate=False)}
    original = names_in([f"{name}_orig" for name in mask], every)
    known = {name: original.get(f"{name}_orig", name) for name in mask} | names_in(mask, every)
    return [(every.get(known[name], name), kept) for name, kept in mask.items()]
