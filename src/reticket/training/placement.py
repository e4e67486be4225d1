"""Where a run computes: the device, the processes that share it, and whether its steps are recorded."""

from dataclasses import dataclass

import torch

from reticket.data import Dataset, DataSource
from reticket.errors import ConfigError
from reticket.ranks import ALONE, Ranks
from reticket.training.graphs import Recorder, cuda_graph


@dataclass(frozen=True)
class Placement:
    """Where to compute; nothing of it is meant to decide a result.

    Args:
        device: "cpu", "cuda" or one certain device.
        ranks: processes that train one model together: each calls `train` with the same arguments and its own rank
            and device, and has its part of every batch. The batches, the checkpoint and, but for rounding, the weights
            are those of one process. The first one's state and checkpoint count; it alone writes.
        graphs: do each step as one CUDA graph, which gives the same bits; None for doing so where it can be: one
            process on a GPU, data in memory, a model that reads nothing from the device.
    """

    device: str | torch.device = "cpu"
    ranks: Ranks = ALONE
    graphs: bool | None = None

    def recorder(self, dataset: DataSource) -> Recorder | None:
        """Return what records a step on this data, or None where steps are done operation by operation.

        Args:
            dataset: the training data.

        Raises:
            ConfigError: when graphs are asked for and cannot be.
        """
        possible = self.ranks.alone and torch.device(self.device).type == "cuda" and isinstance(dataset, Dataset)
        if self.graphs and not possible:
            raise ConfigError(
                f"graphs need one process on a GPU and data in memory, not {self.ranks.world} on '{self.device}' with "
                f"'{dataset.name}'; leave graphs off"
            )
        return cuda_graph if possible and self.graphs is not False else None
