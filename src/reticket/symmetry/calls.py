"""What a model calls, in order: two runs that call the same functions on the same tensors have the same graph.

Most models differ between eval and train mode only in what dropout and BatchNorm are told. Comparing the calls of one
run in each mode shows this for the price of a forward, and saves tracing the model a second time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakIdKeyDictionary

from reticket.symmetry.eager import eager, steps_of
from reticket.symmetry.graph import Inputs, quiet
from reticket.symmetry.replay import ReadRecorder
from reticket.symmetry.untouched import untouched

DROPOUT = tuple(
    function
    for module in (F, torch)
    for name in [
        "dropout",
        "dropout_",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "alpha_dropout_",
        "feature_dropout",
        "feature_dropout_",
        "feature_alpha_dropout",
        "feature_alpha_dropout_",
    ]
    if (function := getattr(module, name, None)) is not None
)


@dataclass(frozen=True)
class Switch:
    """The argument by which a function is told whether it trains.

    Args:
        name: its keyword.
        position: its place among positional arguments.
        off: the value that makes the function free of noise.
        noise: whether the argument decides about dropout only.
        packed: whether a packed sequence comes as two arguments, which moves the others by one.
    """

    name: str
    position: int
    off: Any
    noise: bool = True
    packed: bool = False

    def set(self, args: Sequence[Any], kwargs: Mapping[str, Any], value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with this one replaced."""
        place = self.position + (self.packed and isinstance(args[2], Tensor))
        if len(args) > place:
            return (*args[:place], value, *args[place + 1 :]), dict(kwargs)
        return tuple(args), {**kwargs, self.name: value}


# The same equations between axes hold whatever these arguments are: the rules of dropout are elementwise, those of
# attention and of BatchNorm do not look at them.
SWITCHES: dict[Callable[..., Any], Switch] = {
    **{f: Switch("train" if getattr(torch, f.__name__, None) is f else "training", 2, False) for f in DROPOUT},
    F.scaled_dot_product_attention: Switch("dropout_p", 4, 0.0),
    F.multi_head_attention_forward: Switch("training", 13, False),
    **{f: Switch("train", 6, False, packed=True) for f in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)},
    F.batch_norm: Switch("training", 5, False, noise=False),
}
# functions whose result stands for their argument: whether `contiguous` copies depends on which kernel was chosen
PASSING = (*DROPOUT, Tensor.contiguous)
# questions about a tensor's form: what comes of the answers shows in the calls that follow
FORM = (
    *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")),
    *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point),
)
EMPTY = (torch.empty, Tensor.new_empty)
PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None), type(...)),
    *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
)


class SampleNoise:
    """Follows the noise of stochastic depth, `x * x.new_empty((n, 1, 1)).bernoulli_(p).div_(p)`.

    It is dropout of whole samples, and as dropout asks nothing of any axis, so that such a product stands for `x`.
    """

    def __init__(self) -> None:
        self._steps = WeakIdKeyDictionary()

    def is_made_by(self, func: Any, args: Sequence[Any]) -> bool:
        """Whether a call makes a tensor to draw into, draws into it or scales what was drawn."""
        if func in EMPTY:
            return True
        if func not in (Tensor.bernoulli_, Tensor.div_, Tensor.mul_) or len(args) != 2:  # a keyword is not followed
            return False
        return isinstance(args[0], Tensor) and args[0] in self._steps and isinstance(args[1], int | float)

    def add(self, func: Any, args: Sequence[Any], result: Tensor) -> None:
        """Note one of the calls that make a tensor."""
        self._steps[result] = (func,) if func in EMPTY else (*self._steps[result], func, args[1])

    def multiplies(self, func: Any, args: Sequence[Any]) -> bool:
        """Whether a call multiplies samples by one drawn number each."""
        if func is not Tensor.mul or not all(isinstance(a, Tensor) for a in args) or args[1] not in self._steps:
            return False
        x, noise = args
        return (
            self._steps[noise][1:2] == (Tensor.bernoulli_,)
            and x not in self._steps
            and noise.shape == (*x.shape[:1], *(1 for _ in x.shape[1:]))
            and x.dtype == noise.dtype
        )

    def pop(self, tensor: Tensor) -> tuple[Any, ...] | None:
        """Return how a tensor was made that is used for something else, and follow it no longer."""
        return self._steps.pop(tensor, None)


class Calls(ReadRecorder):
    """Notes every call of a torch function; a tensor made on the way is known by the number of its making."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Any, ...]] = []
        self.trains = False
        self._numbers = WeakIdKeyDictionary()
        self._noise = SampleNoise()
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if (steps := steps_of(func)) is not None:
            with self:
                return steps(*args, **kwargs)
        if func in FORM:
            return func(*args, **kwargs)
        if self._noise.is_made_by(func, args):
            result = func(*args, **kwargs)
            self._noise.add(func, args, result)
            return result
        if self._noise.multiplies(func, args):
            result = func(*args)
            self._numbers[result] = self._known(args[0])
            return result
        noted = self._note(func, args, kwargs)
        result = func(*args, **kwargs)
        self.record(func, args, kwargs, result)
        for value in tree_flatten(result)[0] if noted else ():
            if isinstance(value, Tensor) and func in PASSING:
                self._numbers[value] = self._known(args[0] if args else kwargs["input"])
            elif isinstance(value, Tensor) and value not in self._numbers:
                self._number(value, "made")
        return result

    def _number(self, value: Tensor, *made: Any) -> None:
        self._count += 1
        self._numbers[value] = (*made, self._count, tuple(value.shape), value.dtype)

    def _note(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if func is Tensor.add_ and args[0].dim() == 0 and not args[0].is_floating_point():
            return False  # BatchNorm counts its steps: a number has no axes
        if func in SWITCHES:
            self.trains |= not SWITCHES[func].noise
            args, kwargs = SWITCHES[func].set(args, kwargs, None)
        self.note(func, (tuple(args), dict(kwargs)))
        return True

    def note(self, what: Any, values: Any) -> None:
        """Add an entry that compares equal to that of another run if it is the same there."""
        leaves, spec = tree_flatten(values)
        self.made.append((what, spec, tuple(map(self._known, leaves))))

    def _known(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            if (steps := self._noise.pop(leaf)) is not None:
                self._number(leaf, *steps)
            return self._numbers[leaf] if leaf in self._numbers else ("given", id(leaf))
        if isinstance(leaf, slice):
            return ("slice", *map(self._known, (leaf.start, leaf.stop, leaf.step)))
        return leaf if isinstance(leaf, PLAIN) else object()


def calls_of(model: nn.Module, inputs: Inputs, *, train: bool) -> Calls:
    """Run the model once and return what it called, its result as the last entry; the model is left as it was."""
    with untouched(model), quiet(), eager(), torch.no_grad():
        model.train(train)
        with Calls() as calls:
            result = inputs.call(model)
        calls.note("result", result)
    return calls


def differs_in_training(model: nn.Module, inputs: Inputs, evaluated: Calls) -> bool:
    """Whether the equations of train mode must be found by a trace of their own.

    Args:
        model: the model; left as it was.
        inputs: example inputs.
        evaluated: the calls of a run in eval mode on the same inputs.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return True
    try:
        trained = calls_of(model, inputs, train=True)
        return trained.made != evaluated.made or trained.reads != evaluated.reads
    except Exception:  # a comparison of positions that were read, too: they are tensors
        return True
