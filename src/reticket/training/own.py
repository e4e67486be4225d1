"""A training that is the user's own function: what it is given, what it gives back, and what is seen to."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reticket.copied import private_copy
from reticket.data import DataSource
from reticket.errors import ConfigError, MaskError, TrainingError
from reticket.lookup import imported
from reticket.ranks import ALONE
from reticket.training.batches import batches_by
from reticket.training.recipe import Recipe
from reticket.training.run import Callback, Observer
from reticket.training.state import EpochRecord, TrainResult, TrainState
from reticket.training.watched import WatchedRun


class OwnTraining(WatchedRun):
    """What a function named as `Recipe(train="package.module:function")` is called with, its only argument.

    The function brings `model` from the step `step` to the step `stop` and returns its weights, a `state_dict`; or
    the weights and a mapping of tensors that it wants to find in `state` when the run goes on from there, as an
    optimiser's moments. Masked weights must be exactly 0 in what it returns: `reticket.sparse` holds them. What it
    draws from torch's global generators is decided by the run, as everything here; so the same run gives the same bits
    if the function lets nothing else decide. It is called with gradients on and in one process. A run that is killed
    starts the call over: the function may be called more than once.

    Attributes:
        model: a copy for the function to train, on `device`, in train mode, its masked weights 0.
        dataset: the data.
        recipe: the recipe; what of it is used is the function's business, `batches` and `lr` go by it.
        mask: for some parameters which weights are kept (True), on `device`; empty where all are.
        start: step of the recipe at which the run began, 0 for one from the initialisation.
        step: the last step that is done.
        stop: the step to bring the model to.
        state: what an earlier call returned besides the weights of `step`.
        device: where to compute.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: DataSource,
        recipe: Recipe,
        rng_label: tuple[str | int, ...],
        mask: Mapping[str, Bool[Tensor, "..."]],
        *,
        start: int,
        device: torch.device,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.original, self.dataset, self.recipe, self.device = model, dataset, recipe, device
        self.model = private_copy(model).to(device).train()
        self.mask = {name: kept.to(device) for name, kept in mask.items()}
        _clear(dict(self.model.named_parameters(remove_duplicate=False)), self.mask)
        self.start = self.step = start
        self.state: Mapping[str, Tensor] = {}
        dtype = next(self.model.parameters()).dtype
        self._batches = batches_by(recipe, dataset, rng_label, dtype=dtype, device=device)
        self.steps_in_epoch = self._batches.steps
        self.stop = self.total = recipe.epochs * self.steps_in_epoch
        self.history: list[EpochRecord] = []
        self.ranks, self.callbacks = ALONE, _observers(callbacks, recipe)
        self._losses: list[float] = []

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batch of each step from `step` to `stop` as (normalised inputs, labels), in the run's own order."""
        done = self.step
        while done < self.stop:
            epoch, number = divmod(done, self.steps_in_epoch)
            for batch in self._batches.epoch(epoch, skip=number):
                if done == self.stop:
                    return
                done += 1
                yield batch

    def report(self, loss: float | Tensor) -> None:
        """Say that a step is done: progress and loggers hear of it, and `step` counts it.

        Args:
            loss: of the step, in nats.
        """
        self.step += 1
        self._losses.append(float(loss.detach() if isinstance(loss, Tensor) else loss))
        if self.step % self.steps_in_epoch == 0:
            mean, epoch = sum(self._losses) / len(self._losses), self.step // self.steps_in_epoch - 1
            self.history.append(EpochRecord(epoch, self.step, mean, self.lr(self.step - 1)))
            self._losses = []
            for callback in self.callbacks:
                callback.after_epoch(self)
        for callback in self.callbacks:
            callback.after_step(self)

    def last_loss(self) -> float:
        """Return the loss of the last step in nats."""
        return self._losses[-1] if self._losses else self.history[-1].loss


def carry_out(run: OwnTraining, resumed: TrainState | None) -> TrainResult:
    """Call the user's function for a run and return what came of it.

    Args:
        run: at its beginning, with the step to stop at.
        resumed: what an earlier call came to, to go on from.

    Raises:
        ConfigError: when there is no such function.
        TrainingError: when what it returns are no weights of this model, or masked ones are not 0.
    """
    assert run.recipe.train is not None
    function, begun = imported(run.recipe.train, "training", ConfigError), time.monotonic()
    if resumed is not None:
        run.model.load_state_dict(dict(resumed.weights))
        run.step, run.state, run.history = resumed.step, resumed.optimizer, list(resumed.history)
    for callback in run.callbacks:
        callback.on_start(run)
    found = function(run) if run.step < run.stop else run.model.state_dict()
    weights, state = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    weights = _checked(weights, run)
    run.step = run.stop
    for callback in run.callbacks:
        callback.on_end(run)
    ended = TrainState(
        weights=weights,
        momentum={},
        rng={},
        epoch_losses=torch.zeros(0),
        step=run.stop,
        start=run.start,
        history=tuple(run.history),
        seconds=(resumed.seconds if resumed else 0.0) + time.monotonic() - begun,
        mask={name: kept.cpu() for name, kept in run.mask.items()},
        optimizer={name: tensor.detach().cpu().clone() for name, tensor in state.items()},
    )
    steps = run.stop - run.start
    return TrainResult(ended, steps=steps, epochs=steps / run.steps_in_epoch, seconds=ended.seconds)


def _checked(weights: Any, run: OwnTraining) -> dict[str, Tensor]:
    """Return what the user's function gave as weights on the CPU, if they are a `state_dict` of the model."""
    who, own = f"the training '{run.recipe.train}'", run.original.state_dict()
    if not isinstance(weights, Mapping):
        raise TrainingError(f"{who} returned a {type(weights).__name__}, but a state_dict was expected")
    for name in {**own, **weights}:
        seen, wanted = (tuple(t[name].shape) if name in t else "no tensor" for t in (weights, own))
        if seen != wanted:
            raise TrainingError(
                f"{who} returned {seen} for '{name}', but the model has {wanted}; return its state_dict"
            )
    for name, kept in run.mask.items():
        if bool(weights[name].detach()[~kept].any()):
            raise TrainingError(
                f"{who} returned weights of '{name}' that the mask sets to 0; hold the mask with reticket.sparse"
            )
    return {name: weights[name].detach().cpu().clone() for name in own}


def _observers(callbacks: Sequence[Callback], recipe: Recipe) -> list[Observer]:
    """Return the callbacks, if they are of the kind that a training of the user's own can call."""
    found = [callback for callback in callbacks if isinstance(callback, Observer)]
    if len(found) < len(callbacks):
        odd = next(type(callback).__name__ for callback in callbacks if not isinstance(callback, Observer))
        raise ConfigError(
            f"the callback {odd} may change the run, which the training '{recipe.train}' does by itself; make it a "
            f"reticket.training.Observer, which looks alone, or leave it out"
        )
    return found


def _clear(parameters: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> None:
    """Set masked weights to 0."""
    for name, kept in mask.items():
        if name not in parameters or parameters[name].shape != kept.shape:
            raise MaskError(f"the mask of '{name}' fits no parameter of this model; use the mask of this model")
        parameters[name].data.masked_fill_(~kept, 0)
