"""A callback for the Trainer of transformers that keeps masked weights exactly 0."""

from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from reticket.errors import InputError
from reticket.integrations.held_mask import HeldMask
from reticket.tickets import Mask

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as reason:
    raise InputError(
        "reticket.integrations.hugging_face needs the package transformers; install it with pip install transformers"
    ) from reason

FILE = "mask.safetensors"


class SparseTraining(TrainerCallback):
    """Holds a mask from the first to the last step of `Trainer.train`.

    Every checkpoint folder has the mask in it, as `mask.safetensors`: `Mask.load` reads it, to go on from there.

    Args:
        mask: which weights are kept, by the names of the model's parameters.

    Raises:
        MaskError: when training begins, if the mask fits no such parameters.
    """

    def __init__(self, mask: Mask) -> None:
        self._held = HeldMask(mask)

    @property
    def mask(self) -> Mask:
        """The mask that is held."""
        return self._held.mask

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Hold the mask; what a checkpoint had for the optimizer is loaded by now."""
        model, optimizer = given["model"], given["optimizer"]
        assert isinstance(model, nn.Module)
        assert isinstance(optimizer, Optimizer)
        self._held.hold(model, optimizer)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let go of the model."""
        self._held.release()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the mask into the checkpoint that was just written."""
        if state.is_world_process_zero:
            self.mask.save(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / FILE)
