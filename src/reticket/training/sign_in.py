"""Sign-In: kept weights are trained as products of two factors, so that they change their signs more easily."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reticket.errors import ConfigError
from reticket.lookup import nearest
from reticket.options import Options
from reticket.products import as_product
from reticket.training.flat import FlatParameters
from reticket.training.optimisers import GrowingOptimiser, Optimiser

FIRST, SECOND = "m", "w"
INNER = "inner."  # before the names of what the optimiser of the factors holds


class SignIn(GrowingOptimiser):
    """Moves every kept weight as a product `theta = m w`: an optimiser of its own moves m and w by the chain rule.

    With g the gradient by theta, `g_m = g w` and `g_w = g m`. Under gradient flow `m^2 - w^2 = beta` stays as it is and
    `d theta / dt = -sqrt(4 theta^2 + beta^2) g`: a weight has a rate of beta where it passes through 0, and a larger
    one the larger it is, so that among weights that are coupled, signs turn that plain gradient flow keeps. Noise and
    weight decay shrink the imbalance; every so many epochs it is brought back to beta, while theta stays bit for bit.

    Products are the parameters that the mask names when the run begins (without a mask, those of two axes or more); all
    others, biases and normalisation, are moved by the same optimiser as they are. The model holds theta at every
    moment: what is evaluated, stored, masked or averaged are plain weights, and the factors are state of the optimiser,
    in every checkpoint. Masked weights have two factors of 0; one that is let go begins at `m = sqrt(beta)`, `w = 0`.

    Gadhikar, Jacobs, Zhou and Burkholz 2025, arXiv 2504.12801: the product, beta = 1, and its periodic reset. This is
    written from the method as it is described, not from the authors' code; known or possible deviations: m is positive
    at the beginning and keeps its sign in a reset, w has the sign of theta; m and w are each decayed by the optimiser's
    weight decay, which decays theta at twice that rate; velocities and moments stay as they are in a reset; biases and
    normalisation are no products; the recipe's `clip_norm` is of the gradient by theta.

    Args:
        parameters: the model's own.
        build: makes the optimiser of m and w.
        beta: the imbalance `m^2 - w^2`, above 0.
        every: epochs between two resets, counted on the clock of the whole recipe; 0 for none.

    Raises:
        ConfigError: when beta or every is out of its range.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        build: Callable[[FlatParameters], Optimiser],
        *,
        beta: float = 1.0,
        every: int = 1,
    ) -> None:
        _check_ranges(beta, every)
        self.parameters, self.beta, self.every = parameters, beta, every
        names = parameters.mask or [name for name, shape in parameters.shapes.items() if len(shape) > 1]
        self._is_product = torch.zeros(parameters.length, dtype=torch.bool, device=parameters.device)
        views = parameters.views(self._is_product)
        for name in names:
            views[name].fill_(True)
        self._one = (~self._is_product).to(parameters.dtype)  # the second factor of what is no product
        self.factors = FlatParameters(_Factors(parameters), None, channels_last=parameters.channels_last)
        self._first, self._second = self.factors.weights.split(parameters.length)
        self._first.copy_(parameters.weights)
        self._divide(torch.ones_like(self._first))
        self._hold_mask()
        self.inner = build(self.factors)

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The factors, their velocity, and what their optimiser holds."""
        own = {"factors": self.factors.weights, "velocity": self.factors.gradient}
        return own | {f"{INNER}{name}": tensor for name, tensor in self.inner.state.items()}

    @torch.no_grad()
    def before_backward(self, *, leads: bool = True) -> None:
        """Begin with a gradient of 0.

        Args:
            leads: of no meaning here: all processes move the same factors by the same sum of gradients.
        """
        self.parameters.gradient.zero_()

    @torch.no_grad()
    def after_backward(self, lr: float | Float[Tensor, ""]) -> None:
        """Move the factors, and the weights to their product."""
        self.parameters.clear_masked_gradient()
        self.inner.before_backward()
        of_first, of_second = self.factors.gradient.split(self.parameters.length)
        of_first.addcmul_(self.parameters.gradient, self._second + self._one)
        of_second.addcmul_(self.parameters.gradient, self._first)
        self.inner.after_backward(lr)
        torch.mul(self._first, self._second + self._one, out=self.parameters.weights)
        self.parameters.clear_masked_weights()

    def end_epoch(self, epoch: int) -> None:
        """Reset the imbalance where that is due.

        Args:
            epoch: the number of the one that is complete, from 0.
        """
        if self.every and (epoch + 1) % self.every == 0:
            self._divide(torch.ones_like(self._first).copysign_(self._first))

    @torch.no_grad()
    def _divide(self, sign: Float[Tensor, " n"]) -> None:
        """Make of the weights as they are factors of the imbalance beta, the first of a given sign."""
        larger, smaller = as_product(self.parameters.weights, self.beta)
        kept = self._kept_products()
        self._first.copy_(torch.where(kept, larger * sign, self._first))
        self._second.copy_(torch.where(kept, smaller * sign, self._second))

    def _kept_products(self) -> Bool[Tensor, " n"]:
        keep = self.parameters.keep
        return self._is_product if keep is None else self._is_product & (keep != 0)

    # ---------------------------------------------------------------- state and mask

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` was in another run.

        Raises:
            ConfigError: when it is the state of other parameters, or of another optimiser.
        """
        inner = {name.removeprefix(INNER): t for name, t in state.items() if name.startswith(INNER)}
        own: dict[str, Tensor] = {"factors": self.factors.weights, "velocity": self.factors.gradient}
        if isinstance(self.inner, GrowingOptimiser):
            self.inner.load_state(inner)
        else:
            own |= {f"{INNER}{name}": tensor for name, tensor in self.inner.state.items()}
        for name, tensor in own.items():
            if name not in state or state[name].shape != tensor.shape or state[name].dtype != tensor.dtype:
                raise ConfigError(
                    f"the state does not fit these products ('{name}' is missing or of another form); continue with "
                    f"the model, mask and parametrization that it came from"
                )
            tensor.copy_(state[name])

    @torch.no_grad()
    def clear_masked_state(self) -> None:
        """Hold the mask on both factors; what it lets go begins at 0, with the imbalance beta."""
        self._hold_mask()
        if isinstance(self.inner, GrowingOptimiser):
            self.inner.clear_masked_state()
        else:
            for tensor in self.inner.state.values():
                if tensor.shape == self.factors.weights.shape:
                    tensor.masked_fill_(self.factors.keep == 0, 0)
        revived = self._kept_products() & (self._first == 0) & (self._second == 0)
        self._first.masked_fill_(revived, math.sqrt(self.beta))

    def _hold_mask(self) -> None:
        """Hold the mask on both factors, and 0 as the second one of what is no product."""
        held = {_named(half, name): kept for name, kept in self.parameters.mask.items() for half in (FIRST, SECOND)}
        products = self.parameters.views(self._is_product)
        held |= {_named(SECOND, name): one for name, one in products.items() if not one.any()}
        self.factors.set_mask(held)


class _Factors(nn.Module):
    """Two factors for every trainable parameter, the first ones before the second ones, each as the parameters lie."""

    def __init__(self, parameters: FlatParameters) -> None:
        super().__init__()
        for half in (FIRST, SECOND):
            for name, weight in parameters.trained.items():
                self.register_parameter(_named(half, name), nn.Parameter(torch.zeros_like(weight)))


def _named(half: str, name: str) -> str:
    """Return the name of a factor; torch allows no dot in it."""
    return f"{half}:{name.replace('.', '/')}"


def _check_ranges(beta: float, every: int) -> None:
    """Refuse what makes no products.

    Raises:
        ConfigError: naming it.
    """
    if not 0 < beta < math.inf:
        raise ConfigError(f"recipe: beta of sign-in is {beta!r}, but it must be above 0: at 0 no weight passes 0")
    if every < 0:
        raise ConfigError(f"recipe: every of sign-in is {every!r}, but it must be at least 0 epochs")


def _no_options() -> None:
    """Weights are trained as they are."""


PARAMETRIZATIONS: Mapping[str, Options] = {
    name: Options(
        f"parametrization '{name}'",
        {key: one for key, one in inspect.signature(made).parameters.items() if one.kind is one.KEYWORD_ONLY},
        ConfigError,
    )
    for name, made in (("plain", _no_options), ("sign-in", SignIn))
}
"""What a weight may be trained as, with the options of each."""


def check_parametrization(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a parametrization, defaults included.

    Args:
        name: "plain" or "sign-in".
        options: those that are set.

    Raises:
        ConfigError: when there is no such parametrization or option, or a value is out of its range.
    """
    if name not in PARAMETRIZATIONS:
        known = ", ".join(PARAMETRIZATIONS)
        raise ConfigError(f"unknown parametrization '{name}'{nearest(name, PARAMETRIZATIONS)}; known are {known}")
    found = PARAMETRIZATIONS[name].settings(options)
    if name == "sign-in":
        _check_ranges(**found)
    return found
