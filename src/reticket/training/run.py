"""A training run at a step: a copy of the model on its device, brought forward one epoch after another."""

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from reticket.data import Dataset
from reticket.errors import ConfigError, TrainingError
from reticket.training.batches import Batches
from reticket.training.chain import loss_and_gradient
from reticket.training.flat import FlatParameters
from reticket.training.recipe import Recipe, learning_rate
from reticket.training.state import EpochRecord, TrainResult, TrainState


class Run:
    """A run at a step; its model is a copy.

    Args:
        model, dataset, recipe, order, mask, start: as `train` takes them.
        device: where the copy, the data and all work are.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        recipe: Recipe,
        order: tuple[str | int, ...],
        mask: Mapping[str, Tensor] | None,
        start: int,
        device: torch.device,
    ) -> None:
        channels_last = any(p.dim() == 4 for p in model.parameters())
        self.model = copy.deepcopy(model).to(device).train()
        self.flat = FlatParameters(self.model, mask, channels_last=channels_last)
        self.add_gradient = loss_and_gradient(self.model)
        self.batches = Batches(
            dataset,
            recipe.batch_size,
            order,
            augment=recipe.augment,
            dtype=self.flat.dtype,
            device=device,
            channels_last=channels_last,
        )
        self.recipe, self.start, self.step = recipe, start, start
        self.total = recipe.epochs * self.batches.steps
        self.losses: list[Tensor] = []
        self.history: list[EpochRecord] = []
        self.begun, self.earlier = time.monotonic(), 0.0

    def go(self, stop: int, tick: Callable[[], None] = lambda: None) -> None:
        """Train up to a step.

        Args:
            stop: the step.
            tick: called after each step but an epoch's last, and after each epoch.

        Raises:
            TrainingError: when a loss or a weight is not finite; seen at the end of an epoch.
        """
        per_epoch = self.batches.steps
        while self.step < stop:
            epoch = self.step // per_epoch
            self._steps(epoch, min(stop, (epoch + 1) * per_epoch), tick)
            mean = self.mean_loss()
            if self.step == (epoch + 1) * per_epoch:
                self.history.append(EpochRecord(epoch, self.step, mean, self.lr(self.step - 1)))
                self.losses = []
            tick()

    def _steps(self, epoch: int, last: int, tick: Callable[[], None]) -> None:
        """Do the steps of one epoch up to `last`; the host reads nothing from the device."""
        recipe, flat, add_gradient = self.recipe, self.flat, self.add_gradient
        for x, y in self.batches.epoch(epoch, skip=self.step - epoch * self.batches.steps):
            flat.before_backward(recipe.momentum, recipe.weight_decay)
            self.losses.append(add_gradient(x, y))
            flat.after_backward(self.lr(self.step))
            self.step += 1
            if self.step == last:
                break
            tick()

    def lr(self, step: int) -> float:
        """Return the learning rate of a step."""
        return learning_rate(self.recipe, step, self.start, self.batches.steps)

    def mean_loss(self) -> float:
        """Return the mean loss of the epoch so far; the only place where the host waits for the device.

        Raises:
            TrainingError: when a loss or a weight is not finite.
        """
        losses = torch.stack(self.losses).double().cpu()
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad) or not bool(torch.isfinite(self.flat.weights.sum())):
            step = self.step - len(losses) + int(bad[0]) if len(bad) else self.step - 1
            what = f"the loss is {losses[bad[0]]:g}" if len(bad) else "a weight is not finite"
            raise TrainingError(
                f"{what} at step {step} (epoch {step // self.batches.steps}, lr {self.lr(step):.3g}): training "
                f"diverged; lower lr or add warmup_epochs"
            )
        return float(losses.mean())

    @property
    def seconds(self) -> float:
        """Time spent on the run, before a resumption included."""
        return self.earlier + time.monotonic() - self.begun

    def state(self) -> TrainState:
        """Return a copy of everything that decides the rest."""
        rng = {"cpu": torch.get_rng_state()}
        if self.flat.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.flat.device)
        losses = torch.stack(self.losses) if self.losses else torch.zeros(0, dtype=self.flat.dtype)
        return TrainState(
            weights={name: _copy(tensor) for name, tensor in self.model.state_dict().items()},
            momentum={name: _copy(view) for name, view in self.flat.views(self.flat.velocity).items()},
            rng=rng,
            epoch_losses=losses.cpu(),
            step=self.step,
            start=self.start,
            history=tuple(self.history),
            seconds=self.seconds,
        )

    def load(self, state: TrainState) -> None:
        """Go to a state."""
        velocity = self.flat.views(self.flat.velocity)
        for seen, own in ((state.weights, self.model.state_dict()), (state.momentum, velocity)):
            shapes = [{name: tuple(t.shape) for name, t in tensors.items()} for tensors in (seen, own)]
            if shapes[0] != shapes[1]:
                odd = next(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
                raise ConfigError(
                    f"the state's tensors do not fit this model ('{odd}' has shape {shapes[0].get(odd)} there and "
                    f"{shapes[1].get(odd)} here); continue with the model that it came from"
                )
        self.model.load_state_dict(dict(state.weights))
        for name, view in velocity.items():
            view.copy_(state.momentum[name])
        torch.set_rng_state(state.rng["cpu"])
        if "cuda" in state.rng and self.flat.device.type == "cuda":
            torch.cuda.set_rng_state(state.rng["cuda"], self.flat.device)
        self.losses = list(state.epoch_losses.to(self.flat.device).unbind())
        self.history, self.step, self.earlier = list(state.history), state.step, state.seconds

    def result(self) -> TrainResult:
        """Return where the run is."""
        steps = self.step - self.start
        return TrainResult(self.state(), steps=steps, epochs=steps / self.batches.steps, seconds=self.seconds)

    def fingerprint(self, model: nn.Module, mask: Mapping[str, Tensor] | None) -> str:
        """Return a name for what decides this run, for its checkpoint."""
        data = self.batches.dataset
        digest = hashlib.sha256()
        described = (asdict(self.recipe), self.batches.order, self.start, data.name, data.input_shape, data.classes)
        digest.update(json.dumps(described).encode())
        for tensor in (*model.state_dict().values(), *(mask or {}).values(), data.train_y):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
