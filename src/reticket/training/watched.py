"""What of a training run there is to look at, whoever carries it out."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from reticket.data import DataSource
from reticket.ranks import Ranks
from reticket.training.recipe import Recipe, learning_rate
from reticket.training.state import EpochRecord


class WatchedRun(ABC):
    """What of a run there is to look at, this package's or one of the user's own.

    Attributes:
        step, start, stop, total, steps_in_epoch: counts of steps; the first is of those done.
        history: the complete epochs.
        original, model: the caller's model, and the copy that is trained.
        recipe, dataset, device, ranks: what the run is of, and where.
    """

    step: int
    start: int
    stop: int
    total: int
    steps_in_epoch: int
    history: list[EpochRecord]
    original: nn.Module
    model: nn.Module
    recipe: Recipe
    dataset: DataSource
    device: torch.device
    ranks: Ranks

    def lr(self, step: int) -> float:
        """Return the learning rate that the recipe has for a step.

        Args:
            step: the step to be done, counted from the initialisation.
        """
        return learning_rate(self.recipe, step, self.start, self.steps_in_epoch)

    @abstractmethod
    def last_loss(self) -> float:
        """Return the loss of the last step in nats."""
