"""Where the files of a data set are: the folder given, RETICKET_DATA, or a Debian package's place."""

import os
from collections.abc import Callable
from pathlib import Path

from reticket.errors import DataError

VARIABLE = "RETICKET_DATA"


def base_folders(folder: Path | None) -> tuple[Path, ...]:
    """Return the folder given, or else what RETICKET_DATA names, or nothing."""
    variable = os.environ.get(VARIABLE)
    return (folder,) if folder is not None else (Path(variable),) if variable else ()


def find_folder(
    name: str,
    folder: Path | None,
    holds_data: Callable[[Path], bool],
    *,
    subfolders: tuple[str, ...],
    system: Path | None,
    advice: str,
) -> Path:
    """Return the first place that holds the data set.

    Args:
        name: of the data set, for the error.
        folder: the caller's; when given, no other place is tried.
        holds_data: whether a path is the place; it may be a file (an archive).
        subfolders: names under which a parent folder may hold it.
        system: where the system's package puts it.
        advice: what to install or download, an imperative sentence without a full stop.

    Raises:
        DataError: when no place holds it; it lists the places and gives the advice.
    """
    places = [place for base in base_folders(folder) for place in (base, *(base / sub for sub in subfolders))]
    if folder is None and system is not None:
        places.append(system)
    for place in places:
        if holds_data(place):
            return place
    tried = ", ".join(f"'{place}'" for place in places) or f"nowhere, {VARIABLE} is not set"
    raise DataError(
        f"data set '{name}' was not found (looked in: {tried}); {advice}, or name its folder (or a parent of it) with "
        f"{VARIABLE} or --data"
    )
