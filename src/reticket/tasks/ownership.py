"""Which experiment a run directory belongs to: a report is never overwritten by that of another experiment."""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reticket.errors import ConfigError, InputError
from reticket.experiment import used
from reticket.tasks.config import Config, parse_config
from reticket.tasks.run_files import read_toml
from reticket.tasks.sweep import variants

RUNS = Path("runs")
RESULTS = ("results.json", "sweep.json")
OF_ANY_RUN = ("environment.json", *RESULTS)  # a run has written the first before any other file
REPLACED = ("config.toml", "report.html")  # files of any folder that a run would replace


def own_folder(config: Config, name: str) -> tuple[Path, str]:
    """Return `runs/NAME`, or `runs/NAME-2` and so on where others have results of another experiment.

    Args:
        config: the experiment, scaled.
        name: its short name.

    Returns:
        The folder, and what to say when it is not the first; empty otherwise.
    """
    first = RUNS / name
    others = (first.with_name(f"{name}-{number}") for number in itertools.count(2))
    every = itertools.chain([first], others)
    folder = next(one for one in every if not (difference(config, one) or foreign_file(config, one)))
    if folder == first:
        return folder, ""
    if file := foreign_file(config, first):
        return folder, f"{first} is kept, no run wrote the {file} in it; this one goes to {folder}"
    there = difference(config, first)
    return folder, f"{first} is kept, it is another experiment's ({there}); this one goes to {folder}"


def refuse_other(config: Config, folder: Path) -> None:
    """See that a directory which the user names has no results of another experiment, and no file of another hand.

    Args:
        config: the experiment, scaled.
        folder: the run directory.

    Raises:
        ConfigError: when it has.
    """
    refuse_foreign_file(config, folder)
    if there := difference(config, folder):
        raise ConfigError(
            f"{folder} holds the results of another experiment ({there}); give another --out, or --force to replace "
            f"its report (the store is kept)"
        )


def refuse_foreign_file(config: Config, folder: Path) -> None:
    """See that a run replaces no file of another hand.

    Args:
        config: the experiment, scaled.
        folder: a run directory, or any other.

    Raises:
        ConfigError: when it would.
    """
    if file := foreign_file(config, folder):
        raise ConfigError(
            f"{folder} has a {file} that no run wrote, and this one would replace it; give another --out, or move it"
        )


def release(config: Config, folder: Path) -> None:
    """Let a run directory go, so that another experiment may write into it; its store is kept.

    Args:
        config: that experiment, scaled.
        folder: the run directory.

    Raises:
        ConfigError: when it has files of another hand.
        InputError: when its results cannot be removed.
    """
    refuse_foreign_file(config, folder)
    known = (folder / OF_ANY_RUN[0]).is_file()  # without it, it is the results that say whose the others are
    try:
        for name in RESULTS if known else (*REPLACED, *RESULTS):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: its results cannot be removed ({error.strerror}); give another --out") from None


def default_store(folder: Path) -> Path:
    """Return where a run directory has its results: its own store, or for `NAME-2` that of `NAME` beside it.

    >>> default_store(Path("runs/digits-2")).as_posix()
    'runs/digits-2/store'
    >>> default_store(Path(".")).as_posix()
    'store'
    """
    own, first = folder / "store", re.sub(r"-\d+$", "", folder.name)
    if own.is_dir() or first in ("", "..", folder.name):  # as of ".", which has no name
        return own
    beside = folder.with_name(first) / "store"
    return beside if beside.is_dir() else own


def difference(config: Config, folder: Path) -> str:
    """Say in which key the experiment with results in a folder differs from this one; empty where none does.

    Args:
        config: the experiment, scaled.
        folder: a run directory; one without results belongs to nobody, unless a run is at it now.
    """
    owned = any((folder / name).is_file() for name in RESULTS)
    return unlike(config, folder) if owned or ((folder / "config.toml").is_file() and used(folder)) else ""


def foreign_file(config: Config, folder: Path) -> str:
    """Return a file in a folder that a run would replace although none wrote it; empty where there is none.

    Args:
        config: the experiment, scaled; of a sweep the folders of its experiments count too.
        folder: a run directory, or any other.
    """
    own = [Path(variant.folder) for variant in variants(config)] if config.sweep else []
    for part in (Path(), *own):
        if not any((folder / part / name).is_file() for name in OF_ANY_RUN):
            for name in REPLACED:
                if (folder / part / name).exists():
                    return (part / name).as_posix()
    return ""


def unlike(config: Config, folder: Path) -> str:
    """Say in which key the experiment that a folder's `config.toml` has differs from this one; empty where none does.

    Args:
        config: the experiment, scaled.
        folder: a run directory.
    """
    try:
        there = parse_config(read_toml(folder / "config.toml"), str(folder / "config.toml"))
    except (ConfigError, InputError):
        return "its configuration cannot be read"
    return next(
        (f"{key} is {theirs!r} there and {ours!r} here" for key, (theirs, ours) in differing(there, config)), ""
    )


def differing(there: Config, here: Config) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the keys whose values two configurations do not share, with both; `None` where one has none.

    Args:
        there, here: the configurations.
    """
    # not the objects: one that was read has the defaults of options that the other leaves to be filled in
    theirs, ours = (dict(flat(one.model_dump())) for one in (there, here))
    for key in {**theirs, **ours}:
        if theirs.get(key) != ours.get(key):
            yield key, (theirs.get(key), ours.get(key))


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables by their keys with dots, as `--set` takes them.

    Args:
        values: the tables.
        prefix: stands before every key.

    >>> dict(flat({"grid": {"seeds": 5}, "title": "short"}))
    {'grid.seeds': 5, 'title': 'short'}
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
