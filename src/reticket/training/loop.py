"""The training loop: a copy of the model in, weights and state out; the caller's model is not touched."""

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reticket.data import Dataset
from reticket.errors import ConfigError, TrainingError
from reticket.rng import seed_for
from reticket.training.batches import Batches
from reticket.training.chain import loss_and_gradient
from reticket.training.flat import FlatParameters
from reticket.training.recipe import Recipe, learning_rate
from reticket.training.state import (
    EpochRecord,
    Progress,
    TrainResult,
    TrainState,
    read_checkpoint,
    write_checkpoint,
)

PROGRESS_SECONDS = 0.5
CHECKPOINT_SECONDS = 30.0


def train(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    order: tuple[str | int, ...],
    mask: Mapping[str, Bool[Tensor, "..."]] | None = None,
    start: int = 0,
    stop: int | None = None,
    state: TrainState | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    progress: Callable[[Progress], None] | None = None,
    device: str | torch.device = "cpu",
) -> TrainResult:
    """Train a copy of a model by SGD on the cross entropy; the model itself stays as it is.

    Everything is decided by the arguments: the order of the data and the augmentation by `order` and the epoch, dropout
    by `order`. So a run that is stopped and continued, by `state` or by `checkpoint`, gives the bits of one that
    never stopped, on the same device with the same number of threads. torch's global generator is left as it was.
    CUDA devices keep the data and all work on the device; that path is covered by no test here.

    Args:
        model: its weights and buffers are the beginning; trained in its own floating-point type.
        dataset: the training data.
        recipe: length, batch size, SGD's constants, schedule.
        order: labels that decide data order, augmentation and dropout, for instance `("A", 0, "dense")`.
        mask: for some parameters which weights are kept (True); the others are exactly 0 at every step.
        start: step k that the initial weights belong to: data order begins there, the schedule spans the rest.
        stop: step at which to stop (a snapshot); the end of the recipe without it.
        state: of an earlier call with the same arguments and an earlier `stop`, to continue from.
        checkpoint: file to resume from when it exists, written every `checkpoint_seconds`; in a run that takes
            less time none is written.
        checkpoint_seconds: between two checkpoints.
        progress: called at most every half second, and at the end.
        device: where to compute.

    Returns:
        The weights and state after step `stop`.

    Raises:
        ConfigError: when `start` or `stop` is outside the recipe, or `state` is not of this run.
        MaskError: when the mask does not fit the model.
        TrainingError: when the loss is not finite, or the checkpoint is damaged or of another run.
    """
    run = _Run(model, dataset, recipe, order, mask, start, torch.device(device))
    stop = run.total if stop is None else stop
    if not 0 <= start <= stop <= run.total:
        raise ConfigError(
            f"training from step {start} to step {stop} is not possible in a recipe of {run.total} steps "
            f"({recipe.epochs} epochs of {run.batches.steps}); choose 0 <= start <= stop <= {run.total}"
        )
    name = run.fingerprint(model, mask) if checkpoint is not None else ""
    found = read_checkpoint(checkpoint, name) if checkpoint is not None else None
    if found is not None and found.step <= stop and (state is None or found.step > state.step):
        state = found
    if state is not None and not (state.start == start <= state.step <= stop):
        raise ConfigError(
            f"a state at step {state.step} of a run from step {state.start} cannot be continued to step {stop} of a "
            f"run from step {start}; give the state of this run, from before step {stop}"
        )
    save = None if checkpoint is None else (lambda at: write_checkpoint(checkpoint, at, name))
    cuda = [run.flat.device] if run.flat.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed_for(*order, "start", start))
        if cuda:
            torch.cuda.manual_seed(seed_for(*order, "start", start, "cuda"))
        if state is not None:
            run.load(state)
        run.go(stop, _Clock(run, stop, save, checkpoint_seconds, progress))
        return run.result()


class _Run:
    """A run at a step; its model is a copy."""

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

    def go(self, stop: int, clock: "_Clock") -> None:
        """Train up to a step."""
        recipe, flat, add_gradient = self.recipe, self.flat, loss_and_gradient(self.model)
        per_epoch = self.batches.steps
        while self.step < stop:
            epoch, within = divmod(self.step, per_epoch)
            last = min(stop, (epoch + 1) * per_epoch)
            for x, y in self.batches.epoch(epoch, skip=within):
                flat.before_backward(recipe.momentum, recipe.weight_decay)
                self.losses.append(add_gradient(x, y))
                flat.after_backward(self.lr(self.step))
                self.step += 1
                if self.step == last:
                    break
                clock.tick()
            mean = self.mean_loss()
            if self.step == (epoch + 1) * per_epoch:
                self.history.append(EpochRecord(epoch, self.step, mean, self.lr(self.step - 1)))
                self.losses = []
            clock.tick()
        clock.finish()

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


class _Clock:
    """Decides when a checkpoint is written and progress is told."""

    def __init__(
        self,
        run: _Run,
        stop: int,
        save: Callable[[TrainState], None] | None,
        save_seconds: float,
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self.run, self.stop, self.save, self.tell = run, stop, save, tell
        now = time.monotonic()
        self.begun, self.save_seconds, self.saved = now, save_seconds, False
        self.next_save = now + save_seconds if save else float("inf")
        self.next_tell = now + PROGRESS_SECONDS if tell else float("inf")

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now >= self.next_tell:
            self._tell(now)
            self.next_tell = now + PROGRESS_SECONDS
        if now >= self.next_save:
            self._save()
            self.next_save = time.monotonic() + self.save_seconds

    def finish(self) -> None:
        """Do what belongs to the end."""
        self._tell(time.monotonic())
        if self.saved:
            self._save()

    def _tell(self, now: float) -> None:
        run = self.run
        if self.tell is not None:
            loss = run.mean_loss() if run.losses else run.history[-1].loss if run.history else None
            lr = run.lr(run.step - 1) if run.step > run.start else None
            epochs = run.step / run.batches.steps
            self.tell(Progress(run.step, run.start, self.stop, epochs, loss, lr, now - self.begun))

    def _save(self) -> None:
        if self.save is not None:
            if self.run.losses:
                self.run.mean_loss()  # a diverged state is not worth keeping
            self.save(self.run.state())
            self.saved = True


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
