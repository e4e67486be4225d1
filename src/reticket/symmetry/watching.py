"""Watching a model run: outputs of leaf modules by hooks, functional calls by a dispatch mode, both counted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from reticket.symmetry.eager import eager
from reticket.symmetry.recurrence import computed_in

Execution: TypeAlias = tuple[str, str, int]  # path of a module, functional call or empty, number of the call

# names under which an eager run shows an operator that the graph keeps whole
EAGER_NAMES = {
    "addmm": "linear",
    "mm": "linear",
    "convolution": "conv",
    "conv1d": "conv",
    "conv2d": "conv",
    "conv3d": "conv",
    "max_pool2d_with_indices": "max_pool2d",
    "native_layer_norm": "layer_norm",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
}
# functional calls that are reported
COUNTED = frozenset(
    [
        "relu",
        "gelu",
        "silu",
        "sigmoid",
        "tanh",
        "elu",
        "leaky_relu",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "softplus",
        "mish",
        "add",
        "sub",
        "mul",
        "div",
        "cat",
        "mean",
        "sum",
        "amax",
        "exp",
        "pow",
        "sqrt",
        "rsqrt",
        "clamp",
        "linear",
        "conv",
        "max_pool2d",
        "avg_pool2d",
        "layer_norm",
        "softmax",
        "log_softmax",
    ]
)


class _Calls(TorchDispatchMode):
    """Reports the result of every counted operator; what runs inside one that takes functions is not seen."""

    supports_higher_order_operators = True

    def __init__(self, report: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self.report = report

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = canonical(func) if isinstance(func, OpOverload) else ""
        if name in COUNTED:
            first = result[0] if isinstance(result, tuple | list) else result
            if isinstance(first, Tensor):
                self.report(name, first)
        return result


@cache
def canonical(target: Any) -> str:
    """Return the name of an aten operator without overload and trailing underscore, the same in graph and eager run."""
    name = str(target._schema.name).removeprefix("aten::")
    name = name[:-1] if name.endswith("_") and not name.endswith("__") else name
    return str(EAGER_NAMES.get(name, name))


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is built into torch.nn and has no modules inside, so that its output is its last operator's."""
    return type(module).__module__.startswith("torch.nn.modules") and next(module.children(), None) is None


@contextmanager
def unpacked(model: nn.Module) -> Iterator[None]:
    """While active, encoders do not pack the unpadded positions of a batch into nested tensors, which have no shape.

    They do so in evaluation mode, for some masks and not for others; what they compute at these positions is the same.
    """
    encoders = [m for m in model.modules() if isinstance(m, nn.TransformerEncoder)]
    packing = [m for m in encoders if getattr(m, "use_nested_tensor", False)]
    for module in packing:
        module.use_nested_tensor = False
    try:
        yield
    finally:
        for module in packing:
            module.use_nested_tensor = True


@contextmanager
def watch(
    model: nn.Module,
    on_execution: Callable[[Execution, Tensor], None],
    *,
    leaves: frozenset[str] | None = None,
    functional: bool = True,
    layers: Mapping[str, Sequence[str]] = MappingProxyType({}),
    skips: Callable[[Execution, nn.Module, object], bool] | None = None,
) -> Iterator[None]:
    """While active, report every output of a leaf module and of a counted functional call, in order of execution.

    Args:
        model: model to watch; each call of it starts the counts anew.
        on_execution: called at once, before a later operator can overwrite the tensor.
        leaves: paths of the leaf modules to report; None for all.
        functional: whether functional calls are reported.
        layers: names of what is reported from inside of recurrent modules, by their paths.
        skips: asked about the one input of a leaf module that nobody else watches; where it says yes, the output is
            not reported.
    """
    counts: dict[tuple[str, str], int] = {}
    stack: list[tuple[str, bool]] = []

    def counted(path: str, operator: str) -> Execution:
        call = counts.get((path, operator), 0)
        counts[path, operator] = call + 1
        return path, operator, call

    def report(operator: str, tensor: Tensor) -> None:
        if stack and not stack[-1][1]:
            on_execution(counted(stack[-1][0], operator), tensor)

    def show(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if path in layers:
            assert isinstance(module, nn.RNNBase)
            for operator, tensor in computed_in(module, args, kwargs, layers[path]).items():
                on_execution(counted(path, operator), tensor)
        first = output[0] if isinstance(output, tuple) and output else output
        if (leaves is None or path in leaves) and is_leaf(module) and isinstance(first, Tensor):
            execution, alone = counted(path, ""), len(module._forward_hooks) == 1 == len(args)
            if skips is None or not alone or not skips(execution, module, args[0]):
                on_execution(execution, first)

    def enter(path: str, leaf: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if module is model:
                counts.clear()
                stack.clear()
            stack.append((path, leaf))

        return hook

    def leave(path: str, shown: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if stack:
                stack.pop()
            if shown:
                with _disable_current_modes():  # what is computed of an activation is no part of the run
                    show(path, module, args, kwargs, output)

        return hook

    with ExitStack() as exits:
        exits.enter_context(unpacked(model))
        for path, module in model.named_modules():
            leaf = is_leaf(module)
            shown = (leaf and (leaves is None or path in leaves)) or path in layers
            if functional or shown or module is model:
                exits.callback(module.register_forward_pre_hook(enter(path, leaf), prepend=True).remove)
                exits.callback(module.register_forward_hook(leave(path, shown), with_kwargs=True).remove)
        if functional:
            exits.enter_context(eager())
            exits.enter_context(_Calls(report))
        yield
