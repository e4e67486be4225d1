"""All parameters of a model as one vector, so that an optimiser's step with a mask is a handful of operations.

A small network's step costs more in calls than in arithmetic: one call on the whole vector replaces one on each tensor.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from reticket.errors import MaskError, TrainingError
from reticket.wrapped import names_in

ALIGNMENT = 64  # bytes; tensors that begin on a cache line multiply faster
INTEGER_OF_SIZE = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class FlatParameters:
    """Moves a model's trainable parameters into one vector and their gradients into another, and holds a mask there.

    A masked weight is set to 0 when the mask is set and its gradient after each backward, so that both are exactly 0 at
    every step, whatever the gradient was (NaN included: bits are cleared, nothing is multiplied). A parameter that the
    loss does not reach counts as one with gradient 0.

    Args:
        model: its parameters become views of `self.weights`; **the model is changed**.
        mask: for some parameters which weights are kept; None for all.
        held: for some parameters which weights stay as they are: their gradient is 0, and `put_back` undoes what an
            optimiser does to them all the same, as by weight decay; None for none.
        channels_last: whether 4-dimensional parameters are laid out as (out, height, width, in).

    Raises:
        TrainingError: when there is nothing to train, or parameters differ in type or device.
        MaskError: when the mask names what is no trainable parameter, or has another shape or type.
    """

    def __init__(
        self,
        model: nn.Module,
        mask: Mapping[str, Tensor] | None,
        *,
        channels_last: bool,
        held: Mapping[str, Bool[Tensor, "..."]] | None = None,
    ) -> None:
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
        self.weights, self.gradient = (torch.zeros(self.length, dtype=self.dtype, device=self.device) for _ in range(2))
        gradients = self.views(self.gradient)
        for name, view in self.views(self.weights).items():
            view.copy_(parameters[name].detach())
            parameters[name].data = view
            parameters[name].grad = gradients[name]
        self._model, self._parameters = model, parameters
        self._bits = INTEGER_OF_SIZE[self.dtype.itemsize]
        self._gradient_bits = self.gradient.view(self._bits)
        self.keep: Tensor | None = None  # all bits set where kept; stays where it is, since recorded steps read it
        self._masked: tuple[str, ...] = ()
        self.held = ~self._flat_mask((name, ~fixed) for name, fixed in held.items()) if held else None
        if mask:
            self.set_mask(mask)

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

    @property
    def trained(self) -> Mapping[str, nn.Parameter]:
        """The model's trainable parameters by name; each and its gradient are views of the vectors."""
        return self._parameters

    @property
    def mask(self) -> dict[str, Bool[Tensor, "..."]]:
        """The mask as it is now, for the parameters that it names; empty where there is none."""
        views = {} if self.keep is None else self.views(self.keep)
        return {name: views[name] != 0 for name in self._masked}

    @torch.no_grad()
    def set_mask(self, mask: Mapping[str, Bool[Tensor, "..."]]) -> None:
        """Hold another mask from now on; what it masks becomes 0, what it lets go begins at 0.

        Args:
            mask: the whole mask: of a parameter that it does not name everything is kept.

        Raises:
            MaskError: when it names what is no trainable parameter, has another shape or type, or lets a held weight
                go, which would stay at 0.
        """
        named = _renamed(mask, self._model, self._parameters)
        kept = self._flat_mask(named)
        if self.keep is None:
            self.keep = torch.empty_like(self._gradient_bits)
        elif self.held is not None and (revived := int((self.held & kept & (self.keep == 0)).sum())):
            raise MaskError(
                f"the new mask keeps {revived} fixed entries of an asymmetric model that were pruned, and they would "
                f"stay at 0; leave them pruned, or set frozen = false"
            )
        self.keep.copy_(-kept.to(self._bits))
        self._masked = tuple(dict.fromkeys(name for name, _ in named))
        self.weights.masked_fill_(~kept, 0)
        self.clear_masked_gradient()

    def clear_masked_gradient(self) -> None:
        """Set the gradient of masked and of held weights to 0."""
        if self.held is not None:
            self.gradient.masked_fill_(self.held, 0)
        if self.keep is not None:
            # as exact as masked_fill (NaN, signed zero) and several times faster on a CPU
            self._gradient_bits.bitwise_and_(self.keep)

    def clear_masked_weights(self) -> None:
        """Set masked weights to 0, for an optimiser that may have moved them."""
        if self.keep is not None:
            self.weights.view(self._bits).bitwise_and_(self.keep)

    def before_step(self) -> Shaped[Tensor, " n"] | None:
        """Return what `put_back` needs: the weights as they are, where some are held."""
        return None if self.held is None else self.weights.clone()

    @torch.no_grad()
    def put_back(self, before: Shaped[Tensor, " n"] | None) -> None:
        """Put held weights back to what they were.

        Args:
            before: what `before_step` returned.
        """
        if before is not None and self.held is not None:
            self.weights.copy_(torch.where(self.held, before, self.weights))

    def _flat_mask(self, mask: Iterable[tuple[str, Bool[Tensor, "..."]]]) -> Bool[Tensor, " n"]:
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
        return keep


def _renamed(
    mask: Mapping[str, Tensor], model: nn.Module, parameters: Mapping[str, Tensor]
) -> list[tuple[str, Tensor]]:
    """Return the mask by the names of `parameters`: a tied weight has others too, a pruned one is `weight_orig`."""
    first = {id(parameter): name for name, parameter in parameters.items()}
    every = {name: first.get(id(p), name) for name, p in model.named_parameters(remove_duplicate=False)}
    original = names_in([f"{name}_orig" for name in mask], every)
    known = {name: original.get(f"{name}_orig", name) for name in mask} | names_in(mask, every)
    return [(every.get(known[name], name), kept) for name, kept in mask.items()]
