"""The files of a run directory, read as they are, with the damaged place named."""

import json
import tomllib
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
