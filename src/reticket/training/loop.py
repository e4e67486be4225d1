"""The training loop: a copy of the model in, weights and state out; the caller's model is not touched."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reticket.data import DataSource
from reticket.devices import available_device, current, deterministic
from reticket.errors import ConfigError, InputError
from reticket.fixed import fixed_entries
from reticket.training.own import OwnTraining, carry_out
from reticket.training.placement import Placement
from reticket.training.randomness import Randomness
from reticket.training.recipe import Recipe
from reticket.training.resume import Checkpoints, Resume, fingerprint, later_state, read_or_discard
from reticket.training.run import Callback, TrainingRun
from reticket.training.snapshot import follow_first, load_state, result_of
from reticket.training.state import TrainResult, TrainState
from reticket.weights import module_of


@dataclass(frozen=True)
class Span:
    """Which steps of a recipe are trained.

    Args:
        start: step k that the initial weights belong to: data order begins there, the schedule spans the rest.
        stop: step at which to stop (a snapshot); None for the end of the recipe.

    Raises:
        ConfigError: when there is no such span.
    """

    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop < self.start):
            raise ConfigError(
                f"training from step {self.start} to step {self.stop} is not possible; choose 0 <= start <= stop"
            )


WHOLE, AFRESH = Span(), Resume()
KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "dataset": (
        DataSource,
        "a data set was expected: load_dataset(name), or of pairs of input and label, as any torch data set has them, "
        "reticket.data.collected(name, (train, test))",
    ),
    "recipe": (Recipe, "a Recipe was expected, as Recipe(epochs=10, batch_size=64, lr=0.1)"),
    "rng_label": (tuple, "a tuple of words and numbers was expected, as ('train', 0)"),
    "span": (Span, "a Span was expected, as Span(start=5)"),
    "resume": (Resume, "a Resume was expected, as Resume(checkpoint='run.pt')"),
    "mask": ((Mapping, NoneType), "a mask was expected; of a ticket give .mask"),
}


def train(
    model: nn.Module,
    dataset: DataSource,
    recipe: Recipe,
    *,
    rng_label: tuple[str | int, ...] = ("train", 0),
    mask: Mapping[str, Bool[Tensor, "..."]] | None = None,
    span: Span = WHOLE,
    resume: Resume = AFRESH,
    callbacks: Sequence[Callback] = (),
    device: str | torch.device | Placement = "cpu",
) -> TrainResult:
    """Train a copy of a model by a recipe; the model itself stays as it is.

    Everything is decided by the arguments: the order of the data and the augmentation by `rng_label` and the epoch,
    dropout by `rng_label`. So a run that is stopped and continued, by a state or by a checkpoint, gives the bits of one
    that never stopped, on the same device with the same number of threads. torch's global generator is left as it was.
    A GPU holds the data too, once for all runs of this process, and cuDNN takes only kernels that give the same bits
    each time; the host reads losses at the end of an epoch and for a checkpoint, nothing in between.

    Args:
        model: its weights and buffers are the beginning; trained in its own floating-point type.
        dataset: the training data.
        recipe: length, batch size, SGD's constants, schedule.
        rng_label: labels that decide data order, augmentation and dropout, for instance `("A", 0, "dense")`.
        mask: for some parameters which weights are kept (True); the others are exactly 0 at every step. A callback may
            change it, see `TrainingRun.set_mask`.
        span: the steps to train, where they are not the whole recipe.
        resume: what to go on from, and the checkpoint to leave behind; of a training of the user's own the state alone.
        callbacks: what happens around the steps, in this order; the checkpoint comes after them. A training of the
            user's own takes those alone that change nothing, as `LogMetrics`, each an `Observer`.
        device: where to compute; a `Placement` says more: several processes, CUDA graphs.

    Returns:
        The weights and state after the last step of the span.

    Raises:
        InputError: when an argument is of another kind.
        ConfigError: when the device is not there, the span is outside the recipe, the state is not of this run, or
            graphs cannot be.
        MaskError: when the mask does not fit the model.
        TrainingError: when the loss is not finite, or the checkpoint is damaged or of another run.
        RanksError: when touch is lost with a process that trains along.

    >>> from reticket import build_model, evaluate, load_dataset
    >>> data, model = load_dataset("digits"), build_model("mlp")
    >>> result = train(model, data, Recipe(epochs=3, batch_size=64, lr=0.1))
    >>> result.steps, evaluate(model, data, weights=result.weights).accuracy > 90
    (63, True)
    """
    where = device if isinstance(device, Placement) else Placement(device)
    rng_label = tuple(rng_label) if isinstance(rng_label, list) else rng_label
    callbacks = list(callbacks) if isinstance(callbacks, Iterable) else callbacks
    _check_kinds(
        model=model,
        callbacks=callbacks,
        dataset=dataset,
        recipe=recipe,
        rng_label=rng_label,
        mask=mask,
        span=span,
        resume=resume,
    )
    available_device(where.device, ConfigError)
    if recipe.train is not None:
        return _train_by_own(
            OwnTraining(
                model,
                dataset,
                recipe,
                rng_label,
                mask or {},
                start=span.start,
                device=torch.device(where.device),
                callbacks=callbacks,
            ),
            span,
            resume,
            where,
            rng_label,
        )
    record = where.recorder(dataset)
    with current(where.device):
        run = TrainingRun(
            model,
            dataset,
            recipe,
            rng_label=rng_label,
            mask=mask,
            start=span.start,
            where=where,
            record=record,
            callbacks=callbacks,
        )
    stop = _stop(run, span)
    state = _beginning(run, resume, stop)
    labels = (*rng_label, "start", span.start, *(() if where.ranks.first else ("rank", where.ranks.rank)))
    own = Randomness(run.device, labels)
    with current(where.device), deterministic(where.device), own as run.randomness, closing(run):
        if state is not None and where.ranks.first:
            load_state(run, state)
        follow_first(run, state)
        for callback in run.callbacks:
            callback.on_start(run)
        run.go(stop)
        for callback in run.callbacks:
            callback.on_end(run)
        return result_of(run)


def _check_kinds(*, model: nn.Module, callbacks: object, **others: object) -> None:
    """Refuse what is of another kind than `train` takes, by its name.

    Raises:
        InputError: with what was given and what was expected.
    """
    module_of(model)
    for name, given in others.items():
        kind, expected = KINDS[name]
        if not isinstance(given, kind):
            raise InputError(f"{name} is a {type(given).__name__}, but {expected}")
    if not isinstance(callbacks, list):
        raise InputError(f"callbacks is a {type(callbacks).__name__}, but a list of Callback was expected")
    for number, one in enumerate(callbacks):
        if not isinstance(one, Callback):
            raise InputError(
                f"callbacks[{number}] is a {type(one).__name__}, but a Callback was expected; make a class of it whose "
                f"after_step or after_epoch does what is to be done"
            )


def _train_by_own(
    run: OwnTraining, span: Span, resume: Resume, where: Placement, rng_label: tuple[str | int, ...]
) -> TrainResult:
    """Have the user's own function train, under the same care for devices and random numbers."""
    if fixed_entries(run.model):
        raise ConfigError(
            f"the training '{run.recipe.train}' does not hold the fixed entries of an asymmetric model; set frozen = "
            f"false there, or leave train out"
        )
    if not where.ranks.alone or where.graphs:
        raise ConfigError(f"the training '{run.recipe.train}' is done by one process, step by step; start one")
    run.stop, state = _stop(run, span), resume.state
    _check_from(state, run.start, run.stop)
    labels = (*rng_label, "start", run.start, *(() if state is None else ("from", state.step)))
    with current(where.device), deterministic(where.device), Randomness(run.device, labels), torch.enable_grad():
        return carry_out(run, state)


def _stop(run: TrainingRun | OwnTraining, span: Span) -> int:
    stop = run.total if span.stop is None else span.stop
    if not run.start <= stop <= run.total:
        raise ConfigError(
            f"training from step {run.start} to step {stop} is not possible in a recipe of {run.total} steps "
            f"({run.recipe.epochs} epochs of {run.steps_in_epoch}); choose 0 <= start <= stop <= {run.total}"
        )
    return stop


def _beginning(run: TrainingRun, resume: Resume, stop: int) -> TrainState | None:
    """Return the state to go on from, if any; with a checkpoint, it is written from here on."""
    state, start = resume.state, run.start
    if resume.checkpoint is not None:
        path, name = Path(resume.checkpoint), fingerprint(run)
        if run.ranks.first:
            state = later_state(state, read_or_discard(run, path, name, resume.on_checkpoint_discarded), stop)
        run.add_callbacks([Checkpoints(path, name, resume.seconds)])
    _check_from(state, start, stop)
    return state


def _check_from(state: TrainState | None, start: int, stop: int) -> None:
    """Refuse a state that a run from `start` to `stop` cannot go on from."""
    if state is not None and not (state.start == start <= state.step <= stop):
        raise ConfigError(
            f"a state at step {state.step} of a run from step {state.start} cannot be continued to step {stop} of a "
            f"run from step {start}; give the state of this run, from before step {stop}"
        )
