"""The run directory as the report reads it: `results.json` (schema 1), checked once, with the damaged place named."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from reticket.errors import InputError

SCHEMA = 1


def _finite(value: Any) -> Any:
    """A number that is not finite is a number that is not there."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _stat(value: Any) -> Any:
    """A plain number stands for a single measurement."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"n": 1, "mean": value, "values": [value]}
    return {} if value is None else value


Number = Annotated[float | None, BeforeValidator(_finite)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Stat(_Record):
    """Mean and sample standard deviation of `n` values; `sd` is None for one value."""

    n: int = 0
    mean: Number = None
    sd: Number = None
    values: tuple[Number, ...] = ()


StatField = Annotated[Stat, BeforeValidator(_stat)]


class Row(Stat):
    """One cell of the table: a metric of a method at a sparsity (fraction pruned) and rewind point.

    `match_at` is the position of B's training at which the units were matched, for methods that use the alignment.
    """

    method: str
    sparsity: float
    true_sparsity: Number = None
    rewind: str | None = None
    match_at: str | None = None
    metric: str = "accuracy"


class Gap(_Record):
    """Share (percent) of the LTH - naive gap (points) that a method closes; `interval` names what the bounds are."""

    method: str
    sparsity: float
    rewind: str | None = None
    match_at: str | None = None
    n: int = 0
    share: Number = None
    low: Number = None
    high: Number = None
    gap: Number = None
    gap_low: Number = None
    gap_high: Number = None
    left: Number = None
    confidence: Number = None
    interval: str = "bootstrap"
    bootstrap_low: Number = None
    bootstrap_high: Number = None


class Difference(Stat):
    """Accuracy of `higher` minus that of `lower` (points), paired by seed; `seeds` would settle the sign."""

    higher: str
    lower: str
    sparsity: float
    rewind: str | None = None
    match_at: str | None = None
    low: float
    high: float
    confidence: float
    seeds: int | None = None

    @property
    def settled(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


class Barrier(_Record):
    """Loss (nats) and accuracy (percent) along the line between two networks, one curve a seed."""

    pair: str
    repair: bool = False
    sparsity: Number = None
    match_at: str | None = None
    n: int = 0
    alphas: tuple[float, ...]
    loss: tuple[tuple[Number, ...], ...] = ()
    accuracy: tuple[tuple[Number, ...], ...] = ()
    loss_barrier: StatField = Stat()
    accuracy_barrier: StatField = Stat()


class Match(_Record):
    """Matched correlation of one group and its margin to the runner-up."""

    group: str
    size: int
    copies: int = 1
    match_at: str | None = None
    correlation: StatField = Stat()
    margin: StatField = Stat()


class Overlap(_Record):
    """Percent of a mask's kept weights that B's own mask keeps too; `layer` None is the whole network."""

    sparsity: float
    layer: str | None = None
    mask: str
    overlap: StatField = Stat()
    chance: StatField = Stat()


class Diversity(_Record):
    """What an ensemble of members gains, and how much its members differ."""

    method: str
    sparsity: float
    rewind: str | None = None
    match_at: str | None = None
    protocol: str = ""
    members: int = 0
    mean_accuracy: StatField = Stat()
    ensemble_accuracy: StatField = Stat()
    disagreement: StatField = Stat()
    kl: StatField = Stat()
    js: StatField = Stat()

    @property
    def gain(self) -> float | None:
        """Ensemble accuracy less the members' mean accuracy, in points."""
        if self.ensemble_accuracy.mean is None or self.mean_accuracy.mean is None:
            return None
        return self.ensemble_accuracy.mean - self.mean_accuracy.mean


class ClassChange(_Record):
    """Accuracy of one class, dense and sparse (percent), and the change in points."""

    method: str
    sparsity: float
    rewind: str | None = None
    match_at: str | None = None
    name: str = Field(alias="class")
    dense: StatField = Stat()
    sparse: StatField = Stat()
    change: StatField = Stat()


class ClassCount(_Record):
    """How many test images of a class there are, and how many of them are exemplars."""

    name: str = Field(alias="class")
    found: int
    images: int


class Exemplars(_Record):
    """Test images whose modal prediction pruning changes, over the seeds' networks; accuracies in percent."""

    method: str
    sparsity: float
    rewind: str | None = None
    match_at: str | None = None
    dense_networks: int = 0
    sparse_networks: int = 0
    images: int = 0
    found: int = 0
    undecided: int = 0
    stable: int = 0
    noise: int | None = None
    dense_on_exemplars: StatField = Stat()
    dense_on_rest: StatField = Stat()
    sparse_on_exemplars: StatField = Stat()
    sparse_on_rest: StatField = Stat()
    classes: tuple[ClassCount, ...] = ()


class Picture(_Record):
    """One image of the contact sheet, and what it is taken for."""

    index: int
    file: str
    label: str
    dense: str
    dense_votes: int
    sparse: str
    sparse_votes: int
    stable: bool = False


class Sheet(_Record):
    """The exemplars that are shown, of one cell."""

    method: str = ""
    sparsity: float = 0.0
    rewind: str | None = None
    images: tuple[Picture, ...] = ()


class Cost(_Record):
    """What one kind of task took."""

    kind: str
    tasks: int = 0
    model_epochs: Number = None
    seconds: Number = None


class Failure(_Record):
    """A task that ended with an error."""

    label: str
    error: str = ""


class Experiment(_Record):
    """What was trained, as far as it decides what a number may be compared with; sections as in the configuration."""

    data: Mapping[str, Any] = {}
    model: Mapping[str, Any] = {}
    dense: Mapping[str, Any] = {}
    sparse: Mapping[str, Any] = {}
    prune: Mapping[str, Any] = {}
    matching: Mapping[str, Any] = {}
    train_size: int | None = None
    steps_per_epoch: int | None = None

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


class Results(_Record):
    """`results.json`, schema 1."""

    title: str = "experiment"
    preset: str = ""
    complete: bool = True
    rows: tuple[Row, ...] = ()
    gap_closed: tuple[Gap, ...] = ()
    differences: tuple[Difference, ...] = ()
    barriers: tuple[Barrier, ...] = ()
    matching: tuple[Match, ...] = ()
    overlap: tuple[Overlap, ...] = ()
    diversity: tuple[Diversity, ...] = ()
    per_class: tuple[ClassChange, ...] = ()
    exemplars: tuple[Exemplars, ...] = ()
    contact_sheet: Sheet = Sheet()
    cost: tuple[Cost, ...] = ()
    failures: tuple[Failure, ...] = ()
    environment: Mapping[str, Any] = {}
    scale: Mapping[str, Any] = {}
    experiment: Experiment = Experiment()


@dataclass(frozen=True)
class Run:
    """A run directory's files, read."""

    results: Results
    config: Mapping[str, Any]
    config_text: str
    environment: Mapping[str, Any]


def read_run(run_dir: Path) -> Run:
    """Read `results.json`, `config.toml` and `environment.json` of a run directory; the last two may be missing.

    Args:
        run_dir: the directory that `reticket run` wrote.

    Raises:
        InputError: when the directory or `results.json` is missing, or a file is damaged.
    """
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: no such directory; give the directory that `reticket run` wrote")
    path = run_dir / "results.json"
    if not path.is_file():
        raise InputError(f"{run_dir}: holds no results.json; run `reticket run` into it first")
    values = read_json(path)
    if values.get("schema") != SCHEMA:
        seen = values.get("schema")
        raise InputError(f"{path}: has schema {seen!r}, this version reads schema {SCHEMA}; run it again")
    try:
        results = Results.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: damaged at '{where}' ({first['msg']}); run it again") from None
    text = _read_text(run_dir / "config.toml")
    environment = run_dir / "environment.json"
    seen = read_json(environment) if environment.is_file() else {}
    config = _parse_toml(text, run_dir / "config.toml")
    if "experiment" not in values:  # written before results held it
        known = {name: config[name] for name in Experiment.model_fields if isinstance(config.get(name), dict)}
        results = results.model_copy(update={"experiment": Experiment(**known)})
    return Run(results, config, text, dict(results.environment) | seen)


def _read_text(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); run it again") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file that holds a table.

    Raises:
        InputError: when it cannot be read, is not JSON or holds something else.
    """
    try:
        values = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON (line {error.lineno}: {error.msg}); run it again") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: holds a number or a nesting that no run writes; run it again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a table at the top, saw {type(values).__name__}; run it again")
    return values


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not TOML ({error}); restore it or run again") from None
