"""Batches and forward passes: what a model takes of a batch, and running it without leaving a trace in it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import islice
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from reticket.errors import ModelError
from reticket.rng import are_shared, global_generators, global_state
from reticket.symmetry import Inside, Site, Symmetry
from reticket.symmetry.graph import Inputs
from reticket.symmetry.untouched import host_generators, kept

_still: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # models that drew nothing, by their mode


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put `models` in evaluation mode; they, and all that they reach, are then put back, whatever happens inside.

    What the caller's own hooks collect is the caller's: every batch is run exactly once, and they may watch it.
    """
    with kept(*models, watched=True):
        for model in models:
            model.eval()
        yield


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's weights are (the CPU for a model without weights)."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def call(model: nn.Module, inputs: object) -> object:
    """Run the model on `inputs` without gradients, on the model's device, and leave the random state as it was.

    Not in inference mode: what a model or a function that it shares keeps of a run must be fit to be trained with.

    Args:
        inputs: a tensor, a tuple or list of positional inputs, or a dict of keyword inputs.

    Raises:
        ModelError: when the model cannot take these inputs.
    """
    device = device_of(model)
    inputs = _to(inputs, device)
    with torch.no_grad(), _generators_kept(model, device):
        try:
            if isinstance(inputs, Mapping):
                return model(**inputs)
            return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"{type(model).__name__} cannot run on a batch of {described(inputs)} ({reason}): "
                "give batches like the model's example inputs, or say with to_inputs= what of a batch the model takes"
            ) from error


def look_inside(inside: Inside, model: nn.Module, inputs: object, look: Callable[[Site, Tensor], None]) -> None:
    """Show the sites that only a model's traced graph shows; nothing is run where there are none.

    Raises:
        ModelError: when the model cannot be traced on these inputs.
    """
    if not inside.sites:
        return
    device = device_of(model)
    with _generators_kept(model, device):
        try:
            inside.show(model, Inputs.of(_to(inputs, device)), look)
        except ModelError as error:
            name = next(iter(inside.sites.values())).name
            raise ModelError(
                f"'{name}' is seen by tracing alone, on a batch of {described(inputs)}: {error}"
            ) from error


@contextmanager
def _generators_kept(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Leave the random state as it was.

    Where several threads compute side by side, that means to hold the generators; once a model has run without drawing,
    it runs without holding them. One that draws later all the same is found out by a training run beside it.
    """
    if are_shared() and _still.get(model) is model.training:
        yield
        return
    with global_generators([device] if device.type == "cuda" else []), host_generators():
        before = global_state(device) if are_shared() else {}
        yield
        now = global_state(device) if before else {}
        if before and all(torch.equal(state, now[name]) for name, state in before.items()):
            _still[model] = model.training


def inputs_for(sym: Symmetry, batch: object, to_inputs: Callable[[object], object] | None) -> object:
    """Return what the model takes of a batch: its first n elements, n being the number of example inputs."""
    if to_inputs is not None:
        return to_inputs(batch)
    count = len(sym.inputs)
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        return dict(islice(batch.items(), count))
    return tuple(batch[:count]) if isinstance(batch, tuple | list) else batch


def inputs_of(batch: object, to_inputs: Callable[[object], object] | None = None) -> object:
    """Return what the model takes of a batch: the first element of a tuple or list, anything else as it is."""
    if to_inputs is not None:
        return to_inputs(batch)
    return batch[0] if isinstance(batch, tuple | list) and batch else batch


def described(value: object) -> str:
    """Return what a batch is made of, for messages.

    >>> described((torch.zeros(2, 3), "x"))
    'tuple(float32 (2, 3), str)'
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "dict(" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + ")"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}(" + ", ".join(described(item) for item in value) + ")"
    return type(value).__name__


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield every tensor in nested tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for member in fields(value):
            yield from tensors_in(getattr(value, member.name))


def examples_in(inputs: object) -> int:
    """Return the number of examples in a model's inputs: the first axis of the first tensor that has one, else 1."""
    return next((tensor.shape[0] for tensor in tensors_in(inputs) if tensor.dim() > 0), 1)


def parts(inputs: object, size: int) -> Iterator[object]:
    """Cut a model's inputs along the examples; a tensor of another first axis goes with every part.

    >>> [described(part) for part in parts((torch.zeros(5, 3), torch.zeros(2)), 4)]
    ['tuple(float32 (4, 3), float32 (2,))', 'tuple(float32 (1, 3), float32 (2,))']

    Args:
        inputs: a tensor, or tensors in tuples, lists and mappings.
        size: examples in a part, at least 1.
    """
    many = examples_in(inputs)
    if many <= size:
        yield inputs
        return
    for begin in range(0, many, size):
        yield _sliced(inputs, slice(begin, begin + size), many)


def _sliced(value: object, where: slice, many: int) -> object:
    if isinstance(value, Tensor):
        return value[where] if value.dim() > 0 and value.shape[0] == many else value
    if isinstance(value, Mapping):
        return {key: _sliced(item, where, many) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_sliced(item, where, many) for item in value)
    return value


def _to(value: object, device: torch.device) -> object:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _to(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_to(item, device) for item in value)
    return value
