"""This package's loop on the same model and data."""

import copy
from functools import cached_property

import torch
from torch import nn

from benchmarks.cases import Case
from reticket.data import Dataset
from reticket.matching import match
from reticket.symmetry import Symmetry, discover
from reticket.training import Placement, Recipe, TrainingRun, evaluate
from reticket.training.evaluation import BATCH

ENDLESS = 100_000  # epochs


class OurLoop:
    """Training, evaluation and matching of one model, as the runners of tasks do them.

    Args:
        case: model and batch size.
        dataset: the data.
        device: where the model and the data are.
    """

    def __init__(self, case: Case, dataset: Dataset, device: str = "cpu") -> None:
        self.case, self.dataset, self.device = case, dataset, device
        recipe = Recipe(epochs=ENDLESS, batch_size=case.batch_size, lr=0.05)
        self.run = TrainingRun(case.build(), dataset, recipe, rng_label=("benchmark",), where=Placement(device))

    def train(self, steps: int) -> int:
        """Do some steps, going on where the last call stopped; return the number of inputs seen."""
        begin = self.run.step
        self.run.go(begin + steps)
        n, per_epoch, size = len(self.dataset.train_y), self.run.steps_in_epoch, self.case.batch_size
        return sum(min(size, n - size * (step % per_epoch)) for step in range(begin, begin + steps))

    def evaluate(self) -> int:
        """Evaluate on the test part; return the number of inputs."""
        return len(evaluate(self.run.model, self.dataset, device=self.device).logits)

    def match(self) -> int:
        """Match the model to another of the same shape on the test part; return the number of inputs seen."""
        a, b, symmetry = self._pair
        x = self.dataset.test_x
        batches = (self.dataset.normalise(part.to(self.device)) for part in x.split(BATCH))
        match(a, b, symmetry, batches, stop=None)
        return len(x)

    @cached_property
    def _pair(self) -> tuple[nn.Module, nn.Module, Symmetry]:
        example = torch.zeros(2, *self.dataset.input_shape)
        symmetry = discover(self.case.build(), example, verify=False)
        return copy.deepcopy(self.run.model), self.case.build().to(self.device), symmetry
