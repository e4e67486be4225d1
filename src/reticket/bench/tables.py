"""The tables of TicketBench: accuracy beside cost, ensembles, and the claims of all tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reticket.analysis import mean_interval
from reticket.bench.claims import CONFIDENCE, ClaimRow
from reticket.bench.record import BenchTask
from reticket.figures.columns import MATCHED, METHOD, PLACE, N, decimals
from reticket.figures.looks import is_oracle, label
from reticket.figures.table import Column, Table, column
from reticket.figures.text import DASH, duration, number, percent, plural, position
from reticket.records import Stat
from reticket.report.accuracy_rows import accuracy_rows
from reticket.report.costed import SHARING, epochs
from reticket.report.metric_words import MetricWords
from reticket.tasks.checks.diversity import Diversity
from reticket.tasks.results_builder import ORDER
from reticket.tasks.rows import Row

VERDICTS = {"for": "holds", "against": "the contrary holds", "open": "open"}
PLACES = (METHOD, PLACE[2], MATCHED)  # the sparsity of a task is one


@dataclass(frozen=True)
class TaskClaim:
    """A claim with the task that it is of."""

    task: str
    claim: ClaimRow

    @property
    def words(self) -> str:
        """The claim as the field writes its methods."""
        return f"{label(self.claim.higher)} > {label(self.claim.lower)}"

    @property
    def interval(self) -> str:
        """The mean difference with its interval."""
        claim = self.claim
        if claim.low is None or claim.high is None:
            return number(claim.mean, 2, sign=True)
        return f"{number(claim.mean, 2, sign=True)} [{number(claim.low, 2)}, {number(claim.high, 2)}]"


def claims_table(tasks: Iterable[BenchTask]) -> Table:
    """Return every claim of tasks with its p, adjusted over all of the record, and its verdict."""
    rows = [TaskClaim(task.name, claim) for task in tasks for claim in task.claims]
    at = column("match_at", "matched at", lambda at: "the end" if at == "end" else position(at), "claim.match_at")
    return Table.of(
        "claims",
        rows,
        (
            column("task", "task"),
            column("claim", "claim", get="words"),
            column("sparsity", "sparsity", percent, "claim.sparsity"),
            column("rewind", "rewind", position, "claim.rewind"),
            at,
            column("n", "n", get="claim.n"),
            Column("difference (points)", lambda row: row.interval, lambda row: {"mean": row.claim.mean}),
            column("p", "p", p_text, "claim.p"),
            column("adjusted", "p (Holm)", p_text, "claim.adjusted"),
            column("verdict", "verdict", VERDICTS.__getitem__, "claim.verdict"),
        ),
    )


def p_text(p: float) -> str:
    """Return a p value as one reads it.

    >>> p_text(0.0423), p_text(3.2e-9), p_text(1.0)
    ('0.042', '3e-09', '1')
    """
    return f"{p:.2g}" if p >= 1e-3 else f"{p:.0e}"


def accuracy_table(task: BenchTask) -> Table:
    """Return accuracy with its interval, ensembles and costs of every method of a task."""
    results, words = task.found, MetricWords.of(task.found)
    ensembles = {_place(one): one for one in results.of(Diversity) if one.protocol == "one ticket"}

    def ensemble(row: Row) -> str:
        found = ensembles.get(_place(row))
        return DASH if found is None else _ensemble_text(found)

    return Table.of(
        "accuracy",
        accuracy_rows(results),
        (
            *PLACES,
            Column(words.heading, with_interval, lambda row: {"mean": row.mean}),
            N,
            Column("ensemble, one ticket (%)", ensemble, lambda row: {"ensemble": ensemble(row)}, bool),
            *(_epochs_column(sharing) for sharing in SHARING),
            Column("seconds, m = 1", _seconds, lambda row: {"seconds": row.own_seconds}),
        ),
    )


def diversity_table(task: BenchTask) -> Table:
    """Return what ensembles of one ticket gain, how members differ, and what one costs, beside independent runs.

    Nothing where no ensemble shares a ticket: those of all seeds of a table stand for nothing there.
    """
    shared = [one for one in task.found.of(Diversity) if one.protocol == "one ticket"]
    rewinds = {None, *(one.rewind for one in shared)}
    alone = [one for one in task.found.of(Diversity) if one.protocol == "independent" and is_oracle(one.method)]
    return Table.of(
        "diversity",
        [one for one in (*alone, *shared) if shared and one.rewind in rewinds],
        (
            *PLACES,
            column("protocol", "protocol"),
            column("members", "members"),
            N,
            decimals("mean_accuracy", "mean (%)", 2),
            Column("ensemble (%)", _ensemble_text, lambda row: {"ensemble": row.ensemble_accuracy}),
            decimals("disagreement", "disagreement", 3),
            decimals("kl", "KL (nats)", 3),
            decimals("js", "JS (nats)", 3),
            *(_epochs_column(sharing) for sharing in SHARING),
        ),
    )


def _place(row: Row | Diversity) -> tuple[str, float, str | None, str | None]:
    return row.method, row.sparsity, row.rewind, row.match_at


def _epochs_column(sharing: int) -> Column:
    def text(row: Row | Diversity) -> str:
        return epochs(row.epochs_each(sharing))

    return Column(f"epochs, m = {sharing}", text, lambda row: {f"epochs_{sharing}": row.epochs_each(sharing)})


def _seconds(row: Row) -> str:
    if row.own_seconds is None or row.shared_seconds is None:
        return DASH
    return duration(row.own_seconds + row.shared_seconds)


def with_interval(stat: Stat) -> str:
    """Return a mean with half the width of its 95 % interval, or the mean alone.

    >>> with_interval(Stat(n=3, mean=92.0, sd=1.0, values=(91.0, 92.0, 93.0))), with_interval(Stat(n=1, mean=93.0))
    ('92.00 ± 2.48', '93.00')
    """
    values = [value for value in stat.values if value is not None]
    if len(values) < 2:
        return number(stat.mean, 2)
    low, high = mean_interval(values, CONFIDENCE)
    return f"{number(stat.mean, 2)} ± {number((high - low) / 2, 2)}"


def _ensemble_text(one: Diversity) -> str:
    over = one.over_tickets
    return number(one.ensemble_accuracy, 2) if over is None else with_interval(over.ensemble_accuracy)


def shown_claims(claims: Sequence[ClaimRow]) -> str:
    """Return how many claims are settled, in words.

    >>> shown_claims([])
    'no claims: they need LTH and permuted, or permuted and naive'
    """
    if not claims:
        return f"no claims: they need {', or '.join(' and '.join(map(label, step)) for step in ORDER)}"
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in VERDICTS}
    whole = plural(len(claims), "claim")
    return f"{whole}: {counts['for']} hold, {counts['against']} hold the other way, {counts['open']} open"
