"""Batches and forward passes: what a model takes of a batch, and running it without leaving a trace in it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from reticket.errors import ModelError
from reticket.nested import applied, described, moved
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
    inputs = moved(inputs, device)
    with torch.no_grad(), _generators_kept(model, device):
        try:
            return applied(model, inputs)
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
            inside.show(model, Inputs.of(moved(inputs, device)), look)
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
