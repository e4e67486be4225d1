"""Which layers of a model REPAIR corrects, found by watching one forward pass."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reticket.errors import ModelError
from reticket.forward import call
from reticket.nested import tensors_in

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Layers:
    """What REPAIR touches in a model, by module name.

    Args:
        corrected: linear and convolution layers whose output channels are renormalised.
        reset: BatchNorm layers whose running statistics are taken anew.
        several: those of both that run more than once in a forward pass.
    """

    corrected: tuple[str, ...]
    reset: tuple[str, ...]
    several: frozenset[str] = frozenset()


def layers_to_repair(model: nn.Module, inputs: object) -> Layers:
    """Return the layers to correct, seen from one forward pass on `inputs`.

    Corrected are the linear and convolution layers that run, except those whose output goes straight into a BatchNorm
    layer (which takes over) and the final ones: the last to run, and any whose output is an output of the model.

    Raises:
        ModelError: when a corrected layer has no plain weight of its own (parametrized, pruned or tied).
    """
    names = {module: name for name, module in model.named_modules()}
    outputs: dict[str, weakref.ref[Tensor]] = {}
    normalised: list[str] = []
    runs: Counter[str] = Counter()

    def after_layer(module: nn.Module, args: object, output: Tensor) -> None:
        runs[names[module]] += 1
        outputs.pop(names[module], None)
        outputs[names[module]] = weakref.ref(output)

    def before_norm(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        runs[names[module]] += 1
        normalised.extend(name for name, seen in outputs.items() if seen() is args[0])

    with _hooked(model, is_layer, after_layer), _hooked(model, is_resettable, before_norm, before=True):
        result = call(model, inputs)
    ends = {name for name, seen in outputs.items() if any(seen() is leaf for leaf in tensors_in(result))}
    skipped = ends | set(normalised) | set(list(outputs)[-1:])
    layers = Layers(
        tuple(name for name in outputs if name not in skipped),
        tuple(name for module, name in names.items() if is_resettable(module)),
        frozenset(name for name, times in runs.items() if times > 1),
    )
    _check_weights(model, layers.corrected)
    return layers


def is_layer(module: nn.Module) -> bool:
    """Whether the module is a linear or convolution layer."""
    return isinstance(module, (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED))


def is_resettable(module: nn.Module) -> bool:
    """Whether the module is a BatchNorm layer with running statistics."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def channel_axis(module: nn.Module) -> int:
    """Return the axis of the output channels, counted from the end."""
    return -1 if isinstance(module, nn.Linear) else -1 - len(module.kernel_size)  # type: ignore[arg-type]


def scaled_weight(module: nn.Module, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the weight that multiplies each output channel by `scale` (one value per channel)."""
    if isinstance(module, _TRANSPOSED):
        grouped = weight.unflatten(0, (module.groups, -1))
        factors = scale.view(module.groups, 1, -1, *[1] * (weight.dim() - 2))
        return (grouped * factors).flatten(0, 1)
    return weight * scale.view(-1, *[1] * (weight.dim() - 1))


@contextmanager
def _hooked(
    model: nn.Module, wanted: Callable[[nn.Module], bool], hook: Callable[..., None], *, before: bool = False
) -> Iterator[None]:
    handles = [
        module.register_forward_pre_hook(hook) if before else module.register_forward_hook(hook)
        for module in model.modules()
        if wanted(module)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_weights(model: nn.Module, names: tuple[str, ...]) -> None:
    owners: dict[int, str] = {}
    for owner, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            first = owners.setdefault(id(parameter), f"{owner}.{key}")
            if first != f"{owner}.{key}" and {owner, first.rpartition(".")[0]} & set(names):
                raise ModelError(f"REPAIR cannot rescale '{owner}.{key}': it is tied to '{first}'; untie the two first")
    for name in names:
        if "weight" not in dict(model.get_submodule(name).named_parameters(recurse=False)):
            raise ModelError(
                f"REPAIR cannot rescale layer '{name}': it has no plain parameter 'weight' (pruned or parametrized?); "
                "make it permanent first, for instance with torch.nn.utils.prune.remove"
            )
