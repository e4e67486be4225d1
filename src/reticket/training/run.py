"""A training run at a step: a copy of the model on its device, brought forward one epoch after another."""

import time
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reticket.copied import private_copy
from reticket.data import DataSource
from reticket.errors import ConfigError, TrainingError
from reticket.fixed import fixed_entries, refuse_outside
from reticket.objectives import objective_of
from reticket.rng import generator_for
from reticket.training.average import WeightAverage
from reticket.training.batches import Batches, TrainingBatches, batches_by, sent
from reticket.training.chain import loss_and_gradient
from reticket.training.flat import FlatParameters
from reticket.training.graphs import RecordedSteps, Recorder, RecordingError
from reticket.training.norms import NormInterpolation
from reticket.training.optimisers import GrowingOptimiser, Optimiser
from reticket.training.placement import Placement
from reticket.training.randomness import Randomness, undisturbed
from reticket.training.recipe import Recipe
from reticket.training.sign_in import SignIn
from reticket.training.state import EpochRecord
from reticket.training.step import TrainingStep
from reticket.training.synchronised import synchronise
from reticket.training.torch_optimisers import find_optimiser
from reticket.training.watched import WatchedRun


class Callback:
    """Hooks around the steps of a run; each does nothing until a subclass says what.

    A callback may read the run, and change it by `run.set_mask`. What it reads from the device (a loss, a weight)
    makes the host wait for it. A run that was stopped calls the hooks from where it goes on: to give the bits of a run
    that never stopped, a callback that changes the mask decides by the run (its step, weights, mask), not by what it
    remembers. Of several processes each calls its own callbacks, all at the same steps.

    >>> class Losses(Callback):
    ...     def after_epoch(self, run):
    ...         print(f"epoch {run.history[-1].epoch}: {len(run.history)} done at step {run.step}")
    >>> from reticket import Recipe, build_model, load_dataset, train
    >>> data, model = load_dataset("digits", train_size=70), build_model("mlp", hidden=(8,))
    >>> result = train(model, data, Recipe(epochs=2, batch_size=16, lr=0.05), callbacks=[Losses()])
    epoch 0: 1 done at step 5
    epoch 1: 2 done at step 10
    """

    def on_start(self, run: "TrainingRun") -> None:
        """Called before the first step of this call, after a resumption."""

    def after_step(self, run: "TrainingRun") -> None:
        """Called after each step; `run.step` counts it already."""

    def after_epoch(self, run: "TrainingRun") -> None:
        """Called when an epoch is complete and stands in `run.history`, before `after_step` of its last step."""

    def on_end(self, run: "TrainingRun") -> None:
        """Called after the last step of this call."""

    def on_notice(self, text: str) -> None:
        """Called with a sentence that someone should read: a step cannot be recorded, a disk takes no checkpoint."""


class Observer(Callback):
    """Hooks that look at a run and change nothing, so that they go with a training of the user's own too."""

    def on_start(self, run: WatchedRun) -> None:
        """Called before the first step of this call."""

    def after_step(self, run: WatchedRun) -> None:
        """Called after each step."""

    def after_epoch(self, run: WatchedRun) -> None:
        """Called when an epoch is complete."""

    def on_end(self, run: WatchedRun) -> None:
        """Called after the last step of this call."""


SILENT = (Callback.after_step, Observer.after_step)


class TrainingRun(WatchedRun):
    """A run at a step; its model is a copy.

    What callbacks use: `step`, `start`, `stop`, `total` and `steps_in_epoch` (counts of steps), `history` (the complete
    epochs), `model` (the copy, in train mode), `mask`, `set_mask`, `dense_gradient`, `lr`, `last_loss`, `recipe`,
    `dataset`, `device`, `ranks`.

    Args:
        model, dataset, recipe, rng_label, mask, start: as `train` takes them.
        where: where the copy, the data and all work are; of several processes each makes such a run.
        record: records a step, to be done again by one call (see `RecordedSteps`); None for doing it operation by
            operation. Not for several processes, nor for data that are streamed.
        callbacks: what happens around the steps, in this order.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: DataSource,
        recipe: Recipe,
        *,
        rng_label: tuple[str | int, ...],
        mask: Mapping[str, Bool[Tensor, "..."]] | None = None,
        start: int = 0,
        where: Placement | None = None,
        record: Recorder | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        where = where or Placement()
        self.original, self.first_mask = model, dict(mask or {})
        self.dataset, self.recipe, self.where = dataset, recipe, where
        self.device, self.ranks = torch.device(where.device), where.ranks
        channels_last = any(p.dim() == 4 for p in model.parameters())
        self.model = private_copy(model).to(self.device).train()
        if not self.ranks.alone:
            self.model = synchronise(self.model, self.ranks)
        refuse_outside(self.model)
        held = {name: ~values.isnan() for name, values in fixed_entries(self.model).items()}
        self.parameters = FlatParameters(self.model, mask, channels_last=channels_last, held=held)
        self.update = _update_of(self.model, self.parameters, recipe, where)
        self.optimiser, self.average = self.update.optimiser, self.update.average
        self.batches = _batches_of(dataset, recipe, rng_label, self.parameters, where)
        self.recorded = self._recorded_by(record)
        self.randomness: Randomness | None = None  # the global generators as they are, when None
        self.steps_in_epoch = self.batches.steps
        self.total = recipe.epochs * self.steps_in_epoch
        self.start, self.step, self.stop = start, start, self.total
        self.losses: list[Tensor] = []  # of the epoch so far
        self._complete: list[Tensor] = []  # of the epoch before
        self.history: list[EpochRecord] = []
        self.begun, self.earlier = time.monotonic(), 0.0
        self.callbacks: list[Callback] = []
        self.add_callbacks(callbacks)

    def add_callbacks(self, callbacks: Sequence[Callback]) -> None:
        """Let more happen around the steps, after what happens there already."""
        self.callbacks += callbacks
        self._after_step = [c.after_step for c in self.callbacks if type(c).after_step not in SILENT]

    # ---------------------------------------------------------------- going on

    def go(self, stop: int) -> None:
        """Train up to a step.

        Args:
            stop: the step.

        Raises:
            TrainingError: when a loss or a weight is not finite; seen at the end of an epoch.
        """
        self.stop, per_epoch = stop, self.steps_in_epoch
        while self.step < stop:
            epoch = self.step // per_epoch
            self.steps_within_epoch(epoch, min(stop, (epoch + 1) * per_epoch))
            mean = self.mean_loss()
            if self.randomness is not None:
                self.randomness.check()
            if self.step == self.total and self.average is not None:
                self.average.write()
            if self.step == (epoch + 1) * per_epoch:
                self._end_epoch(EpochRecord(epoch, self.step, mean, self.lr(self.step - 1)))
            self._tell_step()

    def steps_within_epoch(self, epoch: int, last: int) -> None:
        """Do the steps of one epoch up to `last`; the host reads nothing from the device.

        Callbacks hear of each step but the last, of which they hear when the epoch's losses have been read.

        Args:
            epoch: its number, from 0.
            last: step to stop at, counted from the initialisation.
        """
        if self.recorded is not None:
            try:
                self._replay(self.recorded, epoch, last)
                return
            except RecordingError as error:
                if self.where.graphs:
                    raise
                self.notify(f"{error.args[0].partition(';')[0]}; it is done operation by operation instead")
                self.close()
        self._do(epoch, last)

    def _do(self, epoch: int, last: int) -> None:
        """Do steps operation by operation."""
        batches, first = self.batches, epoch * self.steps_in_epoch
        rates, shares = self._rates(epoch), self._shares(epoch)
        for x, y in batches.epoch(epoch, skip=self.step - first):
            unsettled = self._settling()
            number = self.step - first
            self.losses.append(self.update(x, y, batches.size(number), rates[number], shares[number]))
            del x, y  # else they would be there until the next batch is made
            if unsettled is not None:
                unsettled.after_step()
            self.step += 1
            if self.step == last:
                break
            self._tell_step()

    def _replay(self, recorded: RecordedSteps, epoch: int, last: int) -> None:
        """Do steps by replaying them."""
        first = epoch * self.steps_in_epoch
        recorded.begin(epoch, self.step - first, self._rates_of(epoch))
        while self.step < last:
            unsettled = self._settling()
            number = self.step - first
            self.losses.append(recorded(self.batches.size(number), number))
            if unsettled is not None:
                unsettled.after_step()
            self.step += 1
            if self.step < last:
                self._tell_step()

    def _settling(self) -> Randomness | None:
        """Return the run's randomness, before its first step alone."""
        if self.randomness is None or self.randomness.settled:
            return None
        self.randomness.before_step()
        return self.randomness

    def _tell_step(self) -> None:
        for after_step in self._after_step:
            after_step(self)

    def _end_epoch(self, record: EpochRecord) -> None:
        self.history.append(record)
        self._complete, self.losses = self.losses, []
        if isinstance(self.optimiser, SignIn):
            self.optimiser.end_epoch(record.epoch)
        for callback in self.callbacks:
            callback.after_epoch(self)

    def notify(self, text: str) -> None:
        """Tell the callbacks a sentence that someone should read."""
        for callback in self.callbacks:
            callback.on_notice(text)

    def close(self) -> None:
        """Let go of what was recorded."""
        if self.recorded is not None:
            self.recorded.close()
        self.recorded = None

    def _recorded_by(self, record: Recorder | None) -> RecordedSteps | None:
        if record is None or not isinstance(self.batches, Batches):
            return None
        if reason := self._unrecordable():
            if self.where.graphs:
                raise ConfigError(f"steps of '{reason}' cannot be recorded; leave graphs off")
            return None
        state = (*self.vectors(), *self.model.buffers())
        return RecordedSteps(self.batches, lambda x, y, lr: self.update(x, y, len(y), lr), state, record)

    def _unrecordable(self) -> str:
        """Return what of the recipe keeps a step from being recorded, if anything."""
        recipe = self.recipe
        if isinstance(self.optimiser, GrowingOptimiser):
            return recipe.optimizer if recipe.parametrization == "plain" else recipe.parametrization
        if isinstance(recipe.augment, str):
            return recipe.augment
        if recipe.interpolate_norms:
            return "interpolate_norms"
        return "" if self.batches.mixing is None else "mixup" if recipe.cutmix is None else "cutmix"

    def vectors(self) -> tuple[Tensor, ...]:
        """Return the tensors that a step changes besides the model's buffers, and that are there from the start."""
        own = () if isinstance(self.optimiser, GrowingOptimiser) else self.optimiser.state.values()
        average = () if self.average is None else self.average.tensors.values()
        return self.parameters.weights, self.parameters.gradient, *own, *average

    # ---------------------------------------------------------------- the mask

    @property
    def mask(self) -> dict[str, Bool[Tensor, "..."]]:
        """The mask as it is now, on the device; empty where there is none."""
        return self.parameters.mask

    def set_mask(self, mask: Mapping[str, Bool[Tensor, "..."]]) -> None:
        """Hold another mask from now on: what it masks becomes 0, what it lets go begins at 0 without velocity.

        Vectors of the optimiser's state are cleared likewise.

        Args:
            mask: the whole mask, by parameter: of one that it does not name everything is kept. Of several processes
                each sets the same one.

        Raises:
            MaskError: when it does not fit the model.
        """
        unmasked = self.parameters.keep is None
        self.parameters.set_mask(mask)
        if isinstance(self.optimiser, GrowingOptimiser):
            self.optimiser.clear_masked_state()
        else:
            for tensor in self.optimiser.state.values():
                if tensor.shape == self.parameters.weights.shape:
                    tensor.masked_fill_(self.parameters.keep == 0, 0)
        if self.average is not None:
            self.average.clear_masked()
        if unmasked and self.recorded is not None:
            self.recorded.close()  # recorded steps know of no mask; they are recorded anew

    def dense_gradient(self) -> dict[str, Float[Tensor, "..."]]:
        """Return the gradient of the loss by parameter, masked weights included; nothing of the run is changed.

        It is that of the mean loss on the batch that the next step takes (after the last one: on the first of another
        epoch), at the weights as they are, without weight decay. Of several processes all call it together.
        """
        epoch, number = divmod(self.step, self.steps_in_epoch)
        x, y = self.batches.batch(epoch, number)
        with undisturbed(self.randomness, self.device):
            return self.update.dense_gradient(x, y, self.batches.size(number))

    # ---------------------------------------------------------------- rates and losses

    def _rates_of(self, epoch: int) -> list[float]:
        first = epoch * self.steps_in_epoch
        return [self.lr(max(step, self.start)) for step in range(first, first + self.steps_in_epoch)]

    def _rates(self, epoch: int) -> Sequence[float | Tensor]:
        """Return the learning rates of an epoch; on a GPU as tensors there, which gives the bits of a recording."""
        rates = self._rates_of(epoch)
        if self.device.type != "cuda" or isinstance(self.optimiser, GrowingOptimiser):
            return rates
        return sent(torch.tensor(rates, dtype=self.parameters.dtype, device="cpu"), self.device).unbind()

    def _shares(self, epoch: int) -> list[float]:
        """Return how far on their way to their beginning normalisation layers stand in each step of an epoch."""
        if not self.recipe.interpolate_norms:
            return [0.0] * self.steps_in_epoch
        generator = generator_for(*self.batches.rng_label, "epoch", epoch, "norms")
        return torch.rand(self.steps_in_epoch, generator=generator, device="cpu").tolist()

    def last_loss(self) -> float:
        """Return the loss of the last step in nats; the host waits for the device, all processes take part."""
        loss = (self.losses or self._complete)[-1].clone()
        self.ranks.all_reduce_(loss)
        return float(loss)

    def mean_loss(self) -> float:
        """Return the mean loss of the epoch so far; the host waits for the device here, and for a checkpoint.

        Raises:
            TrainingError: when a loss or a weight is not finite.
        """
        losses = self.epoch_losses().double().cpu()
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad) or not bool(torch.isfinite(self.parameters.weights.sum())):
            step = self.step - len(losses) + int(bad[0]) if len(bad) else self.step - 1
            what = f"the loss is {losses[bad[0]]:g}" if len(bad) else "a weight is not finite"
            raise TrainingError(
                f"{what} at step {step} (epoch {step // self.steps_in_epoch}, lr {self.lr(step):.3g}): training "
                f"diverged; lower lr or add warmup_epochs"
            )
        return float(losses.mean())

    def epoch_losses(self) -> Float[Tensor, " steps"]:
        """Return the losses of the epoch so far, on the device; all processes take part."""
        losses = torch.stack(self.losses) if self.losses else self.parameters.weights.new_zeros(0)
        self.ranks.all_reduce_(losses)
        return losses

    @property
    def seconds(self) -> float:
        """Time spent on the run, before a resumption included."""
        return self.earlier + time.monotonic() - self.begun


def _batches_of(
    dataset: DataSource, recipe: Recipe, rng_label: tuple[str | int, ...], parameters: FlatParameters, where: Placement
) -> TrainingBatches:
    return batches_by(
        recipe,
        dataset,
        rng_label,
        dtype=parameters.dtype,
        device=torch.device(where.device),
        channels_last=parameters.channels_last,
        shard=(where.ranks.rank, where.ranks.world),
    )


def _update_of(model: nn.Module, parameters: FlatParameters, recipe: Recipe, where: Placement) -> TrainingStep:
    given = {"lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    kind, options = find_optimiser(recipe.optimizer), recipe.parametrization_options

    def build(moved: FlatParameters) -> Optimiser:
        return kind(moved, given, recipe.optimizer_options)

    return TrainingStep(
        model,
        parameters,
        loss_and_gradient(
            model,
            objective_of(recipe.objective),
            autocast=recipe.precision == "bfloat16",
            smoothing=recipe.label_smoothing,
            soft=recipe.mixup is not None or recipe.cutmix is not None,
        ),
        build(parameters) if recipe.parametrization == "plain" else SignIn(parameters, build, **options),
        where.ranks,
        clip_norm=recipe.clip_norm,
        parts=recipe.accumulate,
        average=None if recipe.ema is None else WeightAverage(model, parameters, recipe.ema),
        norms=NormInterpolation(model, parameters) if recipe.interpolate_norms else None,
    )
