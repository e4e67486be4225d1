"""A Lightning callback that keeps masked weights exactly 0."""

from typing import Any

from torch import Tensor

from reticket.errors import InputError
from reticket.integrations.held_mask import HeldMask
from reticket.tickets import Mask

try:
    import lightning.pytorch as pl  # pyright: ignore[reportMissingImports]
except ImportError:
    try:
        import pytorch_lightning as pl  # pyright: ignore[reportMissingImports]
    except ImportError as reason:
        raise InputError(
            "reticket.integrations.lightning needs the package lightning; install it with pip install lightning"
        ) from reason


class SparseTraining(pl.Callback):  # pyright: ignore[reportGeneralTypeIssues]
    """Holds a mask from the first to the last step of `fit`, whatever the module's optimizers and the strategy.

    The mask is in every checkpoint that the trainer writes; one that goes on from it has that mask.

    Args:
        mask: which weights are kept, by the names of the LightningModule's parameters.

    Raises:
        MaskError: when training begins, if the mask fits no such parameters.
    """

    def __init__(self, mask: Mask) -> None:
        self._held = HeldMask(mask)

    @property
    def mask(self) -> Mask:
        """The mask that is held."""
        return self._held.mask

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hold the mask; what a checkpoint had for optimizers is loaded by now."""
        self._held.hold(pl_module, trainer.optimizers)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go of the model."""
        self._held.release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let go of the model."""
        self._held.release()

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into a checkpoint."""
        return {"mask": dict(self.mask)}

    def load_state_dict(self, state_dict: dict[str, dict[str, Tensor]]) -> None:
        """Take the mask of a checkpoint."""
        self._held.mask = Mask(state_dict["mask"])
