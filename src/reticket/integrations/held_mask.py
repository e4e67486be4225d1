"""A mask that is held while somebody else's loop runs: from where training begins to where it ends."""

from collections.abc import Iterable
from contextlib import ExitStack

from torch import nn
from torch.optim import Optimizer

from reticket.tickets import Mask, sparse


class HeldMask:
    """Enters `sparse` when a loop begins and leaves it when it ends, where no `with` statement can stand around it.

    Args:
        mask: which weights are kept.
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._held = ExitStack()

    def hold(self, model: nn.Module, optimizers: Optimizer | Iterable[Optimizer]) -> None:
        """Hold the mask from now on; one that is held already is let go first.

        Args:
            model: what is trained, in its wrappers.
            optimizers: what moves it.
        """
        self.release()
        self._held.enter_context(sparse(model, self.mask, optimizers))

    def release(self) -> None:
        """Let go of the model; its masked weights stay 0."""
        self._held.close()
