"""What decides a training run besides model, data and order: sizes, optimiser and schedule of the learning rate."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Literal, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from reticket.errors import ConfigError, InputError
from reticket.lookup import imported
from reticket.objectives import objective_of
from reticket.training.augmentations import Transform, find_augmentation
from reticket.training.rate_schedules import Moment, find_schedule
from reticket.training.sign_in import check_parametrization
from reticket.training.torch_optimisers import find_optimiser

LATER = {
    "precision": "float32",
    "optimizer": "sgd",
    "optimizer_options": {},
    "schedule_options": {},
    "label_smoothing": 0.0,
    "clip_norm": None,
    "accumulate": 1,
    "ema": None,
    "objective": "classification",
    "train": None,
    "augment_options": {},
    "mixup": None,
    "cutmix": None,
    "parametrization": "plain",
    "parametrization_options": {},
    "interpolate_norms": False,
}  # what keys leave out, by default


@dataclass(frozen=True)
class Recipe:
    """An optimiser of all parameters, SGD if none is named, and a schedule of the learning rate.

    Args:
        epochs: T, the length of the whole run; a run that starts at step k trains for the rest.
        batch_size: inputs in a step.
        lr: highest learning rate.
        momentum: in [0, 1); for an optimiser that names it.
        weight_decay: for an optimiser that names it; of SGD the L2 penalty added to the gradient, of every parameter as
            in `torch.optim.SGD`.
        schedule: name of a member of `SCHEDULES`: "cosine" to 0, "constant", "step" (times `gamma` at each milestone),
            "linear" or "one-cycle"; or a function of your own as `package.module:function`, see `schedule`.
        warmup_epochs: linear increase at the beginning of the run, before the schedule; rounded to whole steps.
        milestones: epochs at which "step" decays, counted on the clock of the whole run; rounded to whole steps.
        gamma: factor of each decay.
        augment: whether the data set's own augmentation is used; or what is done to an input after it: name of a member
            of `AUGMENTATIONS`, see `reticket list augmentations`, or of your own as `package.module:NAME`, see
            `find_augmentation`.
        precision: "float32", or "bfloat16": the model's forward and backward pass under torch's autocast, with
            weights, velocity, BatchNorm's statistics and the loss in float32. It decides results, so it is part of
            every key and no matter of the machine.
        optimizer: name of a member of `OPTIMISERS`, see `reticket list optimisers`; `timm:NAME`; or a class or function
            of your own as `package.module:NAME`, see `find_optimiser`.
        optimizer_options: its own settings, checked against its signature.
        schedule_options: the schedule's own settings, checked likewise.
        label_smoothing: share of every label that is spread over all classes, in [0, 1).
        clip_norm: largest norm of the gradient of all kept weights; a longer one is scaled to it. None for any.
        accumulate: parts that a batch is passed through the model in, one after another, to save memory; their
            gradients are summed before the one step.
        ema: decay of a moving average of weights and floating buffers, in (0, 1), which the last step of the whole run
            leaves in the model; positions before the end have the weights themselves. None for none.
        objective: what is minimised: name of a member of `reticket.objectives.OBJECTIVES`, or a function of model and
            batch (inputs, labels) of your own, or an objective, as `package.module:NAME`.
        train: a function of your own that does the whole training, as `package.module:function`, see
            `reticket.training.OwnTraining`; None for this package's.
        augment_options: the augmentation's own settings, checked against its signature.
        mixup: alpha of the Beta distribution that pairs of inputs and their labels are mixed by, above 0; None for
            none. For classification.
        cutmix: the same of CutMix, for images; of both, every batch takes one by chance.
        parametrization: "plain", or "sign-in": kept weights are trained as products of two factors, see `SignIn`.
        parametrization_options: its own settings, checked against its signature.
        interpolate_norms: whether the parameters of normalisation layers stand, in each step, at a random place between
            what torch initialises them to and what they are, see `NormInterpolation`.

    Raises:
        ConfigError: when a value is out of its range, or there is no such optimiser or option.
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup_epochs: int | float = 0
    milestones: tuple[int | float, ...] = ()
    gamma: float = 0.1
    augment: bool | str = True
    precision: Literal["float32", "bfloat16"] = "float32"
    optimizer: str = "sgd"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    schedule_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    ema: float | None = None
    objective: str = "classification"
    train: str | None = None
    augment_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    mixup: float | None = None
    cutmix: float | None = None
    parametrization: str = "plain"
    parametrization_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    interpolate_norms: bool = False

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # it is a table of an experiment's configuration as it stands

    def decisive(self) -> dict[str, Any]:
        """Return what decides a training; what came later only where it is set, so that older results keep their keys.

        >>> [Recipe(2, 64, 0.1, precision=p).decisive().get("precision") for p in ("float32", "bfloat16")]
        [None, 'bfloat16']
        """
        values = asdict(self) | self._options()
        return {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}

    def _options(self) -> dict[str, dict[str, Any]]:
        """Return what optimiser, schedule, augmentation and parametrization are set to, defaults included.

        Raises:
            ConfigError: when there is no such member or option.
        """
        if isinstance(self.augment, str):
            augmenting = find_augmentation(self.augment).options.settings(self.augment_options)
        elif self.augment_options:
            raise ConfigError(f"recipe: augment_options belong to a name, but augment is {self.augment}; name it")
        else:
            augmenting = {}
        return {
            "augment_options": augmenting,
            "optimizer_options": find_optimiser(self.optimizer).options.settings(self.optimizer_options),
            "schedule_options": find_schedule(self.schedule).options.settings(self.schedule_options),
            "parametrization_options": check_parametrization(self.parametrization, self.parametrization_options),
        }

    def transform(self) -> Transform | None:
        """Return what is done to an input besides the data set's own augmentation, None for nothing.

        Raises:
            ConfigError: when it cannot be made, as without the package that it is of.
        """
        if not isinstance(self.augment, str):
            return None
        return find_augmentation(self.augment)(self.augment_options)

    def __post_init__(self) -> None:
        if isinstance(self.milestones, Iterable) and not isinstance(self.milestones, str | Mapping):
            object.__setattr__(self, "milestones", tuple(map(_plain, self.milestones)))
        for name in ("epochs", "batch_size", "accumulate"):
            if isinstance(value := getattr(self, name), float) and value.is_integer():
                object.__setattr__(self, name, int(value))
        for name, check in _checks().items():
            _check_kind(name, getattr(self, name), check)
        if self.train is not None:
            imported(self.train, "training", ConfigError)
        ranges = (
            ("epochs", self.epochs, self.epochs >= 0, "at least 0"),
            ("batch_size", self.batch_size, self.batch_size >= 1, "at least 1"),
            ("lr", self.lr, 0 < self.lr < math.inf, "above 0"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0"),
            ("warmup_epochs", self.warmup_epochs, 0 <= self.warmup_epochs <= self.epochs, f"from 0 to {self.epochs}"),
            ("milestones", self.milestones, list(self.milestones) == sorted(self.milestones), "in ascending order"),
            ("precision", self.precision, self.precision in ("float32", "bfloat16"), "float32 or bfloat16"),
            ("gamma", self.gamma, 0 < self.gamma <= 1, "above 0, up to 1"),
            ("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1"),
            ("clip_norm", self.clip_norm, self.clip_norm is None or 0 < self.clip_norm < math.inf, "above 0"),
            ("mixup", self.mixup, self.mixup is None or 0 < self.mixup < math.inf, "above 0"),
            ("cutmix", self.cutmix, self.cutmix is None or 0 < self.cutmix < math.inf, "above 0"),
            ("ema", self.ema, self.ema is None or 0 < self.ema < 1, "above 0, below 1"),
            ("accumulate", self.accumulate, 1 <= self.accumulate <= self.batch_size, f"from 1 to {self.batch_size}"),
        )
        for name, value, is_valid, expected in ranges:
            if not is_valid:
                raise ConfigError(f"recipe: {name} is {value!r}, but it must be {expected}")
        self._options()
        self.transform()
        try:
            objective_of(self.objective)
        except InputError as problem:
            raise ConfigError(f"recipe: {problem}") from None
        if self.train is not None and self.parametrization != "plain":
            raise ConfigError(
                f"recipe: parametrization '{self.parametrization}' is of this package's training, but train is "
                f"'{self.train}'; leave it out, and use reticket.tickets.sign_in in that function"
            )
        if self.train is not None and self.interpolate_norms:
            raise ConfigError(
                f"recipe: interpolate_norms is of this package's training, but train is '{self.train}'; leave it out"
            )
        if ":" in self.objective and self.precision != "float32":
            raise ConfigError(f"recipe: '{self.objective}' runs the model itself, so precision must stay float32")
        for name in ("label_smoothing", "mixup", "cutmix"):
            if getattr(self, name) and self.objective != "classification":
                raise ConfigError(f"recipe: {name} is of classification; leave it out with '{self.objective}'")


@cache
def _checks() -> Mapping[str, Callable[..., object]]:
    """Return for each field of a recipe what refuses a value of another kind than it may be."""
    kinds = get_type_hints(Recipe)
    return {one.name: TypeAdapter(kinds[one.name]).validate_python for one in fields(Recipe)}


def _check_kind(name: str, value: object, check: Callable[..., object]) -> None:
    """Refuse what is of another kind than a field: no text becomes a number, as one from Python may be.

    Raises:
        ConfigError: with what was given.
    """
    try:
        check(_plain(value), strict=True)
    except ValidationError as problem:
        said = " or ".join(f"{one['msg'][0].lower()}{one['msg'][1:]}" for one in problem.errors()[:2])
        by_name = callable(value) and any(one["type"] == "string_type" for one in problem.errors())
        advice = "; name it, as 'package.module:NAME'" if by_name else ""
        raise ConfigError(f"recipe: {name} is {value!r}: {said}{advice}") from None


def _plain(value: Any) -> Any:
    """Return a number of numpy or torch as Python's, and any mapping as a dict."""
    if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0:
        return value.item()
    return dict(value) if isinstance(value, Mapping) else value


def check_milestones(recipe: Recipe) -> None:
    """Refuse milestones that no schedule reads, and the schedule of milestones without any, at the full rate all along.

    A recipe itself may have them: a round of pruning at a constant rate carries those of the dense run.

    Args:
        recipe: as a user states it.

    Raises:
        ConfigError: with the schedule that they are of.
    """
    if recipe.milestones and "milestones" not in find_schedule(recipe.schedule).uses:
        raise ConfigError(
            f"recipe: milestones are {list(recipe.milestones)}, but schedule '{recipe.schedule}' has none; set "
            f"schedule to 'step', or leave them out"
        )
    if recipe.schedule == "step" and not recipe.milestones:
        raise ConfigError(
            "recipe: schedule 'step' has no milestones, so its rate would never fall; give epochs, as "
            "milestones = [30, 60], or take 'constant'"
        )


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of steps in one pass over `n` inputs.

    The last, incomplete batch is a step as any other (the paper's choice), except when a single input is left over:
    BatchNorm cannot normalise one value, so that input sits the epoch out.

    Args:
        n: inputs.
        batch_size: inputs in a step.

    >>> steps_per_epoch(1297, 128), steps_per_epoch(129, 128), steps_per_epoch(1, 128)
    (11, 1, 1)
    """
    whole, rest = divmod(n, batch_size)
    return max(1, whole + (rest > 1 or (rest == 1 and batch_size == 1)))


def parse_position(text: str, steps_in_epoch: int) -> int:
    """Return the step that a position such as "0it", "300it" or "5ep" names; 0 is the initialisation itself.

    Args:
        text: a whole number of steps ("it") or epochs ("ep").
        steps_in_epoch: steps of one epoch.

    Raises:
        ConfigError: when the text is no position.

    >>> parse_position("5ep", 11), parse_position("300it", 11)
    (55, 300)
    """
    match = re.fullmatch(r"\s*(\d+)\s*(it|ep)\s*", text)
    if match is None:
        raise ConfigError(f"position '{text}' cannot be read; write steps as '300it' or epochs as '5ep'")
    return int(match[1]) * (steps_in_epoch if match[2] == "ep" else 1)


def learning_rate(recipe: Recipe, step: int, start: int, steps_in_epoch: int) -> float:
    """Return the learning rate of one step.

    With T the recipe's steps, k = `start`, W the warm-up's steps and i = `step` - k: `(i + 1) / W` of the schedule's
    rate for i < W, then the schedule's, see `schedules`. "cosine" is `lr / 2 (1 + cos(pi (i - W) / (T - k - W)))`: a
    run that starts at k restarts the cosine with length T - k, as the paper does, and warms up to its beginning, `lr`.
    "step" has its milestones on the clock of the whole run, those that a run which starts at k has passed included: it
    warms up to what is left of `lr` at that step.

    Args:
        recipe: the schedule.
        step: the step to be done, counted from the initialisation.
        start: k, the step at which this run began.
        steps_in_epoch: steps of one epoch.
    """
    done = step - start
    warmup = _warmup_steps(recipe, start, steps_in_epoch)
    length = recipe.epochs * steps_in_epoch - start - warmup
    moment = Moment(step, max(0, done - warmup), max(1, length), steps_in_epoch)
    given = {"milestones": recipe.milestones, "gamma": recipe.gamma}
    rate = recipe.lr * find_schedule(recipe.schedule)(moment, given, recipe.schedule_options)
    return rate * (done + 1) / warmup if done < warmup else rate


def warms_up_past_milestone(recipe: Recipe, start: int, steps_in_epoch: int) -> bool:
    """Return whether a milestone has passed before a run has warmed up, whose warm-up then ends below `lr`.

    Args:
        recipe: the schedule.
        start: k, the step at which the run begins.
        steps_in_epoch: steps of one epoch.

    >>> recipe = Recipe(90, 256, 0.1, schedule="step", warmup_epochs=5, milestones=(30, 60))
    >>> [warms_up_past_milestone(recipe, 100 * epoch, 100) for epoch in (0, 25, 26, 50)]
    [False, False, True, True]
    """
    last = start + _warmup_steps(recipe, start, steps_in_epoch) - 1
    passed = recipe.schedule == "step" and any(last >= round(m * steps_in_epoch) for m in recipe.milestones)
    return passed and last >= start


def _warmup_steps(recipe: Recipe, start: int, steps_in_epoch: int) -> int:
    """Return the steps of the warm-up of a run that begins at `start`."""
    return min(round(recipe.warmup_epochs * steps_in_epoch), recipe.epochs * steps_in_epoch - start)
