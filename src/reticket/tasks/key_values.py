"""`key=value` texts of users: values are TOML, a bare word is a text."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from reticket.errors import ConfigError

LISTS: Mapping[str, tuple[str, str]] = {  # keys that hold one, and what goes wrong most often: of what, for instance
    "grid.methods": ("texts", '["erk", "lth"]'),
    "grid.rewinds": ("texts", '["0ep", "5ep"]'),
    "grid.sparsities": ("numbers", "[0.9, 0.98]"),
}


def no_list(where: str, value: object) -> str:
    """Return what is to be said of something else where a list belongs: a shell takes double quotes away.

    Args:
        where: the whole key.
        value: what is there.

    >>> no_list("grid.sparsities", "0.9")
    "'grid.sparsities' is '0.9', expected a list of numbers, as grid.sparsities=[0.9, 0.98]"
    """
    kind, example = LISTS.get(where, ("texts or numbers", "[...]"))
    quotes = "; a shell needs single quotes around the whole setting" if '"' in example else ""
    return f"'{where}' is {value!r}, expected a list of {kind}, as {where}={example}{quotes}"


def toml_value(text: str) -> Any:
    """Return the value that a TOML text stands for, or a table of JSON; a bare word is a text.

    >>> toml_value("4"), toml_value("{a = [0, 5]}"), toml_value('{"a": [0, 5]}'), toml_value("mlp")
    (4, {'a': [0, 5]}, {'a': [0, 5]}, 'mlp')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        with suppress(ValueError, RecursionError):
            if text.startswith("{"):
                return json.loads(text)
        return text


def read_options(settings: Iterable[str], flag: str = "--set", example: str = "cost=cosine") -> dict[str, Any]:
    """Return the options that `key=value` texts give; values are TOML, bare words are text.

    Args:
        settings: as users write them.
        flag: before which they stand, for the error.
        example: of one, for the error.

    Raises:
        ConfigError: for a text without key or sign.

    >>> read_options(["cost=cosine", "rounds=3"])
    {'cost': 'cosine', 'rounds': 3}
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"{flag} {setting}: expected key=value, for instance {flag} {example}")
        found[key.strip()] = toml_value(text.strip())
    return found
