"""Batches and forward passes: what a model takes of a batch, and running it without leaving a trace in it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from reticket.copied import private_copy
from reticket.errors import InputError, ModelError
from reticket.nested import applied, checked_batches, described, inputs_of, moved, parts
from reticket.objectives import Objective, Prediction, Tally, objective_for
from reticket.rng import are_shared, global_generators, global_state
from reticket.symmetry import Inside, Site, Symmetry, load_into
from reticket.symmetry.graph import Inputs
from reticket.symmetry.untouched import host_generators, kept
from reticket.weights import Weights, state_of
from reticket.wrapped import inside

T = TypeVar("T")
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


def lay_channels_last(models: Sequence[nn.Module], inputs: object) -> None:
    """Lay the weights of convolutions out with their channels last, which is faster, where the models can run so.

    To be called inside of `evaluating`, which puts the weights back as they lay. What a model computes changes by
    rounding alone. Some models look at how their activations lie in memory (`view` after a convolution): whether they
    run is tried on copies, with two examples.

    Args:
        models: of one architecture, in evaluation mode.
        inputs: what they are to be run on.
    """
    weights = [weight for model in models for weight in _weights_of_images(model)]
    if weights and all(_runs_channels_last(one, inputs) for one in {type(model): model for model in models}.values()):
        for weight in weights:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def _weights_of_images(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of 2-dimensional convolutions that a CPU computes faster with channels last."""
    every = [module._parameters.get("weight") for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [one for one in every if one is not None and (one.device.type, one.dtype) == ("cpu", torch.float32)]


def trial_copy(model: nn.Module) -> nn.Module | None:
    """Return a copy to try something on, whose runs nothing sees that the caller hooked; None where there is none."""
    try:
        copied = private_copy(model)
    except Exception:  # whatever a module of the user's says when it is copied
        return None
    for module in copied.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return copied


def _runs_channels_last(model: nn.Module, inputs: object) -> bool:
    copied = trial_copy(model)
    if copied is None:
        return False
    with evaluating(copied):
        for weight in _weights_of_images(copied):
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        try:
            call(copied, next(parts(inputs, 2)))
        except ModelError:
            return False
    return True


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's weights are (the CPU for a model without weights)."""
    for tensor in chain(model.parameters(), model.buffers()):
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
    with torch.no_grad(), _generators_kept(model, device):
        return _applied(model, moved(inputs, device))


def _applied(model: nn.Module, inputs: object) -> object:
    try:
        return applied(model, inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{type(model).__name__} cannot run on a batch of {described(inputs)} ({reason}): "
            "give batches like the model's example inputs, or say with to_inputs= what of a batch the model takes"
        ) from error


@dataclass(frozen=True)
class Score:
    """How a model does on batches.

    Args:
        objective: what it was judged by.
        loss: the mean loss over all items of all batches.
        metric: the objective's metric over them; None where it has none.
        items: how many examples, tokens or pixels the loss is a mean over.
    """

    objective: Objective = field(repr=False)  # functions, which say nothing
    loss: float
    metric: float | None
    items: int


def scored(
    model: nn.Module,
    batches: Iterable[object],
    objective: Objective | None = None,
    *,
    to_inputs: Callable[[object], object] | None = None,
    who: str = "scoring",
) -> Score:
    """Return how a model does on batches, which it sees once, without gradients; the random state is left as it was.

    Args:
        model: in the mode that it is to run in.
        batches: of what the objective takes.
        objective: what to judge by; None for what `objective_for` says of the first batch.
        to_inputs: what of a batch the model takes, in place of its first element.
        who: is asking, for the error.

    Raises:
        InputError: when there are no batches, or they do not fit the objective.
        ModelError: when the model cannot take a batch.
    """
    sums: list[Tally] = []
    for batch in checked_batches(batches, who):
        objective = objective_for(batch) if objective is None else objective
        tallies = judged(model, batch, objective.tallies, to_inputs)
        sums = _added(sums, [tally.kept() for tally in tallies if tally is not None])
    if objective is None or not sums:
        raise InputError(f"{who} got no batches: give at least one batch of (inputs, labels)")
    loss, *metric = sums
    number = objective.metric.number(metric[0]) if objective.metric is not None else None
    return Score(objective, objective.loss.number(loss), number, int(loss.items))


def judged(
    model: nn.Module,
    batch: object,
    judge: Callable[[Prediction], T],
    to_inputs: Callable[[object], object] | None = None,
) -> T:
    """Return what `judge` says of a model's prediction for a batch, logits in float64 and without gradients.

    Args:
        model: in the mode that it is to run in; the batch is brought to its device.
        batch: what the loader gave.
        judge: of the prediction.
        to_inputs: what of a batch the model takes, in place of its first element.

    Raises:
        ModelError: when the model cannot take the batch.
    """
    device = device_of(model)

    def run(model: nn.Module, _: object) -> object:
        return _applied(model, moved(inputs_of(batch, to_inputs), device))

    with torch.no_grad(), _generators_kept(model, device):
        return judge(Prediction(model, moved(batch, device), run, torch.float64))


def loss_of(
    model: nn.Module,
    batch: object,
    objective: Objective,
    to_inputs: Callable[[object], object] | None = None,
) -> Tensor:
    """Return a model's mean loss on a batch, with its gradient; the random state is left as it was.

    Args:
        model: in the mode that it is to run in; the batch is brought to its device.
        batch: what the loader gave.
        objective: whose loss.
        to_inputs: what of a batch the model takes, in place of its first element.

    Raises:
        ModelError: when the model cannot take the batch.
        InputError: when the batch does not fit the objective.
    """
    device = device_of(model)

    def run(model: nn.Module, _: object) -> object:
        return _applied(model, moved(inputs_of(batch, to_inputs), device))

    with _generators_kept(model, device):
        return objective.tallies(Prediction(model, moved(batch, device), run))[0].mean


def modules_of(networks: Mapping[str, Weights], alike: Sequence[nn.Module] = ()) -> list[nn.Module]:
    """Return networks as modules: a module as it is, a state_dict in a copy of the first that is one.

    Args:
        networks: by what the caller calls them.
        alike: further modules of the same architecture.

    Raises:
        InputError: when one is neither a module nor a state_dict, or none is a module.
        AlignmentError: when a state_dict is of another architecture.
    """
    modules = [*(one for one in networks.values() if isinstance(one, nn.Module)), *alike]

    def module_of(network: Weights, name: str) -> nn.Module:
        if isinstance(network, nn.Module):
            return network
        state = state_of(network, name)
        if not modules:
            raise InputError(
                f"{name} and all others are weights alone, which do not say how they are computed with; give one of "
                f"the networks as a module, in copies of which the others are run"
            )
        copied = private_copy(inside(modules[0]))
        load_into(copied, state)
        return copied

    return [module_of(network, name) for name, network in networks.items()]


def _added(sums: list[Tally], more: list[Tally]) -> list[Tally]:
    return [one + other for one, other in zip(sums, more, strict=True)] if sums else more


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
