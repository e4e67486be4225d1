"""The experiments that ship with the package, and how a name or a file becomes a configuration."""

import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from reticket.errors import ConfigError
from reticket.files import read_text
from reticket.lookup import find_modules_beside, nearest
from reticket.tasks.config import Config, override, parse_config

DEFAULT = "digits"


def list_presets() -> dict[str, str]:
    """Return every preset's name and title.

    >>> "digits" in list_presets()
    True
    """
    return {name: _read(name)["title"] for name in _names()}


def load_config(source: str | Path = DEFAULT, settings: Iterable[str] = ()) -> tuple[str, Config]:
    """Return the short name and the checked configuration of a preset or of a TOML file.

    Modules that a file names are found beside it too.

    Args:
        source: a preset's name, or the path of a file (it ends in `.toml` or exists).
        settings: `key=value` texts that replace single fields.

    Raises:
        ConfigError: for an unknown preset (with the nearest right name), an unreadable file or a wrong value.
    """
    path = Path(source)
    if path.suffix == ".toml" or path.is_file():
        name, values = path.stem, _parse(path)
        find_modules_beside(path)
    elif str(source) in _names():
        name, values = str(source), _read(str(source))
    else:
        raise ConfigError(_unknown(path))
    return name, parse_config(override(values, settings), str(source))


def _unknown(source: Path) -> str:
    """Return what to say of a source that is neither a preset nor a file."""
    if source.is_dir():
        inside = source / "config.toml"
        there = f"; give {inside}" if inside.is_file() else " without a config.toml; give a TOML file"
        return f"'{source}' is a folder{there}, or a preset's name (reticket list presets)"
    hint = nearest(str(source), _names()) or f", known: {', '.join(_names())}"
    return f"unknown preset '{source}'{hint} (a file's name must end in .toml)"


def _names() -> list[str]:
    folder = resources.files("reticket.tasks") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("reticket.tasks") / "presets" / f"{name}.toml").read_text("utf-8"))


def _parse(path: Path) -> dict[str, Any]:
    text = read_text(path, error=ConfigError, advice="give a preset's name or a TOML file")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML ({error})") from None
