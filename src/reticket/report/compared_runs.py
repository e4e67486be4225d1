"""Runs beside each other: what they are called, which settings they do not share, which of their cells differ."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reticket.errors import ConfigError, InputError
from reticket.figures.columns import PLACE
from reticket.figures.table import Column, Table, Value, column, file_name
from reticket.figures.text import DASH, number, plus_minus, without_folders
from reticket.records import Stat
from reticket.report.accuracy_rows import accuracy_rows
from reticket.report.metric_words import MetricWords
from reticket.report.run_folder import RunFolder, read_run
from reticket.tasks.comparison import Comparison
from reticket.tasks.config import parse_config
from reticket.tasks.ownership import flat
from reticket.tasks.results import Results
from reticket.tasks.rows import Row
from reticket.tasks.run_files import read_sweep_file

DIGITS = {"accuracy": 2}  # decimals of a metric, others have three
OF_NO_RESULT = ("title", "reference")  # settings that only name the experiment
OF_NO_VALUE = ("date", "jobs", "cores", "executor", "computed_with")  # entries of the environment that decide no bits


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs that are compared.

    Args:
        name: the end of its folder's path that no other run has.
        results: what it found.
        settings: by key with dots, what its configuration and its environment say.
    """

    name: str
    results: Results
    settings: Mapping[str, str]


@dataclass(frozen=True)
class RunPair:
    """A run beside the reference.

    Args:
        run, reference: the two.
        cells: of either table, differences being those of the run less the reference.
    """

    run: ComparedRun
    reference: ComparedRun
    cells: tuple[Comparison, ...]

    @classmethod
    def of(cls, run: ComparedRun, reference: ComparedRun, confidence: float = 0.95) -> "RunPair":
        """Compare two runs.

        Args:
            run, reference: the two.
            confidence: of the intervals, in (0, 1).
        """
        return cls(run, reference, run.results.compare(reference.results, confidence=confidence))

    @property
    def name(self) -> str:
        """The difference in words."""
        return f"{self.run.name} \u2212 {self.reference.name}"

    @property
    def words(self) -> MetricWords:
        """What the reference is judged by, in words and numbers."""
        return MetricWords.of(self.reference.results)

    @property
    def metric(self) -> str:
        """The name of what the reference is judged by."""
        return self.words.name

    def heading(self, metric: str) -> str:
        """Return a metric with its unit.

        Args:
            metric: its name.
        """
        unit = self.words.metric.loss_unit
        return self.words.heading if metric == self.metric else f"test {metric}{f' ({unit})' if unit else ''}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the cells, that which the runs are judged by in front."""
        return tuple(sorted({cell.metric for cell in self.cells}, key=lambda one: (one != self.metric, one)))

    def of_metric(self, metric: str) -> tuple[Comparison, ...]:
        """Return the cells of one metric.

        Args:
            metric: "accuracy" or "loss".
        """
        return tuple(cell for cell in self.cells if cell.metric == metric)


def read_runs(folders: Sequence[Path]) -> tuple[ComparedRun, ...]:
    """Read the runs that are to be compared; a sweep stands for its experiments.

    Args:
        folders: run directories, the reference first.

    Raises:
        ConfigError: when they are fewer than two, or one is named twice.
        InputError: when one is missing or damaged.
    """
    whole = [single for folder in folders for single in _experiments(folder)]
    twice = [str(folder) for folder, count in Counter(folder.resolve() for folder in whole).items() if count > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is named twice; give each run once")
    if len(whole) < 2:
        raise ConfigError(f"{', '.join(map(str, folders)) or 'nothing'} is one run; give two or more to compare")
    found = [read_run(folder) for folder in whole]
    judged = {folder: run.results.experiment.metric.name for folder, run in zip(whole, found, strict=True)}
    if odd := [folder for folder, metric in judged.items() if metric != judged[whole[0]]]:
        raise ConfigError(
            f"{odd[0]} is judged by {judged[odd[0]]} and {whole[0]} by {judged[whole[0]]}; "
            "compare runs of one objective"
        )
    settings = _settings_of(found)
    names = distinct_names([folder.resolve() for folder in whole])
    return tuple(
        ComparedRun(name, run.results, dict(mine)) for name, run, mine in zip(names, found, settings, strict=True)
    )


def _experiments(folder: Path) -> Iterator[Path]:
    if (folder / "sweep.json").is_file():
        yield from (folder / name for name in read_sweep_file(folder).values)
    else:
        yield folder


def distinct_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return for each folder the shortest end of its path that none of the others has.

    Args:
        folders: different ones.

    >>> distinct_names([Path("/runs/digits"), Path("/old/runs/digits"), Path("/runs/fashion")])
    ('/runs/digits', 'old/runs/digits', 'fashion')
    """
    return tuple(_shortest(folder, [other for other in folders if other != folder]) for folder in folders)


def _shortest(folder: Path, others: Iterable[Path]) -> str:
    parts, taken = folder.parts, [other.parts for other in others]
    for count in range(1, len(parts) + 1):
        if not any(other[-count:] == parts[-count:] for other in taken):
            return str(Path(*parts[-count:]))
    return str(folder)


def _settings_of(runs: Iterable[RunFolder]) -> list[dict[str, str]]:
    """Return the settings of every run by key with dots, with defaults where all configurations can be read."""
    found = list(runs)
    try:
        configs = [parse_config(run.config, "config.toml").model_dump(mode="json") for run in found]
    except (ConfigError, InputError):
        configs = [run.config for run in found]
    return [_settings(config, run) for config, run in zip(configs, found, strict=True)]


def _settings(config: Mapping[str, Any], run: RunFolder) -> dict[str, str]:
    environment = {key: value for key, value in run.results.environment.items() if key not in OF_NO_VALUE}
    mine = {key: value for key, value in flat(config) if key not in OF_NO_RESULT}
    both = {**mine, **dict(flat(environment, "environment: "))}
    return {key: without_folders(_words(value)) for key, value in both.items() if value not in (None, [], "")}


def _words(value: Any) -> str:
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)


def differing_settings(runs: Sequence[ComparedRun]) -> Table | None:
    """Return the settings that the runs do not share, a column for each run, or None where they share all.

    Args:
        runs: the runs.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    lines = {key: [run.settings.get(key, DASH) for run in runs] for key in keys}
    body = tuple((key, *line) for key, line in lines.items() if len(set(line)) > 1)
    head = ("setting", *(run.name for run in runs))
    records = tuple(dict(zip(head, line, strict=True)) for line in body)
    return Table("settings", records, head, body) if body else None


def accuracy_table(runs: Sequence[ComparedRun]) -> Table:
    """Return the accuracy of every cell that any run has, a column for each run.

    Args:
        runs: the runs.
    """
    found = {run.name: {_place(row): row for row in accuracy_rows(run.results)} for run in runs}
    cells = {place: row for rows in found.values() for place, row in rows.items()}
    columns = (*PLACE, *(_of_run(name, rows) for name, rows in found.items()))
    return Table.of("accuracies", tuple(cells.values()), columns)


def _place(row: Row) -> tuple[Any, ...]:
    return row.method, row.sparsity, row.rewind, row.match_at


def _of_run(name: str, rows: Mapping[tuple[Any, ...], Row]) -> Column:
    def text(row: Row) -> str:
        mine = rows.get(_place(row))
        return DASH if mine is None else plus_minus(mine, DIGITS.get(mine.metric, 3))

    def record(row: Row) -> Mapping[str, Value]:
        mine: Stat = rows.get(_place(row), Stat())
        return {f"{name}_mean": mine.mean, f"{name}_sd": mine.sd, f"{name}_n": mine.n}

    return Column(name, text, record)


def difference_table(pair: RunPair, metric: str) -> Table:
    """Return every cell of two runs with both values and their difference.

    Args:
        pair: the runs.
        metric: "accuracy" or "loss".
    """
    digits = DIGITS.get(metric, max(3, pair.words.digits + 1))
    columns = (
        *PLACE,
        column("metric"),
        _side(pair.run.name, "run", "here", digits),
        _side(pair.reference.name, "reference", "there", digits),
        Column("difference", partial(_difference_words, digits=digits), _difference_record),
        column("n", "paired seeds", lambda n: str(n) if n else DASH),
    )
    return Table.of(file_name(f"{pair.run.name}-less-{pair.reference.name}-{metric}"), pair.of_metric(metric), columns)


def _side(name: str, short: str, attribute: str, digits: int) -> Column:
    def text(cell: Comparison) -> str:
        stat: Stat | None = getattr(cell, attribute)
        return DASH if stat is None else plus_minus(stat, digits)

    def record(cell: Comparison) -> Mapping[str, Value]:
        stat: Stat = getattr(cell, attribute) or Stat()
        return {f"{short}_mean": stat.mean, f"{short}_sd": stat.sd, f"{short}_n": stat.n}

    return Column(name, text, record)


def _difference_words(cell: Comparison, digits: int) -> str:
    if cell.same:
        return "equal"
    words = number(cell.difference, digits, sign=True)
    return words if cell.low is None else f"{words} [{number(cell.low, digits)}, {number(cell.high, digits)}]"


def _difference_record(cell: Comparison) -> Mapping[str, Value]:
    return {"difference": cell.difference, "low": cell.low, "high": cell.high, "confidence": cell.confidence}
