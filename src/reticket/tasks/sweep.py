"""One preset, several values of one field: as many ordinary experiments, which share a plan and a store."""

import re
from dataclasses import dataclass
from typing import Any

from reticket.errors import ConfigError
from reticket.tasks.config import Config, parse_config
from reticket.training.rate_schedules import SCHEDULES


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
        ConfigError: when a value makes no experiment, or two have one folder, naming them.
    """
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


def _variant(config: Config, key: str, value: Any) -> Variant:
    values = config.model_dump(exclude={"sweep"})
    *parts, last = key.split(".")
    table = values
    for part in parts:
        table = table[part]
    table[last] = value
    if key == "dense.schedule" and value in SCHEDULES and "milestones" not in SCHEDULES.named(value).uses:
        del table["milestones"]  # they are for the others of the sweep
    values["title"] = f"{config.title}: {last.replace('_', ' ')} {_text(value)}"
    folder = re.sub(r"[^A-Za-z0-9.]+", "-", f"{last}-{_text(value)}").strip("-")
    return Variant(value, folder, parse_config(values, f"sweep.{key} = {value}"))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
