"""The seat of an optimiser: what a step asks of one, and the optimisers that move all weights as one vector by name.

Those of torch, of timm and of the user's own modules sit on it by `torch_optimisers`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from reticket.errors import ConfigError
from reticket.options import Options
from reticket.registry import Registry, first_line
from reticket.training.flat import FlatParameters

GIVEN = ("lr", "momentum", "weight_decay")  # fields of a recipe that an optimiser gets by naming them


@runtime_checkable
class Optimiser(Protocol):
    """What a step asks of an optimiser; it works on the vectors of `FlatParameters`, and the host reads nothing."""

    @property
    def state(self) -> Mapping[str, Tensor]:
        """By name what the steps to come depend on besides weights and gradient, which are changed in place.

        A checkpoint holds these tensors as they are, and the gradient's vector. One as long as the weights becomes 0
        where a mask is set.
        """
        ...

    def before_backward(self, *, leads: bool = True) -> None:
        """Make the gradient's vector ready for what backward adds, in the first process that `leads` or in another."""
        ...

    def after_backward(self, lr: float | Float[Tensor, ""]) -> None:
        """Move the weights; a masked weight stays 0."""
        ...


class GrowingOptimiser(ABC):
    """An optimiser whose state comes about as it goes and may change its form, so that its steps are not recorded."""

    @property
    @abstractmethod
    def state(self) -> Mapping[str, Tensor]:
        """What the steps to come depend on, as it is now."""

    @abstractmethod
    def before_backward(self, *, leads: bool = True) -> None:
        """See `Optimiser`."""

    @abstractmethod
    def after_backward(self, lr: float | Float[Tensor, ""]) -> None:
        """See `Optimiser`."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` was in another run.

        Raises:
            ConfigError: when no such optimiser of these parameters can have had it.
        """

    @abstractmethod
    def clear_masked_state(self) -> None:
        """Set to 0 what is held for masked weights; called when a mask is set."""


@dataclass(frozen=True)
class OptimiserKind:
    """An optimiser by name, before it has weights to move.

    Args:
        name: what users write as `optimizer`.
        build: `(parameters, *, ...) -> Optimiser`.
        uses: what it is given of the recipe, names of `GIVEN`.
        options: its own settings, with their annotations and defaults.
        origin: the class or function whose docstring describes it and whose code decides it.
    """

    name: str
    build: Callable[..., Optimiser]
    uses: tuple[str, ...]
    options: Options
    origin: Callable[..., Any]

    @classmethod
    def of(cls, name: str, build: Callable[..., Optimiser]) -> "OptimiserKind":
        """Read from a signature what an optimiser is given and which options it has.

        Raises:
            ConfigError: for a parameter that is neither given nor an option.
        """
        signature = inspect.signature(build, eval_str=True)
        own = {key: one for key, one in signature.parameters.items() if key not in ("parameters", *GIVEN)}
        odd = [key for key, one in own.items() if one.kind is not one.KEYWORD_ONLY or one.default is one.empty]
        if odd or "parameters" not in signature.parameters:
            raise ConfigError(
                f"optimiser '{name}' has the parameters {signature}; it gets parameters, what it names of "
                f"{', '.join(GIVEN)}, and options, which stand after a * and have a default"
            )
        uses = tuple(key for key in signature.parameters if key in GIVEN)
        return cls(name, build, uses, Options(f"optimiser '{name}'", own, ConfigError), build)

    def __call__(self, parameters: FlatParameters, given: Mapping[str, float], options: Mapping[str, Any]) -> Optimiser:
        """Return the optimiser of these weights.

        Args:
            parameters: what it moves.
            given: values by names of `GIVEN`.
            options: its own, by name.
        """
        return self.build(parameters, **{key: given[key] for key in self.uses}, **options)


OPTIMISERS = Registry[OptimiserKind](
    "optimiser", "reticket.optimisers", ConfigError, says=lambda one: first_line(one.origin), importable=True
)
Build = TypeVar("Build", bound=Callable[..., Optimiser])


def optimiser(name: str) -> Callable[[Build], Build]:
    """Register an optimiser, a class or a function that makes one; its signature says which options it has.

    It gets the model's `FlatParameters` as `parameters`, and `lr`, `momentum` and `weight_decay` of the recipe where it
    names them. Options stand after a `*`, with their types and defaults: `Recipe.optimizer_options` are checked against
    them.

    Args:
        name: what users write as `optimizer`.

    Raises:
        ConfigError: when the name is taken or a parameter is none of these.
    """

    def register(build: Build) -> Build:
        OPTIMISERS.add(name, OptimiserKind.of(name, build))
        return build

    return register
