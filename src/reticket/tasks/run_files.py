"""The files of a run directory, read as they are, with the damaged place named."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticket.errors import InputError
from reticket.files import read_text


def text_of(path: Path) -> str:
    """Return a file's text, empty where there is no file.

    Raises:
        InputError: when it cannot be read.
    """
    return read_text(path, error=InputError, advice="run it again") if path.is_file() else ""


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file that holds a table.

    Raises:
        InputError: when it cannot be read, is not JSON or holds something else.
    """
    try:
        values = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON (line {error.lineno}: {error.msg}); run it again") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: holds a number or a nesting that no run writes; run it again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a table at the top, saw {type(values).__name__}; run it again")
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's tables, none where there is no file.

    Raises:
        InputError: when it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(text_of(path))
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not TOML ({error}); restore it or run again") from None


@dataclass(frozen=True)
class SweepFile:
    """What `sweep.json` says: one field of a configuration with several values, each an experiment of its own.

    Args:
        title, preset: as in the results of an experiment.
        key: the field.
        values: by folder below the run directory, its value, of those experiments that have results.
        missing: folders of those that have none.
    """

    title: str
    preset: str
    key: str
    values: Mapping[str, Any]
    missing: tuple[str, ...]


def read_sweep_file(run_dir: Path) -> SweepFile:
    """Read `sweep.json` and see which experiments have results.

    Args:
        run_dir: the directory of a sweep.

    Raises:
        InputError: when it is damaged, or no experiment of it has results.
    """
    path = run_dir / "sweep.json"
    content = read_json(path)
    listed = content.get("variants")
    if not isinstance(listed, list) or not all(
        isinstance(variant, dict) and isinstance(variant.get("folder"), str) for variant in listed
    ):
        raise InputError(f"{path}: damaged at 'variants', each needs a value and a folder; run it again")
    try:
        there = {variant["folder"]: (run_dir / variant["folder"] / "results.json").is_file() for variant in listed}
    except OSError as error:
        raise InputError(
            f"{path}: damaged at 'variants', a folder cannot be looked at ({error.strerror}); run it again"
        ) from None
    if not any(there.values()):
        raise InputError(f"{run_dir}: no experiment of the sweep has results; run `reticket run` into it first")
    title, preset, key = (str(content.get(name, "")) for name in ("title", "preset", "key"))
    values = {variant["folder"]: variant.get("value") for variant in listed if there[variant["folder"]]}
    return SweepFile(title, preset, key, values, tuple(folder for folder, found in there.items() if not found))
