"""Learning-rate schedules: which multiple of the highest rate a step has, by name or of the user's own."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from reticket.errors import ConfigError
from reticket.lookup import imported
from reticket.options import Options
from reticket.registry import Registry, first_line

GIVEN = ("milestones", "gamma")  # fields of a recipe that a schedule gets by naming them


@dataclass(frozen=True)
class Moment:
    """A step of a run, seen by its schedule.

    Args:
        step: counted from the initialisation, on the clock of the whole recipe.
        done: steps since the warm-up ended, 0 while it lasts.
        length: steps from the end of the warm-up to the end of the run, at least 1.
        steps_in_epoch: steps of one epoch.
    """

    step: int
    done: int
    length: int
    steps_in_epoch: int


@dataclass(frozen=True)
class ScheduleKind:
    """A schedule by name.

    Args:
        name: what users write as `schedule`.
        factor: `(moment, ...) -> float`.
        uses: what it is given of the recipe, names of `GIVEN`.
        options: its own settings, with their annotations and defaults.
    """

    name: str
    factor: Callable[..., float]
    uses: tuple[str, ...]
    options: Options

    @classmethod
    def of(cls, name: str, factor: Callable[..., float]) -> "ScheduleKind":
        """Read from a signature what a schedule is given and which options it has.

        Raises:
            ConfigError: for a parameter that is neither given nor an option.
        """
        signature = inspect.signature(factor, eval_str=True)
        moment, *others = signature.parameters or ("",)
        own = {key: signature.parameters[key] for key in others if key not in GIVEN}
        odd = [key for key, one in own.items() if one.kind is not one.KEYWORD_ONLY or one.default is one.empty]
        if odd or not moment or signature.parameters[moment].kind is inspect.Parameter.KEYWORD_ONLY:
            raise ConfigError(
                f"schedule '{name}' has the parameters {signature}; it gets the moment first, what it names of "
                f"{', '.join(GIVEN)}, and options, which stand after a * and have a default"
            )
        uses = tuple(key for key in others if key in GIVEN)
        return cls(name, factor, uses, Options(f"schedule '{name}'", own, ConfigError))

    def __call__(self, moment: Moment, given: Mapping[str, Any], options: Mapping[str, Any]) -> float:
        """Return the factor of the highest learning rate at a moment.

        Args:
            moment: the step.
            given: values by names of `GIVEN`.
            options: its own, by name.
        """
        return self.factor(moment, **{key: given[key] for key in self.uses}, **options)


SCHEDULES = Registry[ScheduleKind](
    "schedule", "reticket.schedules", ConfigError, says=lambda one: first_line(one.factor), importable=True
)
Factor = TypeVar("Factor", bound=Callable[..., float])


def schedule(name: str) -> Callable[[Factor], Factor]:
    """Register a schedule: a function from a `Moment` to a multiple of the recipe's `lr`, without the warm-up.

    It gets `milestones` and `gamma` of the recipe where it names them. Options stand after a `*`, with their types and
    defaults: `Recipe.schedule_options` are checked against them.

    Args:
        name: what users write as `schedule`.

    Raises:
        ConfigError: when the name is taken or a parameter is none of these.
    """

    def register(factor: Factor) -> Factor:
        SCHEDULES.add(name, ScheduleKind.of(name, factor))
        return factor

    return register


def find_schedule(name: str) -> ScheduleKind:
    """Return a schedule by its name, or one of the user's own as `package.module:function`.

    Args:
        name: what stands as `schedule` in a recipe.

    Raises:
        ConfigError: when there is no such schedule.
    """
    return ScheduleKind.of(name, imported(name, "schedule", ConfigError)) if ":" in name else SCHEDULES.named(name)


@schedule("cosine")
def cosine(at: Moment) -> float:
    """Half a cosine from 1 to 0: `(1 + cos(pi t / T)) / 2` (arXiv 1608.03983, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * at.done / at.length))


@schedule("constant")
def constant(at: Moment) -> float:
    """The highest rate all the time."""
    return 1.0


@schedule("step")
def step(at: Moment, milestones: tuple[float, ...], gamma: float) -> float:
    """`gamma` to the number of milestones passed, which are epochs on the clock of the whole recipe."""
    return gamma ** sum(at.step >= round(m * at.steps_in_epoch) for m in milestones)


@schedule("linear")
def linear(at: Moment, *, end: float = 0.0) -> float:
    """A line from 1 to `end`."""
    return end + (1 - end) * (1 - at.done / at.length)


@schedule("one-cycle")
def one_cycle(at: Moment, *, rise: float = 0.3, begin: float = 1 / 25, end: float = 1e-4) -> float:
    """Half a cosine from `begin` up to 1 in the first `rise` of the steps, another one down to `begin * end`.

    As `torch.optim.lr_scheduler.OneCycleLR` with `pct_start`, `1 / div_factor` and `1 / final_div_factor` (arXiv
    1708.07120); the momentum is left alone.
    """
    top, last = rise * at.length - 1, at.length - 1
    if at.done <= top:
        return _between(begin, 1.0, at.done / top if top > 0 else 1.0)
    return _between(1.0, begin * end, (at.done - top) / max(last - top, 1e-9))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
