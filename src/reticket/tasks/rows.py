"""The records of `results.json` that no check owns: the table, what is computed from it, its cost, what was trained."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from reticket.analysis import is_settled
from reticket.records import Number, Record, Stat
from reticket.tasks.metric import Metric

METHOD = "name of the method"
SPARSITY = "nominal fraction pruned, in [0, 1)"
REWIND = "position from which the sparse network is trained, '5ep' or '300it'; null where a method has none"
MATCH_AT = "position of B's training at which the units were matched; null for methods that use no alignment"
KEYS = "keys of the results it is computed from, in the order of the seeds"


class CellRecord(Record):
    """Where a row stands in the table of the experiment."""

    method: str = Field(description=METHOD)
    sparsity: float = Field(description=SPARSITY)
    rewind: str | None = Field(default=None, description=REWIND)
    match_at: str | None = Field(default=None, description=MATCH_AT)


class Priced(Record):
    """What a network, or a whole ensemble, costs in training; null where it is not known, as in older files."""

    own_epochs: Number = Field(default=None, description="model-epochs of what is made for it alone; mean over seeds")
    shared_epochs: Number = Field(
        default=None, description="model-epochs of what all networks of the same ticket can share; mean over seeds"
    )
    own_seconds: Number = Field(default=None, description="what its own part took, of one process after the other")
    shared_seconds: Number = Field(default=None, description="what the shared part took")

    def epochs_each(self, sharing: int) -> float | None:
        """Return its model-epochs where so many networks (or ensembles) share one ticket: own + shared / sharing.

        Args:
            sharing: how many, at least 1.

        >>> Priced(own_epochs=25.0, shared_epochs=100.0).epochs_each(10)
        35.0
        """
        if self.own_epochs is None or self.shared_epochs is None:
            return None
        return self.own_epochs + self.shared_epochs / sharing


class Row(Stat, CellRecord, Priced):
    """One metric of one cell of the table."""

    true_sparsity: Number = Field(default=None, description="fraction of all weights that is 0, shortcuts included")
    metric: str = Field(
        default="accuracy",
        description="'accuracy' (percent of the test images) or another that 'experiment' names, or 'loss' (nats)",
    )
    keys: tuple[str, ...] = Field(default=(), description=KEYS)
    seeds: tuple[int, ...] = Field(default=(), description="the seeds, in the order of the values")

    @property
    def by_seed(self) -> dict[int, float]:
        """The known values by their seeds; none in a file that is older than its seeds."""
        return {seed: value for seed, value in zip(self.seeds, self.values, strict=False) if value is not None}


class Gap(CellRecord):
    """The share of the LTH - naive gap that a method closes, paired by seed."""

    n: int = Field(default=0, description="seeds that all three methods have")
    share: Number = Field(default=None, description="percent of the gap")
    low: Number = Field(default=None, description="lower bound of the share (percent)")
    high: Number = Field(default=None, description="upper bound of the share (percent)")
    gap: Number = Field(default=None, description="how much better LTH is than naive (points of accuracy)")
    gap_low: Number = Field(default=None, description="lower bound of the gap (points)")
    gap_high: Number = Field(default=None, description="upper bound of the gap (points)")
    left: Number = Field(default=None, description="how much better LTH is than this method (points)")
    confidence: Number = Field(default=None, description="level of the bounds, in (0, 1)")
    reason: str = Field(default="", description="why the share or its bounds are missing")
    interval: str = Field(default="bootstrap", description="how the bounds are computed: 'fieller' or 'bootstrap'")
    bootstrap_low: Number = Field(default=None, description="lower bound of the share by the bootstrap (percent)")
    bootstrap_high: Number = Field(default=None, description="upper bound of the share by the bootstrap (percent)")
    keys: tuple[str, ...] = Field(default=(), description=KEYS)


class Difference(Stat):
    """How much better one method is than another (points of accuracy), paired by seed."""

    higher: str = Field(description="the method that should be better")
    lower: str = Field(description="the method that should be worse")
    sparsity: float = Field(description=SPARSITY)
    rewind: str | None = Field(default=None, description=REWIND)
    match_at: str | None = Field(default=None, description=MATCH_AT)
    low: float = Field(description="lower bound of the mean difference (points), Student's t")
    high: float = Field(description="upper bound of the mean difference (points)")
    confidence: float = Field(description="level of the bounds, in (0, 1)")
    seeds: int | None = Field(
        default=None, description="about how many would settle the sign; null: settled, or over 10,000"
    )
    keys: tuple[str, ...] = Field(default=(), description=KEYS)

    @property
    def settled(self) -> bool:
        """Whether the interval lies on one side of 0, and not as a point of few seeds."""
        return is_settled(self.n, self.low, self.high, self.confidence)


class Cost(Record):
    """What one kind of task took."""

    kind: str = Field(description="of task")
    tasks: int = Field(default=0, description="how many results there are")
    model_epochs: Number = Field(default=None, description="passes of a network over its training data")
    seconds: Number = Field(default=None, description="of one process after the other")
    missing: int = Field(default=0, description="tasks without a result")


class Failure(Record):
    """A task that ended with an error."""

    label: str = Field(description="of the task")
    error: str = Field(default="", description="one sentence")


class Experiment(Record):
    """What was trained, as far as it decides what a number may be compared with; tables as in the configuration."""

    data: Mapping[str, Any] = Field(default={}, description="which data")
    model: Mapping[str, Any] = Field(default={}, description="which model, with every parameter")
    dense: Mapping[str, Any] = Field(default={}, description="the recipe of dense training")
    sparse: Mapping[str, Any] = Field(default={}, description="what sparse runs change of it")
    prune: Mapping[str, Any] = Field(default={}, description="how A is pruned")
    matching: Mapping[str, Any] = Field(default={}, description="how units are matched")
    unpruned: Mapping[str, float] = Field(
        default={},
        description="weight matrices that stay as they are, each with its fraction of the weights in matrices",
    )
    train_size: int | None = Field(default=None, description="training inputs")
    metric: Metric = Field(default=Metric(), description="what the networks are judged by besides the loss")
    steps_per_epoch: int | None = Field(default=None, description="steps of an epoch of dense training")

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.data.get("name", ""))

    @property
    def network(self) -> str:
        """Name of the model."""
        return str(self.model.get("name", ""))

    @property
    def width(self) -> float | int:
        """Factor on the channels, 1 where the model has none."""
        width = (self.model.get("params") or {}).get("width", 1)
        return width if isinstance(width, (int, float)) else 1

    @property
    def epochs(self) -> int | None:
        """Epochs of dense training."""
        epochs = self.dense.get("epochs")
        return epochs if isinstance(epochs, int) else None
