"""One preset, several values of one field: as many ordinary experiments, which share a plan and a store."""

import re
from dataclasses import dataclass
from typing import Any

from reticket.tasks.config import Config, parse_config


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
        ConfigError: when a value makes no experiment, naming it.
    """
    if not config.sweep:
        return (Variant(None, "", config),)
    ((key, values),) = config.sweep.items()
    return tuple(_variant(config, key, value) for value in values)


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
