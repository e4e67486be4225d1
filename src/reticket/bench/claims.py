"""The claims of TicketBench: LTH > permuted > naive in every cell of a task, tested over all tasks together."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product

from pydantic import Field

from reticket.analysis import settle_claims
from reticket.records import Number, Stat
from reticket.tasks.config import GridConfig
from reticket.tasks.results import Results
from reticket.tasks.results_builder import ORDER
from reticket.tasks.rows import MATCH_AT, REWIND, SPARSITY

LEVEL = 0.01  # at which a claim is settled, of all claims together
CONFIDENCE = 0.95


class ClaimRow(Stat):
    """One claim, that `higher` is better than `lower`: differences paired by seed, and a verdict."""

    higher: str = Field(description="the method that is claimed to be better")
    lower: str = Field(description="the method that is claimed to be worse")
    sparsity: float = Field(description=SPARSITY)
    rewind: str = Field(description=REWIND)
    match_at: str = Field(description=MATCH_AT)
    low: Number = Field(default=None, description="lower bound of the mean, Student's t, of this claim by itself")
    high: Number = Field(default=None, description="upper bound of the mean")
    p: float = Field(default=1.0, description="of the paired two-sided t test; 1 below two seeds")
    adjusted: float = Field(default=1.0, description="p after Holm's adjustment over all claims of the file")
    verdict: str = Field(default="open", description="'for', 'against' or 'open'")

    @property
    def words(self) -> str:
        """The claim, "lth > permuted"."""
        return f"{self.higher} > {self.lower}"


def claims_of(results: Results, grid: GridConfig) -> tuple[ClaimRow, ...]:
    """Return the claims of a task with what is known of their differences, not judged yet.

    There is one for every step of the order in every cell that the table should have, whether it has it or not.

    Args:
        results: of the task, however far it has come.
        grid: what was to be computed.
    """
    steps = [step for step in ORDER if set(step) <= set(grid.methods)]
    return tuple(
        _claim(results, higher, lower, sparsity, rewind, match_at)
        for sparsity, rewind, match_at in product(grid.sparsities, grid.rewinds, grid.match_at)
        for higher, lower in steps
    )


def judged(claims: Sequence[ClaimRow], level: float = LEVEL) -> tuple[ClaimRow, ...]:
    """Return claims with p, adjusted p and verdict, tested together.

    Args:
        claims: all that is claimed.
        level: of all of them together.
    """
    found = settle_claims([_values(claim) for claim in claims], level=level, confidence=CONFIDENCE)
    return tuple(claim.model_copy(update=asdict(one)) for claim, one in zip(claims, found, strict=True))


def _values(claim: ClaimRow) -> list[float]:
    return [value for value in claim.values if value is not None]


def _claim(results: Results, higher: str, lower: str, sparsity: float, rewind: str, match_at: str) -> ClaimRow:
    metric = results.experiment.metric
    here = [
        row
        for row in results.rows
        if row.metric == metric.name and (row.sparsity, row.rewind) == (sparsity, rewind)
        if row.match_at in (match_at, None)
    ]
    one, other = (next((row.by_seed for row in here if row.method == name), {}) for name in (higher, lower))
    values = tuple(metric.better_by(one[seed], other[seed]) for seed in one if seed in other)
    return ClaimRow(higher=higher, lower=lower, sparsity=sparsity, rewind=rewind, match_at=match_at, values=values)
