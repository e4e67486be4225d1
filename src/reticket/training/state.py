"""The values of a training run: where it is, how it went, and a file that holds it all without pickles."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reticket.errors import TrainingError
from reticket.files import read_bytes, replace_file

FORMAT = "reticket-train-state-1"
FILE_FORMAT = "reticket-checkpoint-2"  # 1 had no checksum
PARTS = ("weights", "momentum", "rng", "mask", "optimizer", "average")  # of a state, each some named tensors
BLANK = b'"sha256":"' + b"0" * 64 + b'"'  # as it stands in a file's header; quotes in names and texts are escaped there


@dataclass(frozen=True)
class EpochRecord:
    """How one epoch went.

    Args:
        epoch: 0 is the first.
        step: steps from the initialisation to the epoch's end.
        loss: mean training loss over the epoch's steps of this run, in nats.
        lr: learning rate of the last step.
    """

    epoch: int
    step: int
    loss: float
    lr: float


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Args:
        step: steps done, counted from the initialisation.
        start, stop: steps at which this run began and will end.
        epochs: `step` in epochs.
        loss: mean training loss of the last complete epoch in nats, None before its end.
        lr: learning rate of the last step, None before the first.
        seconds: spent in this call.
    """

    step: int
    start: int
    stop: int
    epochs: float
    loss: float | None
    lr: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainState:
    """Everything that decides the rest of a run: continuing from it gives the bits of a run that never stopped.

    Args:
        weights: the model's `state_dict`, buffers included.
        momentum: what is kept of the gradient's vector for each trainable parameter: SGD's velocity.
        rng: state of torch's generators ("cpu", "cuda"), which dropout draws from.
        epoch_losses: losses of the steps done in an epoch that is not complete, in nats.
        step: steps done, counted from the initialisation.
        start: step at which the run began.
        history: the complete epochs.
        seconds: spent on the run so far.
        mask: for some parameters which weights are kept (True) from here on; empty for a run without a mask.
        optimizer: the state of an optimiser that has more than `momentum`, see `Optimiser.state`.
        average: the moving average of weights and buffers; empty where none is kept.
    """

    weights: Mapping[str, Tensor]
    momentum: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    epoch_losses: Float[Tensor, " steps"]
    step: int
    start: int
    history: tuple[EpochRecord, ...] = ()
    seconds: float = 0.0
    mask: Mapping[str, Tensor] = field(default_factory=dict)
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under one flat set of names, to be stored with `metadata`."""
        parts = {part: getattr(self, part) for part in PARTS}
        named = {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        return {**named, "epoch_losses": self.epoch_losses}

    def metadata(self) -> dict[str, Any]:
        """Return all that is no tensor, JSON-able."""
        history = [asdict(record) for record in self.history]
        return {"format": FORMAT, "step": self.step, "start": self.start, "seconds": self.seconds, "history": history}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> "TrainState":
        """Return the state that `tensors` and `metadata` were taken from.

        Args:
            tensors: what `tensors()` gave.
            metadata: what was written beside them.

        Raises:
            TrainingError: when something is missing or of another format.
        """
        try:
            if metadata["format"] != FORMAT:
                raise TrainingError(f"a training state of format '{metadata['format']}' was found, expected '{FORMAT}'")
            parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
            for key, tensor in tensors.items():
                part, _, name = key.partition("/")
                if name:
                    parts[part][name] = tensor
            return cls(
                **parts,
                epoch_losses=tensors["epoch_losses"],
                step=metadata["step"],
                start=metadata["start"],
                history=tuple(EpochRecord(**record) for record in metadata["history"]),
                seconds=metadata["seconds"],
            )
        except (KeyError, TypeError) as reason:
            raise TrainingError(
                f"a stored training state is incomplete ({reason!r}); delete it to start over"
            ) from reason


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The end of a run, or of the part up to `stop`.

    Args:
        state: to continue from, or to store.
        steps: steps of the run from its start to here, those before a resumption included.
        epochs: `steps` in passes over the training data (model-epochs, the unit of cost).
        seconds: spent on them, those before a resumption included.
    """

    state: TrainState
    steps: int
    epochs: float
    seconds: float

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The model's `state_dict` at the end, on the CPU."""
        return self.state.weights

    @property
    def mask(self) -> Mapping[str, Bool[Tensor, "..."]]:
        """The mask at the end, by parameter, on the CPU; empty where there is none."""
        return self.state.mask

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """The complete epochs."""
        return self.state.history


def check_sound(state: TrainState) -> None:
    """Refuse a state that no run can have had, however whole its file is.

    Raises:
        TrainingError: when a velocity or a mask is of another shape than its weight, a trained weight or a loss is not
            finite, a masked weight is not 0, or a count is none.
    """
    for name, velocity in state.momentum.items():
        weight = state.weights.get(name)
        if weight is None or weight.shape != velocity.shape:
            seen = "there is no such weight" if weight is None else f"its weight has shape {tuple(weight.shape)}"
            raise TrainingError(f"the velocity of '{name}' has shape {tuple(velocity.shape)}, but {seen}")
        if not bool(torch.isfinite(weight).all() and torch.isfinite(velocity).all()):
            raise TrainingError(f"'{name}' holds values that are not finite")
    for name, tensor in state.optimizer.items():
        if not bool(torch.isfinite(tensor).all()):
            raise TrainingError(f"the optimiser's '{name}' holds values that are not finite")
    for name, kept in state.mask.items():
        weight = state.weights.get(name)
        if weight is None or kept.dtype != torch.bool or kept.shape != weight.shape or bool(weight[~kept].any()):
            raise TrainingError(f"the mask of '{name}' is not the one that its weight was held by")
    if state.epoch_losses.dim() != 1 or not bool(torch.isfinite(state.epoch_losses).all()):
        raise TrainingError("its losses are not finite numbers, one a step")
    if any(rng.dtype != torch.uint8 or rng.dim() != 1 for rng in state.rng.values()):
        raise TrainingError("its generators' states are not rows of bytes")
    counts = (state.start, state.step)
    if any(type(count) is not int for count in counts) or not 0 <= state.start <= state.step:
        raise TrainingError(f"it says that it is at step {state.step} of a run from step {state.start}")
    if not (isinstance(state.seconds, int | float) and math.isfinite(state.seconds)):
        raise TrainingError(f"it says that {state.seconds} seconds were spent")


def write_checkpoint(path: Path, state: TrainState, run: str) -> None:
    """Write a state, with a checksum of every byte, to a file that is either the old or the new one at every moment.

    Args:
        path: of the file; its folder is made.
        state: what to write.
        run: names the run it belongs to.

    Raises:
        OSError: when there is no room, or the folder cannot be written; nothing half-written is left.
    """
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FILE_FORMAT, "run": run, "state": json.dumps(state.metadata()), "sha256": "0" * 64}
    data = _with_digest(save(state.tensors(), metadata=metadata))
    replace_file(path, data, durable=True)


def read_checkpoint(path: Path, run: str) -> TrainState | None:
    """Return the state in a checkpoint file, or None when there is no file.

    Raises:
        TrainingError: when the file is damaged, of an earlier format or of another run.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.exists():
        return None
    try:
        data = read_bytes(path)
        metadata = _metadata(data)
        if metadata.get("format") != FILE_FORMAT:
            raise ValueError("it is of an earlier format, without a checksum")
        if hashlib.sha256(_blank(data, metadata["sha256"])).hexdigest() != metadata["sha256"]:
            raise ValueError("it does not match its checksum")
        seen, described = metadata["run"], json.loads(metadata["state"])
        if seen == run:
            state = TrainState.from_tensors(load(data), described)
            check_sound(state)
            return state
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as reason:
        raise TrainingError(f"checkpoint '{path}' is damaged ({reason}); delete it to start this run over") from reason
    except TrainingError as reason:
        said = str(reason).partition(";")[0]
        raise TrainingError(f"checkpoint '{path}' cannot be used ({said}); delete it to start this run over") from None
    raise TrainingError(
        f"checkpoint '{path}' belongs to another run (recipe, data, order, mask or initial weights differ); delete "
        f"it or name another file"
    )


def _metadata(data: bytes) -> dict[str, str]:
    """Return what safetensors keeps besides tensors."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data) - 8:
        raise ValueError("its header is cut short")
    found = json.loads(data[8 : 8 + size])["__metadata__"]
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("its header is another")
    return found


def _with_digest(data: bytes) -> bytes:
    at = data.index(BLANK)
    digest = hashlib.sha256(data).hexdigest().encode()
    return data[:at] + BLANK.replace(b"0" * 64, digest) + data[at + len(BLANK) :]


def _blank(data: bytes, digest: str) -> bytes:
    """Return the file as it was when its digest was taken."""
    return data.replace(BLANK.replace(b"0" * 64, digest.encode()), BLANK, 1)
