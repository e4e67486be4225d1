"""A training run at a step: a copy of the model on its device, brought forward one epoch after another."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from reticket.copied import private_copy
from reticket.data import DataSource
from reticket.errors import ConfigError, TrainingError
from reticket.ranks import ALONE, Ranks
from reticket.rng import global_state, seed_for
from reticket.training.batches import Batches, sent, training_batches
from reticket.training.chain import loss_and_gradient
from reticket.training.flat import FlatParameters
from reticket.training.graphs import RecordedSteps, Recorder, RecordingError
from reticket.training.randomness import Randomness
from reticket.training.recipe import Recipe, learning_rate
from reticket.training.state import EpochRecord, TrainResult, TrainState
from reticket.training.synchronised import synchronise


class Run:
    """A run at a step; its model is a copy.

    Args:
        model, dataset, recipe, order, mask, start: as `train` takes them.
        device: where the copy, the data and all work are.
        ranks: the processes that train this model together, each of which makes such a run.
        record: records a step, to be done again by one call (see `RecordedSteps`); None for doing it operation by
            operation. Not for several processes, nor for data that are streamed.
        give_up: is told why a step cannot be recorded, and the run goes on without; None for an error.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: DataSource,
        recipe: Recipe,
        order: tuple[str | int, ...],
        mask: Mapping[str, Tensor] | None,
        start: int,
        device: torch.device,
        ranks: Ranks = ALONE,
        record: Recorder | None = None,
        give_up: Callable[[str], None] | None = None,
    ) -> None:
        channels_last = any(p.dim() == 4 for p in model.parameters())
        self.model, self.ranks = private_copy(model).to(device).train(), ranks
        if not ranks.alone:
            self.model = synchronise(self.model, ranks)
        self.flat = FlatParameters(self.model, mask, channels_last=channels_last)
        self.add_gradient = loss_and_gradient(self.model, autocast=recipe.precision == "bfloat16")
        self.batches = training_batches(
            dataset,
            recipe.batch_size,
            order,
            augment=recipe.augment,
            dtype=self.flat.dtype,
            device=device,
            channels_last=channels_last,
            shard=(ranks.rank, ranks.world),
        )
        self.recorded, self.give_up = None, give_up
        if record is not None and isinstance(self.batches, Batches):
            state = (self.flat.weights, self.flat.velocity, *self.model.buffers())
            self.recorded = RecordedSteps(self.batches, self._whole_step, state, record)
        self.randomness: Randomness | None = None  # the global generators as they are, when None
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
            self.steps_within_epoch(epoch, min(stop, (epoch + 1) * per_epoch), tick)
            mean = self.mean_loss()
            if self.randomness is not None:
                self.randomness.check()
            if self.step == (epoch + 1) * per_epoch:
                self.history.append(EpochRecord(epoch, self.step, mean, self.lr(self.step - 1)))
                self.losses = []
            tick()

    def steps_within_epoch(self, epoch: int, last: int, tick: Callable[[], None]) -> None:
        """Do the steps of one epoch up to `last`; the host reads nothing from the device.

        Of several processes each adds the gradient of its part of the batch; only the first brings what the step needs
        besides (momentum, weight decay), so that the sum of their velocities is that of one process.
        """
        if self.recorded is not None:
            try:
                self._replay(self.recorded, epoch, last, tick)
                return
            except RecordingError as error:
                if self.give_up is None:
                    raise
                self.give_up(f"{error.args[0].partition(';')[0]}; it is done operation by operation instead")
                self.close()
        self._do(epoch, last, tick)

    def _do(self, epoch: int, last: int, tick: Callable[[], None]) -> None:
        """Do steps operation by operation."""
        recipe, flat, ranks, add_gradient = self.recipe, self.flat, self.ranks, self.add_gradient
        batches, first = self.batches, epoch * self.batches.steps
        rates = self._rates(epoch)
        for x, y in batches.epoch(epoch, skip=self.step - first):
            unsettled = self._settling()
            if ranks.first:
                flat.before_backward(recipe.momentum, recipe.weight_decay)
            else:
                flat.velocity.zero_()
            n = min(recipe.batch_size, batches.n - (self.step - first) * recipe.batch_size)
            self.losses.append(add_gradient(x, y, n))
            ranks.sum_(flat.velocity)
            flat.after_backward(rates[self.step - first])
            del x, y  # else they would be there until the next batch is made
            if unsettled is not None:
                unsettled.after_step()
            self.step += 1
            if self.step == last:
                break
            tick()

    def _replay(self, recorded: RecordedSteps, epoch: int, last: int, tick: Callable[[], None]) -> None:
        """Do steps by replaying them."""
        first, sizes = epoch * self.batches.steps, [len(places) for places in self.batches.places(0)]
        recorded.begin(epoch, self.step - first, self._rates_of(epoch))
        while self.step < last:
            unsettled = self._settling()
            self.losses.append(recorded(sizes[self.step - first], self.step - first))
            if unsettled is not None:
                unsettled.after_step()
            self.step += 1
            if self.step < last:
                tick()

    def _settling(self) -> Randomness | None:
        """Return the run's randomness, before its first step alone."""
        if self.randomness is None or self.randomness.settled:
            return None
        self.randomness.before_step()
        return self.randomness

    def _whole_step(self, x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        self.flat.before_backward(self.recipe.momentum, self.recipe.weight_decay)
        loss = self.add_gradient(x, y, len(y))
        self.flat.after_backward(lr)
        return loss

    def _rates_of(self, epoch: int) -> list[float]:
        first = epoch * self.batches.steps
        return [self.lr(max(step, self.start)) for step in range(first, first + self.batches.steps)]

    def _rates(self, epoch: int) -> Sequence[float | Tensor]:
        """Return the learning rates of an epoch; on a GPU as tensors there, which gives the bits of a recording."""
        rates = self._rates_of(epoch)
        if self.flat.device.type != "cuda":
            return rates
        return sent(torch.tensor(rates, dtype=self.flat.dtype, device="cpu"), self.flat.device).unbind()

    def lr(self, step: int) -> float:
        """Return the learning rate of a step."""
        return learning_rate(self.recipe, step, self.start, self.batches.steps)

    def mean_loss(self) -> float:
        """Return the mean loss of the epoch so far; the host waits for the device here, and for a checkpoint.

        Raises:
            TrainingError: when a loss or a weight is not finite.
        """
        losses = self.epoch_losses().double().cpu()
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad) or not bool(torch.isfinite(self.flat.weights.sum())):
            step = self.step - len(losses) + int(bad[0]) if len(bad) else self.step - 1
            what = f"the loss is {losses[bad[0]]:g}" if len(bad) else "a weight is not finite"
            raise TrainingError(
                f"{what} at step {step} (epoch {step // self.batches.steps}, lr {self.lr(step):.3g}): training "
                f"diverged; lower lr or add warmup_epochs"
            )
        return float(losses.mean())

    def epoch_losses(self) -> Tensor:
        """Return the losses of the epoch so far, on the device; all processes take part."""
        losses = torch.stack(self.losses) if self.losses else self.flat.weights.new_zeros(0)
        self.ranks.sum_(losses)
        return losses

    @property
    def seconds(self) -> float:
        """Time spent on the run, before a resumption included."""
        return self.earlier + time.monotonic() - self.begun

    def state(self) -> TrainState:
        """Return a copy of everything that decides the rest; all processes take part and get the same."""
        rng = global_state(self.flat.device) if self.randomness is None else self.randomness.state()
        return TrainState(
            weights={name: _copy(tensor) for name, tensor in self.model.state_dict().items()},
            momentum={name: _copy(view) for name, view in self.flat.views(self.flat.velocity).items()},
            rng={_of(rank, name): t for name, own in rng.items() for rank, t in enumerate(self.ranks.gather(own))},
            epoch_losses=self.epoch_losses().cpu(),
            step=self.step,
            start=self.start,
            history=tuple(self.history),
            seconds=self.seconds,
        )

    def check(self, state: TrainState) -> None:
        """See that a state is one that this run can have been in.

        Raises:
            ConfigError: when its tensors or its counts are not those of this run.
        """
        velocity = self.flat.views(self.flat.velocity)
        for seen, own in ((state.weights, self.model.state_dict()), (state.momentum, velocity)):
            forms = [{name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} for tensors in (seen, own)]
            for name in {**forms[0], **forms[1]}:
                if forms[0].get(name) != forms[1].get(name):
                    there, here = (_form(form.get(name)) for form in forms)
                    raise ConfigError(
                        f"the state's tensors do not fit this model ('{name}' has {there} there and {here} here); "
                        f"continue with the model that it came from"
                    )
        if self._counts(state) != self._counts_at(state.step):
            raise ConfigError(
                f"the state has {len(state.history)} complete epochs and {len(state.epoch_losses)} losses, which is "
                f"not what this run has at step {state.step}; give the state of this run"
            )
        if "cpu" not in state.rng:
            raise ConfigError("the state has no generator 'cpu'; give the state of this run")
        for name, rng in state.rng.items():
            kind = name.partition(":")[0]
            if kind == "cpu" or kind == self.flat.device.type:
                try:
                    torch.Generator(self.flat.device if kind == "cuda" else "cpu").set_state(rng)
                except (RuntimeError, TypeError) as error:
                    first = str(error).splitlines()[0]
                    raise ConfigError(f"the state's generator '{name}' cannot be taken up: {first}") from None

    @staticmethod
    def _counts(state: TrainState) -> tuple[list[tuple[int, int]], int]:
        return [(record.epoch, record.step) for record in state.history], len(state.epoch_losses)

    def _counts_at(self, step: int) -> tuple[list[tuple[int, int]], int]:
        """Return what a state at a step has: epoch and step of every record, and the number of losses since."""
        steps = self.batches.steps
        epochs = range(self.start // steps, step // steps)
        return [(epoch, (epoch + 1) * steps) for epoch in epochs], step - max(self.start, step - step % steps)

    def load(self, state: TrainState) -> None:
        """Go to a state of this run.

        Raises:
            ConfigError: when it is of another one.
        """
        self.check(state)
        self.model.load_state_dict(dict(state.weights))
        for name, view in self.flat.views(self.flat.velocity).items():
            view.copy_(state.momentum[name])
        self._set_randomness(state.rng)
        self.losses = list(state.epoch_losses.to(self.flat.device).unbind())
        self.history, self.step, self.earlier = list(state.history), state.step, state.seconds

    def follow_first(self, state: TrainState | None) -> None:
        """Bring every process to where the first one is; the others need neither its files nor its results.

        Args:
            state: what the first process has loaded; of no meaning in the others.
        """
        said = None
        if state is not None:
            said = state.metadata() | {"rng": {name: bytes(t.tolist()).hex() for name, t in state.rng.items()}}
        said = self.ranks.say(said)
        for tensor in (self.flat.weights, self.flat.velocity, *self.model.buffers()):
            self.ranks.share_(tensor)
        if said is None or self.ranks.first:
            return
        rng = {
            name: torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8, device="cpu")
            for name, text in said["rng"].items()
        }
        self._set_randomness(rng)
        self.history = [EpochRecord(**record) for record in said["history"]]
        self.step, self.earlier = said["step"], said["seconds"]
        # the first process holds the sums
        self.losses = [self.flat.weights.new_zeros(()) for _ in range(self.step % self.batches.steps)]

    def _set_randomness(self, rng: Mapping[str, Tensor]) -> None:
        """Take the generators' states that a process of this rank had; where there was none, a draw of its own."""
        cpu, cuda = (_of(self.ranks.rank, name) for name in ("cpu", "cuda"))
        if cpu not in rng:
            torch.default_generator.manual_seed(seed_for(*self.batches.order, "rank", self.ranks.rank, self.step))
        else:
            torch.set_rng_state(rng[cpu])
        if cuda in rng and self.flat.device.type == "cuda":
            torch.cuda.set_rng_state(rng[cuda], self.flat.device)

    def close(self) -> None:
        """Let go of what was recorded."""
        if self.recorded is not None:
            self.recorded.close()
        self.recorded = None

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
        for tensor in (*model.state_dict().values(), *(mask or {}).values(), data.labels("train")):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _form(form: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "no tensor" if form is None else f"shape {form[0]} of {str(form[1]).removeprefix('torch.')}"


def _of(rank: int, name: str) -> str:
    return f"{name}:{rank}" if rank else name


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
