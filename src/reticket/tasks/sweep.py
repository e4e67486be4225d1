"""One preset, several values of one field: as many ordinary experiments, which share a plan and a store."""

import re
from dataclasses import dataclass
from typing import Any

from reticket.errors import ConfigError
from reticket.tasks.config import Config, parse_config
from reticket.training.recipe import check_milestones

OF_MILESTONES = ("dense.schedule", "dense.milestones")


@dataclass(frozen=True)
class Variant:
    """One experiment of a sweep.

    Args:
        value: of the field that is swept; None where nothing is.
        folder: below the run directory; the run directory itself (an empty text) where nothing is swept.
        config: the experiment, without the sweep.
    """

    value: Any
    folder: str
    config: Config


def variants(config: Config) -> tuple[Variant, ...]:
    """Return the experiments that `config` stands for: one for each value of its sweep, or itself.

    Raises:
        ConfigError: when a value makes no experiment, or two have one folder, naming them; and for milestones that no
            schedule reads. In a sweep of either what one value has no use for is there for another.
    """
    if not any(key in OF_MILESTONES for key in config.sweep):
        _check_milestones(config)
    if not config.sweep:
        return (Variant(None, "", config),)
    ((key, values),) = config.sweep.items()
    found = tuple(_variant(config, key, value) for value in values)
    first: dict[str, Variant] = {}
    for variant in found:
        other = first.setdefault(variant.folder.casefold(), variant)  # some file systems do not tell case
        if other is not variant:
            raise ConfigError(
                f"sweep.{key}: the results of {other.value!r} and of {variant.value!r} would both be written to the "
                f"folder '{other.folder}'; sweep values that are spelt differently, or run them apart"
            )
    return found


def _check_milestones(config: Config) -> None:
    try:
        check_milestones(config.dense)
    except ConfigError as problem:
        raise ConfigError(str(problem).replace("recipe", "dense", 1)) from None


def _variant(config: Config, key: str, value: Any) -> Variant:
    values = config.model_dump(exclude={"sweep"})
    *parts, last = key.split(".")
    table = values
    for part in parts:
        table = table[part]
    table[last] = value
    values["title"] = f"{config.title}: {last.replace('_', ' ')} {_text(value)}"
    folder = re.sub(r"[^A-Za-z0-9.]+", "-", f"{last}-{_text(value)}").strip("-")
    return Variant(value, folder, parse_config(values, f"sweep.{key} = {value}"))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
