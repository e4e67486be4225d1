"""Dynamics: how the mask changes while a sparse network is trained; each a small function of the moment.

A new member is a function under `@dynamics(...)`; the contract tests find it in `DYNAMICS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reticket.errors import MaskError
from reticket.options import Options
from reticket.registry import Registry, first_line
from reticket.tickets.mask import Mask, mask_of


@dataclass(frozen=True, eq=False)
class MaskMoment:
    """What dynamics decide by; each asks for some of these fields by name.

    Args:
        mask: as it is, layers in their order in the network.
        weights: the masked weights by name, on the CPU; 0 where they are pruned.
        progress: share of the changing part of the training that is done, in (0, 1]; 1 at the last change.
        density: fraction kept that is wanted at the end, in (0, 1].
        initial: fraction kept when the training began, in (0, 1].
        gradient: of the loss on the next batch, by name, pruned weights included, on the CPU.
        generator: randomness of this change, on the CPU; it moves on as it is drawn from.
    """

    mask: Mask
    weights: Mapping[str, Float[Tensor, "..."]]
    progress: float
    density: float
    initial: float
    gradient: Mapping[str, Float[Tensor, "..."]] | None = None
    generator: torch.Generator | None = None


def on_cpu(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return a tensor as a moment holds it: on the CPU, in float32, in one order of memory whatever the device's."""
    return tensor.detach().to("cpu", torch.float32).contiguous()


@dataclass(frozen=True)
class Dynamics:
    """One way in which a mask changes.

    Args:
        name: as in a configuration and a table.
        function: from fields of `MaskMoment`, by name, and options to the next mask; pure but for drawing from
            `generator`.
        options: its own, those after the `*`, and when it changes the mask: `every` and `end`.
        description: one line for a report.
        keeps: the pattern that its masks have, as of `patterns.pattern_of`; None for any.
    """

    name: str
    function: Callable[..., Mask]
    options: Options
    description: str
    keeps: str | None = None

    def __call__(self, moment: MaskMoment, options: Mapping[str, Any] = MappingProxyType({})) -> Mask:
        """Return the next mask.

        Args:
            moment: what it decides by.
            options: of its own; those left out have their defaults, and those that say when are of no meaning here.

        Raises:
            MaskError: when a field that it asks for is None, an option is unknown or out of range, or the function
                returns a mask of other weights.
        """
        missing = [name for name in self.uses if getattr(moment, name) is None]
        if missing:
            raise MaskError(f"dynamics '{self.name}' need {', '.join(missing)}; give MaskMoment({missing[0]}=...)")
        own = {name: value for name, value in self.options.settings(options).items() if name not in WHEN}
        found = mask_of(self.function(**{name: getattr(moment, name) for name in self.uses}, **own))
        if {name: kept.shape for name, kept in found.items()} != {name: k.shape for name, k in moment.mask.items()}:
            raise MaskError(
                f"dynamics '{self.name}' returned a mask of {', '.join(found)}, but one of "
                f"{', '.join(moment.mask)} in the same shapes was expected"
            )
        return found

    @property
    def says(self) -> str:
        """One line for a list: what it is, and its options with their defaults."""
        shown = ", ".join(f"{name} = {one.default!r}" for name, one in self.options.items() if one.default is not None)
        return f"{self.description} Options: {shown}, every."

    @cached_property
    def uses(self) -> tuple[str, ...]:
        """The fields of `MaskMoment` that it looks at."""
        return tuple(
            name for name, one in signature(self.function).parameters.items() if one.kind is not Parameter.KEYWORD_ONLY
        )


DYNAMICS = Registry[Dynamics]("dynamics", "reticket.dynamics", MaskError, says=lambda one: one.says)
WHEN = ("every", "end")
"""Options of all dynamics, which say at which steps the mask changes (`Updates`)."""


def dynamics(name: str, *, end: float = 0.75, keeps: str | None = None) -> Callable[[Callable[..., Mask]], Dynamics]:
    """Register a function as dynamics.

    Its parameters are the fields of `MaskMoment` that it looks at, and after a `*` its options; the first line of its
    docstring is its description. `every` and `end` are options of all (`Updates`).

    Args:
        name: as in a configuration and a table.
        end: share of the training after which the mask stays, by default.
        keeps: the pattern that its masks have, "fan-in"; None for any.

    Raises:
        MaskError: when the name is taken, a parameter is no field of `MaskMoment`, an option is called as those that
            all have, or there is no docstring.
    """
    known = tuple(field.name for field in fields(MaskMoment))

    def register(function: Callable[..., Mask]) -> Dynamics:
        parameters = signature(function).parameters
        own = {key: one for key, one in parameters.items() if one.kind is Parameter.KEYWORD_ONLY}
        if unknown := [key for key in parameters if key not in own and key not in known]:
            raise MaskError(
                f"dynamics '{name}' ask for '{unknown[0]}', which is no field of MaskMoment: {', '.join(known)}; an "
                f"option stands after a *"
            )
        if taken := [key for key in own if key in WHEN]:
            raise MaskError(f"dynamics '{name}' have an option '{taken[0]}', which all have; call it otherwise")
        description = first_line(function)
        if not description:
            raise MaskError(f"dynamics '{name}' have no docstring; its first line is what the report says of them")
        options = Options(f"dynamics '{name}'", own, MaskError, _when(end))
        return DYNAMICS.add(name, Dynamics(name, function, options, description, keeps))

    return register


def _when(end: float) -> dict[str, Parameter]:
    kind = Parameter.KEYWORD_ONLY
    return {
        "every": Parameter("every", kind, default=None, annotation=int | None),
        "end": Parameter("end", kind, default=end, annotation=float),
    }
