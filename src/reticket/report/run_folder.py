"""A run directory as a report needs it: the results, the configuration they were made with, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticket.tasks.results import Results
from reticket.tasks.run_files import read_json, read_toml, text_of


@dataclass(frozen=True)
class RunFolder:
    """A run directory's files, read.

    Args:
        results: what `results.json` holds.
        config: the tables of `config.toml`; none where it is absent.
        config_text: its text.
        environment: where the run was made, of the results and of `environment.json`.
    """

    results: Results
    config: Mapping[str, Any]
    config_text: str
    environment: Mapping[str, Any]


def read_run(run_dir: Path) -> RunFolder:
    """Read `results.json`, `config.toml` and `environment.json` of a run directory; the last two may be missing.

    Args:
        run_dir: the directory that `reticket run` wrote.

    Raises:
        InputError: when the directory or `results.json` is missing, or a file is damaged.
    """
    results = Results.load(run_dir)
    config, environment = run_dir / "config.toml", run_dir / "environment.json"
    seen = read_json(environment) if environment.is_file() else {}
    return RunFolder(results, read_toml(config), text_of(config), dict(results.environment) | seen)
