"""The configuration of an experiment: every field that decides a result, checked once, with a hint for a slip."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializeAsAny,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass

from reticket.errors import ConfigError, MaskError
from reticket.lookup import closest, nearest
from reticket.tasks.declared import CheckSettings, declared, settings_model, settings_of
from reticket.tasks.frozen_frame import check_frame
from reticket.tasks.key_values import no_list, toml_value
from reticket.tasks.section import Fraction, JoinedPositions, Position, PositionOrEnd, Section
from reticket.tickets import Pruning
from reticket.tickets.patterns import check_density
from reticket.training import Recipe

PARAMS = (
    "model.params.",
    "data.params.",
    "dense.optimizer_options.",
    "dense.schedule_options.",
    "dense.augment_options.",
    "dense.parametrization_options.",
    "sparse.parametrization_options.",
    "matching.options.",
    "matching.start.",
)  # tables with keys of others
MOST_SEEDS = 1_000  # the plan of a million alone would take hours
OLDEST_OPTIONS = ("cost", "stop")  # of matching; they may stand beside the table of options


class DataConfig(Section):
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


class ModelConfig(Section):
    """Which model; `params` go to its builder."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


def _recipe(values: Any, check: Callable[[Any], Recipe]) -> Recipe:
    try:
        recipe = check({"batch_size": 128, **values} if isinstance(values, Mapping) else values)
        if recipe.epochs < 1:
            raise ConfigError(f"epochs is {recipe.epochs}, but it must be at least 1")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("recipe: ")) from None
    return recipe


DenseRecipe = Annotated[Recipe, WrapValidator(_recipe), PlainSerializer(Recipe.decisive)]
"""The recipe of A and B as a table: SGD as in the paper, cosine to 0 over `epochs`, in batches of 128 if none is said.

A run that starts at a rewind point restarts the schedule over what is left.
"""


class SparseConfig(Section):
    """What the sparse runs change of the dense recipe; they end at the dense run's last epoch.

    `parametrization` is what kept weights are trained as, of every method alike: "plain" or "sign-in", and
    `interpolate_norms` whether the parameters of normalisation layers stand at random places on the way to their
    beginning; the dense run's if none is said.
    """

    lr: float
    weight_decay: float = 5e-4
    parametrization: str | None = None
    parametrization_options: dict[str, Any] = Field(default_factory=dict)
    interpolate_norms: bool | None = None

    def changes(self) -> dict[str, Any]:
        """Return the fields of a recipe that are others than the dense one's."""
        left = {"interpolate_norms"} if self.interpolate_norms is None else set()
        left |= {"parametrization", "parametrization_options"} if self.parametrization is None else set()
        return {name: getattr(self, name) for name in type(self).model_fields if name not in left}

    @model_validator(mode="after")
    def _options_of_a_name(self) -> "SparseConfig":
        if self.parametrization is None and self.parametrization_options:
            raise ValueError("parametrization_options belong to a parametrization; name it, as 'sign-in'")
        return self


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class PruneConfig(Pruning):
    """Pruning of A (and of B, where a method or check asks for it), and the training of each round.

    `finetune` goes on with the trained weights, by the dense recipe with what is given here and no warm-up;
    `weight-rewind` returns to the weights of `rewind` and `lr-rewind` keeps the weights, both replaying the dense
    schedule from `rewind` (Renda et al. 2020). Pruned are the weight matrices less what `exclude` names, and what
    `include` names besides: embeddings, or matrices in modules that are not known; `pattern` says which of their
    weights may be kept together. `schedule` has the dense one's
    options where it is that one.
    """

    epochs: int = Field(ge=1)
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    rewind: Position = "0it"


def _pruning(values: Any, check: Callable[[Any], PruneConfig]) -> PruneConfig:
    try:
        return check(values)
    except MaskError as error:
        raise ValueError(str(error)) from None


PruneTable = Annotated[PruneConfig, WrapValidator(_pruning)]
RETRAINING = ("epochs", "lr", "momentum", "weight_decay", "schedule")  # what fine-tuning changes of the dense recipe


class StartConfig(Section):
    """The matcher whose alignment another one begins from."""

    method: str = "activation"
    options: dict[str, Any] = Field(default_factory=dict)


class MatchingConfig(Section):
    """How A's units are matched to B's: by a matcher and its `options`, checked against its signature when planning.

    A is taken at `a_at` of its dense training ("end", a position, or "same" as B), B at each of `grid.match_at`. A
    matcher that begins from an alignment gets that of `start`. One that looks at data gets `samples` training images
    drawn once (all when unset), not augmented. REPAIR reads its images in batches of `batch_size` too.
    """

    method: str = "activation"
    a_at: PositionOrEnd | Literal["same"] = "end"
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


class GridConfig(Section):
    """The table: every method at every sparsity and rewind point for every seed, which is one pair of networks A, B.

    `match_at` says at which position of B's dense training ("20ep", "300it" or "end") the units are matched; each gives
    a cell of its own for every method that uses the alignment. "50ep+100ep+end" is a consensus: A and B are both taken
    at each of these checkpoints, and one permutation is found from all of them.
    """

    seeds: tuple[int, ...] = (0,)
    sparsities: tuple[Fraction, ...] = (0.9,)
    rewinds: tuple[Position, ...] = ("0it",)
    methods: tuple[str, ...] = ("dense", "imp", "lth", "permuted", "naive")
    match_at: tuple[JoinedPositions, ...] = ("end",)
    frame: Literal["init", "mask"] = "init"

    @field_validator("match_at", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if value > MOST_SEEDS:
            raise ValueError(f"seeds is {value}, but at most {MOST_SEEDS:,} are planned; give fewer")
        return tuple(range(value))

    @model_validator(mode="after")
    def _not_empty(self) -> "GridConfig":
        for name in ("seeds", "sparsities", "rewinds", "methods", "match_at"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is empty, give at least one")
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names one value twice: {list(values)}")
        return self


Checks = Annotated[SerializeAsAny[CheckSettings], BeforeValidator(settings_of)]
"""The table `[checks]`, made of what every check declares."""


class Config(Section):
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
    dense: DenseRecipe
    sparse: SparseConfig
    prune: PruneTable
    matching: MatchingConfig = MatchingConfig()
    grid: GridConfig
    checks: Checks = Field(default_factory=lambda: settings_model()())

    @cached_property
    def sparse_recipe(self) -> Recipe:
        """The recipe of the sparse runs: the dense one with what they change."""
        return replace(self.dense, **self.sparse.changes())

    @cached_property
    def finetuning_recipe(self) -> Recipe:
        """The recipe of a round of pruning that goes on with the trained weights."""
        changes = {name: getattr(self.prune, name) for name in RETRAINING}
        options = self.dense.schedule_options if self.prune.schedule == self.dense.schedule else {}
        return replace(self.dense, **changes, schedule_options=options, warmup_epochs=0)

    @model_validator(mode="after")
    def _recipes_can_be(self) -> "Config":
        for section, name in (("sparse", "sparse_recipe"), ("prune", "finetuning_recipe")):
            try:
                getattr(self, name)
            except ConfigError as error:
                raise ValueError(str(error).replace("recipe", section, 1)) from None
        return self

    @model_validator(mode="after")
    def _checks_fit_the_grid(self) -> "Config":
        for check in declared():
            check.fits(self.checks, self.grid.sparsities, self.grid.rewinds)
        return self

    @model_validator(mode="after")
    def _sparsities_of_the_pattern(self) -> "Config":
        for sparsity in self.grid.sparsities:
            try:
                check_density(self.prune.pattern, 1 - float(sparsity))
            except MaskError as error:
                raise ValueError(f"grid.sparsities: {error}") from None
        return self

    @model_validator(mode="after")
    def _frame_stays(self) -> "Config":
        """Refuse to change fixed entries; of a sweep it is its experiments that are checked, each by itself."""
        if not self.sweep:
            try:
                check_frame(self.model.params, self.grid.frame, self.grid.methods)
            except ConfigError as error:
                raise ValueError(str(error)) from None
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
        raise ConfigError(f"{source}: {'; '.join(list(dict.fromkeys(map(_sentence, error.errors())))[:3])}") from None


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
        section = settings_model() if name == "checks" else field.annotation
        if is_dataclass(section):
            keys += [f"{prefix}{name}.{own.name}" for own in fields(section)]
        elif isinstance(section, type) and issubclass(section, BaseModel):
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
    if where.startswith("matching.a_at"):  # with a part for each of the kinds that it may be
        where = "matching.a_at"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key '{where}'{nearest_key(where, known_keys())}"
    if error["type"] == "missing":
        return f"'{where}' is missing"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}" if where else str(error["ctx"]["error"])
    if error["type"] == "tuple_type" and where.startswith("grid."):
        return no_list(where, error["input"])
    if where.startswith(("grid.rewinds", "grid.match_at", "prune.rewind", "matching.a_at")):
        ends = {"grid": ", or 'end'" * where.startswith("grid.match_at"), "matching": ", 'end', or 'same' as B"}
        end = ends.get(where.partition(".")[0], "")
        return f"'{where}' is {error['input']!r}, but a position was expected: steps as '300it', epochs as '5ep'{end}"
    if error["type"] == "literal_error":
        choices = [text.strip("'") for text in re.findall(r"'[^']*'", error["ctx"]["expected"])]
        hint = nearest(str(error["input"]).lower(), choices)
        return f"'{where}' is {error['input']!r}{hint + ';' if hint else ','} expected {error['ctx']['expected']}"
    said = f"'{where}' is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
    return f"{said}; it is the share of weights pruned, as 0.9" if where.startswith("grid.sparsities") else said


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
