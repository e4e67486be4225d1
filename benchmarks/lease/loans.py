"""What loans of a GPU left, read and checked: their answers, schedules and cells."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reticket.errors import InputError

COMMAND = "python -m benchmarks.lease --data DIR --out OUT --budget 540"
FIGURES = ("accuracy", "true_sparsity", "loss")


class Schedule(NamedTuple):
    """What loans must have in common to be pooled: dense epochs, epochs a round, rewind point, precision, and so on."""

    epochs: int
    retraining: int
    rewind: str
    precision: str
    matched_on: int | None  # images; None for all


class Cell(NamedTuple):
    """A cell of the row; `sparsity` is the nominal fraction pruned, 0 for the dense network."""

    method: str
    sparsity: float
    match_at: str | None = None

    @property
    def name(self) -> str:
        """Return the method in words, with the position of matching where it is not the end."""
        early = "" if self.match_at in (None, "end") else f", matched at {self.match_at}"
        return ("LTH" if self.method == "lth" else self.method) + early


@dataclass(frozen=True)
class Loan:
    """What one loan left.

    Args:
        name: of its file.
        found: its JSON.
    """

    name: str
    found: Mapping[str, Any]

    def answer(self, question: str) -> Mapping[str, Any]:
        """Return an answer, {} where it has no figures."""
        return {} if self.missing(question) else self.found["answers"][question]

    def missing(self, question: str) -> str:
        """Return why an answer has no figures, "" where it has."""
        value = self.found["answers"].get(question)
        if self.found.get("tiny"):
            return "a rehearsal measures nothing"
        if not value:
            return "the loan did not come to it"
        if question in ("throughput", "row"):
            return "" if value.get("rows") else reason_of(value) or "nothing of it was done"
        return reason_of(value)

    @property
    def card(self) -> str:
        """Return the name of the GPU."""
        return self.found["environment"].get("device", "unknown device")

    @property
    def schedule(self) -> Schedule:
        """Return the schedule of its row."""
        row = self.answer("row")
        epochs, retraining, rewind, precision = (row[name] for name in ("epochs", "retraining", "rewind", "precision"))
        return Schedule(epochs, retraining, rewind, precision, row.get("matched_on"))


def read_loans(paths: Iterable[Path]) -> tuple[Loan, ...]:
    """Return the loans of these files.

    Raises:
        InputError: for a file that cannot be read or is not a lease's, and where a pair was measured twice.
    """
    loans = tuple(_read(path) for path in paths)
    _check_seeds(loans)
    return loans


def _read(path: Path) -> Loan:
    hint = f"give files that {COMMAND.split(' --')[0]} wrote"
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {hint}") from None
    if not isinstance(found, dict) or found.get("schema") != 1:
        seen = found.get("schema") if isinstance(found, dict) else type(found).__name__
        raise InputError(f"{path}: schema is {seen!r}, expected 1; {hint}")
    return Loan(path.name, {"environment": {}, "answers": {}, **found})


def _check_seeds(loans: Sequence[Loan]) -> None:
    seen: dict[tuple[Schedule, int], str] = {}
    for loan in loans:
        rows = loan.answer("row").get("rows", [])
        cells = [(cell_of(row), row["seed"]) for row in rows]
        twice = next((where for n, where in enumerate(cells) if where in cells[:n]), None)
        if twice:
            raise InputError(f"{loan.name}: {twice[0].name} of pair {twice[1]} stands there twice; leave one out")
        for seed in dict.fromkeys(seed for _, seed in cells):
            other = seen.setdefault((loan.schedule, seed), loan.name)
            if other != loan.name:
                raise InputError(
                    f"{loan.name}: pair {seed} at T = {loan.schedule.epochs} is in {other} too, and one pair counts "
                    f"once; leave one file out, and give the next loan pairs of its own with --first-seed"
                )


def cell_of(row: Mapping[str, Any]) -> Cell:
    return Cell(row["method"], row.get("sparsity") or 0.0, row.get("match_at"))


def reason_of(value: Mapping[str, Any]) -> str:
    """Return why there are no figures, as text that may stand in a table, or nothing."""
    said = value.get("error") or value.get("skipped")
    words = " ".join(said.split()).rstrip(".") if isinstance(said, str) else ""
    return (words if len(words) <= 200 else words[:199] + "…").replace("|", "\\|").replace("<", "&lt;")
