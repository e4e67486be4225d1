"""Every `torch.optim.Optimizer` on the seat of an optimiser: torch's by name, timm's, and those of the user's modules.

One that works on every number by itself moves all weights as one vector, which gives the same and costs a handful of
calls; one that looks at a tensor's shape or size gets the tensors as they are.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from reticket.errors import ConfigError
from reticket.lookup import imported, nearest
from reticket.nested import tensors_in
from reticket.options import Options
from reticket.symmetry.optimizer_state import ENTRY_BY_ENTRY
from reticket.training.flat import FlatParameters
from reticket.training.optimisers import GIVEN, OPTIMISERS, GrowingOptimiser, OptimiserKind
from reticket.training.state_tensors import flattened, rebuilt

TIMM = "timm:"
ELEMENTWISE = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop")
SHAPED = ("Adafactor", "Muon")
HOW = ("foreach", "fused", "capturable", "differentiable")  # it is computed, not what
NO_OPTIONS = ("params", "maximize", *HOW)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
WHOLE = ""  # the name of all weights as one vector
Build = Callable[..., Optimizer]


class TorchOptimiser(GrowingOptimiser):
    """Drives a `torch.optim.Optimizer`: masked weights, their gradients and what it holds for them stay exactly 0.

    What is masked is decided by the mask, never by a value: gradients are cleared before a step, weights after it, and
    so is what the optimiser holds entry by entry. A square state of a square weight may be a factor that goes with one
    axis, as a preconditioner; there only names that are known to be kept entry by entry are believed.

    Args:
        parameters: what is moved.
        build: makes the optimiser of a list of parameters.
        lr: the recipe's highest learning rate; a group that begins with another keeps its proportion to it.
        whole: whether all weights are given as one vector.

    Raises:
        ConfigError: when it cannot be made of these parameters.
    """

    def __init__(
        self, parameters: FlatParameters, build: Callable[[list[nn.Parameter]], Optimizer], lr: float, *, whole: bool
    ) -> None:
        self.parameters, self._whole = parameters, whole
        moved = {WHOLE: _as_one(parameters)} if whole else parameters.trained
        self.optimizer = _built(build, list(moved.values()))
        names = {id(parameter): name for name, parameter in moved.items()}
        groups = self.optimizer.param_groups
        if any(id(p) not in names for group in groups for p in group["params"]) or any("lr" not in g for g in groups):
            raise ConfigError("the optimiser moves other tensors than it was given, or has a group without lr")
        self._names = [names[id(p)] for group in groups for p in group["params"]]
        self._ratios = [group["lr"] / lr for group in groups]

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The optimiser's `state_dict` as tensors, see `state_tensors.flattened`."""
        return flattened(self.optimizer.state_dict())

    @torch.no_grad()
    def before_backward(self, *, leads: bool = True) -> None:
        """Begin with a gradient of 0.

        Args:
            leads: of no meaning here.
        """
        self.parameters.gradient.zero_()

    @torch.no_grad()
    def after_backward(self, lr: float | Float[Tensor, ""]) -> None:
        """Do the optimiser's step at this learning rate."""
        self.parameters.clear_masked_gradient()
        for group, ratio in zip(self.optimizer.param_groups, self._ratios, strict=True):
            group["lr"] = lr * ratio
        self.optimizer.step()
        self.parameters.clear_masked_weights()
        self.clear_masked_state()

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` was in another run, every tensor in the type that it had.

        Raises:
            ConfigError: when it is the state of another optimiser or of other parameters.
        """
        try:
            found = rebuilt({name: tensor.clone() for name, tensor in state.items()})
            self.optimizer.load_state_dict(found)
            own = self.optimizer.state_dict()["state"]
            for key, values in found["state"].items():  # torch brings some to the type of the weights
                own[key].update({name: _placed(value, own[key][name]) for name, value in values.items()})
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as problem:
            raise ConfigError(
                f"the state does not fit this optimiser ({_reason(problem)}); continue with the one that it came from"
            ) from problem

    @torch.no_grad()
    def clear_masked_state(self) -> None:
        """Set to 0 what is held entry by entry for masked weights."""
        if self.parameters.keep is None:
            return
        keep = {WHOLE: self.parameters.keep} if self._whole else self.parameters.views(self.parameters.keep)
        for number, values in self.optimizer.state_dict()["state"].items():
            mine = keep[self._names[number]]
            for key, value in values.items():
                if key in ENTRY_BY_ENTRY or not _may_be_factor(mine.shape):
                    for tensor in tensors_in(value):
                        if tensor.shape == mine.shape:
                            tensor.masked_fill_(mine == 0, 0)


def _as_one(parameters: FlatParameters) -> nn.Parameter:
    """Return all weights as one parameter, whose gradient is that of all."""
    vector = nn.Parameter(parameters.weights)
    vector.grad = parameters.gradient
    return vector


def _may_be_factor(shape: torch.Size) -> bool:
    """Whether a state of this shape may as well go with one axis, as a preconditioner does."""
    return len(shape) == 2 and shape[0] == shape[1]


def _placed(value: Any, seen: Any) -> Any:
    """Return a stored value in the memory layout that torch gave it."""
    if not isinstance(value, Tensor) or not isinstance(seen, Tensor):
        return seen
    return torch.empty_like(seen, dtype=value.dtype).copy_(value)


def _built(build: Callable[[list[nn.Parameter]], Optimizer], moved: list[nn.Parameter]) -> Optimizer:
    try:
        optimizer = build(moved)
    except (ValueError, TypeError, RuntimeError) as problem:
        raise ConfigError(
            f"the optimiser cannot be made for this model ({_reason(problem)}); change its options or choose another"
        ) from problem
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"the optimiser is a {type(optimizer).__name__}, but a torch.optim.Optimizer was expected")
    return optimizer


def _reason(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0] or type(problem).__name__


# ---------------------------------------------------------------- by name


def torch_kind(name: str, build: Build, *, whole: bool = False) -> OptimiserKind:
    """Return the kind of optimiser that a torch optimiser is.

    It is given the recipe's `lr`, and `momentum` and `weight_decay` where it names them; every other parameter but
    those of `NO_OPTIONS` is an option, whose default says which values it may have.

    Args:
        name: what users write as `optimizer`.
        build: the class, or a function `(params, lr, ...)` that makes the optimiser.
        whole: whether it works on every number by itself, so that all weights are given as one vector.

    Raises:
        ConfigError: when it takes no `lr`, or an option has no default.
    """
    taken = inspect.signature(build).parameters
    own = {key: _plain(one) for key, one in taken.items() if key not in (*NO_OPTIONS, *GIVEN) and one.kind in NAMED}
    odd = [key for key, one in own.items() if one.default is one.empty and key != next(iter(taken))]
    if odd or "lr" not in taken:
        what = f"the parameter '{odd[0]}' has no default" if odd else "it takes no lr"
        raise ConfigError(
            f"optimiser '{name}' cannot be used: {what}; write a function (params, lr, ...) that makes it"
        )
    own.pop(next(iter(taken)), None)
    uses = tuple(key for key in GIVEN if key in taken)

    def seated(parameters: FlatParameters, **values: Any) -> TorchOptimiser:
        return TorchOptimiser(parameters, lambda moved: build(moved, **values), values["lr"], whole=whole)

    origin = build.func if isinstance(build, partial) else build
    return OptimiserKind(name, seated, uses, Options(f"optimiser '{name}'", own, ConfigError), origin)


def _plain(one: inspect.Parameter) -> inspect.Parameter:
    """Return an option with an annotation that a configuration can be checked by: those of torch allow tensors."""
    simple = one.annotation in (bool, int, float, str)
    return one if simple else one.replace(annotation=_kind_of(one.default))


def _kind_of(default: object) -> Any:
    if isinstance(default, tuple | list):
        return tuple[tuple(map(_kind_of, default))]
    if default is None:
        return Any
    return float if type(default) is int else type(default)  # a whole number may stand for any


def find_optimiser(name: str) -> OptimiserKind:
    """Return an optimiser by its name: a registered one, `timm:NAME`, or `package.module:NAME` of the user's own.

    The user's is a class of torch optimisers, a function `(params, lr, ...)` that makes one, or a class that moves all
    weights as one vector, whose first parameter is `parameters`, see `optimiser`.

    Args:
        name: what stands as `optimizer` in a recipe.

    Raises:
        ConfigError: when there is no such optimiser.
    """
    if name.startswith(TIMM):
        return torch_kind(name, _of_timm(name.removeprefix(TIMM)))
    if ":" not in name:
        return OPTIMISERS.named(name)
    found = imported(name, "optimiser", ConfigError)
    own = "parameters" in inspect.signature(found).parameters
    return OptimiserKind.of(name, found) if own else torch_kind(name, found)


def _of_timm(name: str) -> Build:
    try:
        from timm import optim  # pyright: ignore[reportMissingImports]
    except ImportError as reason:
        raise ConfigError(
            "optimisers named timm:NAME need the package timm; install it with pip install timm"
        ) from reason
    except Exception as reason:  # a torchvision of another build fails in ways of its own
        raise ConfigError(f"timm is installed, but cannot be imported ({_reason(reason)}); repair it") from reason
    made: Any = optim
    known = made.list_optimizers()
    if name not in known:
        raise ConfigError(f"timm has no optimiser '{name}'{nearest(name, known)}")
    return made.get_optimizer_class(name, bind_defaults=True)


for _name in (*ELEMENTWISE, *SHAPED):
    if hasattr(torch.optim, _name):  # Muon came with torch 2.9
        OPTIMISERS.add(
            _name.lower(), torch_kind(_name.lower(), getattr(torch.optim, _name), whole=_name in ELEMENTWISE)
        )
