"""The configuration of an experiment: every field that decides a result, checked once, with a hint for a slip."""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from reticket.errors import ConfigError
from reticket.lookup import closest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Position = Annotated[str, Field(pattern=r"^\d+(it|ep)$")]
Place = Annotated[str, Field(pattern=r"^(\d+(it|ep)|end)$")]
Pair = Literal["A to B", "permuted A to B", "dense A to IMP A"]
Places = Annotated[str, Field(pattern=r"^(\d+(it|ep)|end)(\+(\d+(it|ep)|end))*$")]

PARAMS = ("model.params.", "data.params.", "matching.options.", "matching.start.")  # tables with keys of others
OLDEST_OPTIONS = ("cost", "stop")  # of matching; they may stand beside the table of options


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which data; `train_size` and `test_size` take a seeded, class-balanced part of the images.

    `params` go to the loader, where it takes any.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    train_size: int | None = Field(default=None, ge=1)
    test_size: int | None = Field(default=None, ge=1)
    subset_seed: int = 0

    def decisive(self) -> dict[str, Any]:
        """Return what decides which data there are; what came later only where it is set."""
        later = {"test_size": self.test_size, "params": self.params}
        return self.model_dump(exclude={name for name, value in later.items() if not value})


class ModelConfig(_Section):
    """Which model; `params` go to its builder."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class TrainConfig(_Section):
    """SGD as in the paper: cosine to 0 over `epochs`, restarted at a rewind point over what is left."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_epochs: int | float = Field(default=0, ge=0)
    milestones: tuple[int | float, ...] = ()
    gamma: float = Field(default=0.1, gt=0, le=1)
    augment: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_serializer(mode="wrap")
    def _without_the_old_precision(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave "float32" out, so that results which are older than the choice keep their keys."""
        values = handler(self)
        return {key: value for key, value in values.items() if (key, value) != ("precision", "float32")}


class SparseConfig(_Section):
    """What the sparse runs change of the dense recipe; they end at the dense run's last epoch."""

    lr: float = Field(gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)


class PruneConfig(_Section):
    """Iterative magnitude pruning of A (and of B, where a method or check asks for it).

    `finetune` goes on with the trained weights at `lr`; `weight-rewind` returns to the weights of `rewind` and
    `lr-rewind` keeps the weights, both replaying the dense schedule from `rewind` (Renda et al. 2020).
    """

    style: Literal["finetune", "weight-rewind", "lr-rewind"] = "finetune"
    rate: Fraction = 0.2
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "constant"
    rewind: Position = "0it"
    scope: Literal["global", "layer"] = "global"
    exclude: tuple[str, ...] = ("shortcut",)


class StartConfig(_Section):
    """The matcher whose alignment another one begins from."""

    method: str = "activation"
    options: dict[str, Any] = Field(default_factory=dict)


class MatchingConfig(_Section):
    """How A's units are matched to B's: by a matcher and its `options`, checked against its signature when planning.

    A is taken at `a_at` of its dense training ("end", a position, or "same" as B), B at each of `grid.match_at`. A
    matcher that begins from an alignment gets that of `start`. One that looks at data gets `samples` training images
    drawn once (all when unset), not augmented. REPAIR reads its images in batches of `batch_size` too.
    """

    method: str = "activation"
    a_at: Place | Literal["same"] = "end"
    options: dict[str, Any] = Field(default_factory=dict)
    start: StartConfig | None = None
    samples: int | None = Field(default=None, ge=2)
    batch_size: int = Field(default=500, ge=2)

    @model_validator(mode="before")
    @classmethod
    def _oldest_options(cls, values: Any) -> Any:
        """Take what stood beside the table before there was one into it."""
        if not isinstance(values, Mapping) or not (moved := {k: values[k] for k in OLDEST_OPTIONS if k in values}):
            return values
        rest = {key: value for key, value in values.items() if key not in moved}
        table = rest.get("options", {})
        return {**rest, "options": {**table, **moved} if isinstance(table, Mapping) else table}


class GridConfig(_Section):
    """The table: every method at every sparsity and rewind point for every seed, which is one pair of networks A, B.

    `match_at` says at which position of B's dense training ("20ep", "300it" or "end") the units are matched; each gives
    a cell of its own for every method that uses the alignment. "50ep+100ep+end" is a consensus: A and B are both taken
    at each of these checkpoints, and one permutation is found from all of them.
    """

    seeds: tuple[int, ...] = (0,)
    sparsities: tuple[Fraction, ...] = (0.9,)
    rewinds: tuple[Position, ...] = ("0it",)
    methods: tuple[str, ...] = ("dense", "imp", "lth", "permuted", "naive")
    match_at: tuple[Places, ...] = ("end",)
    frame: Literal["init", "mask"] = "init"

    @field_validator("match_at", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        return tuple(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _not_empty(self) -> "GridConfig":
        for name in ("seeds", "sparsities", "rewinds", "methods", "match_at"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is empty, give at least one")
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names one value twice: {list(values)}")
        return self


class ChecksConfig(_Section):
    """Checks of the theory; each costs evaluations.

    `barriers` names the pairs of networks between which a line is walked, or all of them (true). With `rounds` the line
    from dense A goes to its solution after every round of pruning, not to the grid's sparsities alone.

    An ensemble of `diversity_members` from one ticket costs one sparse run less than that a method; it is trained at
    `diversity_sparsity` (one of the grid's, the highest when unset) and `diversity_rewind` (the last when unset).
    Beside it `independent_members` runs of `imp` are compared, each with a network of its own: the grid's when unset.
    """

    barriers: bool | tuple[Pair, ...] = True
    rounds: bool = False
    alphas: int = Field(default=11, ge=3)
    barrier_samples: int | None = Field(default=None, ge=1)
    overlap: bool = True
    diversity_members: int = Field(default=0, ge=0)
    diversity_sparsity: Fraction | None = None
    diversity_rewind: Position | None = None
    independent_members: int = Field(default=0, ge=0)
    confidence: Fraction = 0.95

    @property
    def pairs(self) -> tuple[str, ...]:
        """Return the pairs of networks between which barriers are measured."""
        return get_args(Pair) if self.barriers is True else self.barriers or ()


class Config(_Section):
    """A whole experiment, as a preset or a user's TOML file states it.

    `reference` says which result of the paper it is after. `sweep` gives one key several values: as many experiments in
    one plan. `scale` is written by `scaled`: what was made smaller, each with its value before and after.
    """

    title: str = "experiment"
    reference: str = ""
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    scale: dict[str, tuple[int, int]] = Field(default_factory=dict)
    data: DataConfig
    model: ModelConfig
    dense: TrainConfig
    sparse: SparseConfig
    prune: PruneConfig
    matching: MatchingConfig = MatchingConfig()
    grid: GridConfig
    checks: ChecksConfig = ChecksConfig()

    @model_validator(mode="after")
    def _diversity_in_grid(self) -> "Config":
        wanted = self.checks.diversity_sparsity
        if wanted is not None and wanted not in self.grid.sparsities:
            raise ValueError(f"checks.diversity_sparsity is {wanted}, which is none of {list(self.grid.sparsities)}")
        rewind = self.checks.diversity_rewind
        if rewind is not None and rewind not in self.grid.rewinds:
            raise ValueError(f"checks.diversity_rewind is {rewind}, which is none of {list(self.grid.rewinds)}")
        return self

    @model_validator(mode="after")
    def _sweep_of_one_key(self) -> "Config":
        for key, values in self.sweep.items():
            if len(self.sweep) > 1:
                raise ValueError(f"sweep names {', '.join(self.sweep)}; one key can be swept")
            if not values or any(value in values[:n] for n, value in enumerate(values)):
                raise ValueError(f"sweep.{key} is {list(values)}; give at least one value, each once")
            if not is_key(key):
                raise ValueError(f"sweep: unknown key '{key}'{nearest_key(key, known_keys())}")
        return self


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Check `values` and return the configuration.

    Args:
        values: nested tables as TOML gives them.
        source: where they come from; named in errors.

    Raises:
        ConfigError: for an unknown key (with the nearest right one) or a value out of range.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {'; '.join(_sentence(e) for e in error.errors()[:3])}") from None


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return `values` with each `key=value` of `settings` written in; values are TOML, bare words are text.

    >>> override({"grid": {"seeds": 5}}, ["grid.seeds=3", "title=short"])
    {'grid': {'seeds': 3}, 'title': 'short'}
    """
    result = _copied(values)
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {setting}: expected key=value, for instance --set grid.seeds=3")
        path = _full_path(key.strip())
        table = result
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {key}: '{part}' is {table!r} in the file, expected a table")
        table[path[-1]] = toml_value(text.strip())
    return result


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return every dotted key a configuration may hold."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += known_keys(section, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    if model is MatchingConfig:
        keys += [f"{prefix}{option}" for option in OLDEST_OPTIONS]
    return keys


def is_key(key: str) -> bool:
    """Return whether a configuration may hold a value under this whole dotted key."""
    return key in known_keys() or key.startswith(PARAMS)


def _full_path(key: str) -> list[str]:
    if key.startswith(PARAMS):
        return key.split(".")
    if key.startswith("sweep."):
        return ["sweep", key.removeprefix("sweep.").strip('"')]
    keys = known_keys()
    endings = [k for k in keys if k == key or k.endswith(f".{key}")]
    if len(endings) == 1:
        return endings[0].split(".")
    if len(endings) > 1:
        raise ConfigError(f"--set {key}: could mean {', '.join(endings)}; write the whole key")
    raise ConfigError(f"--set {key}: unknown key{nearest_key(key, keys)}")


def nearest_key(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the nearest of `known`, by the whole key or by its last part."""
    names = {name: name for name in known} | {name.rsplit(".", 1)[-1]: name for name in known}
    close = closest(word, names, 0.5) or closest(word.rsplit(".", 1)[-1], names, 0.5)
    return f", did you mean '{names[close]}'?" if close else f"; known: {', '.join(sorted(known))}"


def _sentence(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key '{where}'{nearest_key(where, known_keys())}"
    if error["type"] == "missing":
        return f"'{where}' is missing"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}" if where else str(error["ctx"]["error"])
    return f"'{where}' is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def toml_value(text: str) -> Any:
    """Return the value that a TOML text stands for; a bare word is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
