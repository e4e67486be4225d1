"""The section that shows a run beside the paper: ours, theirs, and the difference in standard deviations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from reticket.figures import published
from reticket.figures.columns import METHOD, PLACE, SPARSITY
from reticket.figures.finding import Finding
from reticket.figures.looks import label
from reticket.figures.table import Column, Table, column
from reticket.figures.text import DASH, PERCENT, listed, number, percent, plus_minus, position, rewound
from reticket.report.against import Meeting, departures, meetings
from reticket.report.gap import open_gap
from reticket.report.scale import scale_words
from reticket.tasks.checks.diversity import Diversity
from reticket.tasks.results import Results
from reticket.tasks.rows import Experiment

KEY = ("lth", "naive", "permuted")


def _their_place(meeting: Meeting) -> str:
    theirs = meeting.theirs
    matched = f", matched at {theirs.match_epoch}" if theirs.match_epoch is not None else ""
    return f"{theirs.rewind_epoch}{matched}"


def _record(meeting: Meeting) -> dict[str, Any]:
    ours, theirs = meeting.row, meeting.theirs
    return {
        "ours_mean": ours.mean, "ours_sd": ours.sd, "ours_n": ours.n, "published_mean": theirs.mean,
        "published_sd": theirs.sd, "published_n": theirs.n, "published_rewind_epoch": theirs.rewind_epoch,
        "published_match_epoch": theirs.match_epoch, "same_epoch": meeting.same_epoch, "difference": meeting.difference,
        "sd": meeting.sd, "sd_of": meeting.whose, "difference_in_sds": meeting.in_sds,
    }  # fmt: skip


_MEETINGS = (
    METHOD,
    SPARSITY,
    column("true_sparsity", "true", percent, get="row.true_sparsity"),
    *PLACE[2:],
    Column("ours (%)", lambda one: plus_minus(one.row, 2), _record),
    column("n", "n", get="row.n"),
    Column("published (%)", lambda one: plus_minus(one.published, 2), lambda _: {}),
    Column("n", lambda one: str(one.theirs.n or "?"), lambda _: {}),
    Column("their epoch", _their_place, lambda _: {}),
    column("difference", "difference (points)", partial(number, digits=2, sign=True)),
    Column("in sd", lambda one: number(one.in_sds, 1, sign=True), lambda _: {}),
    Column("which sd", lambda one: one.whose or "–", lambda _: {}),
)


@dataclass(frozen=True)
class _Beside:
    """An ensemble of ours beside the published one of the same method and protocol."""

    ours: Diversity
    theirs: published.PublishedEnsemble

    method = property(lambda self: self.ours.method)
    sparsity = property(lambda self: self.ours.sparsity)
    rewind = property(lambda self: self.ours.rewind)
    match_at = property(lambda self: self.ours.match_at)
    protocol = property(lambda self: self.ours.protocol)
    members = property(lambda self: self.ours.members)


def _both(name: str, head: str, digits: int) -> Column:
    def values(one: _Beside) -> tuple[float | None, float]:
        return getattr(one.ours, name), getattr(one.theirs, name)

    return Column(
        head,
        lambda one: " / ".join(number(value, digits) for value in values(one)),
        lambda one: dict(zip((f"ours_{name}", f"published_{name}"), values(one), strict=True)),
    )


_ENSEMBLES = (
    *PLACE,
    column("protocol", "protocol"),
    column("members", "members"),
    _both("mean_accuracy", "mean (%)", 2),
    _both("ensemble_accuracy", "ensemble (%)", 2),
    _both("disagreement", "disagreement", 3),
    _both("kl", "KL (nats)", 3),
    _both("js", "JS (nats)", 3),
)


def comparison_tables(results: Results) -> dict[str, Table]:
    """Return the tables of what meets the paper: `paper` of accuracies and `paper_diversity`, where there is any."""
    met, beside = meetings(results), _ensembles(results)
    found = {"paper": Table.of("paper", met, _MEETINGS)} if met else {}
    return found | ({"paper_diversity": Table.of("paper_diversity", beside, _ENSEMBLES)} if beside else {})


MOST_OPEN = 24


def open_tables(results: Results) -> tuple[tuple[str, Table], ...]:
    """Return the tables that stand open, with captions: the accuracies themselves while they are few, else one row for
    each setting."""
    met, tables = meetings(results), comparison_tables(results)
    found = []
    if len(met) > MOST_OPEN:
        found.append(("Accuracies, ours (published), difference in points", _by_setting(met)))
    elif met:
        found.append(("Accuracies", tables["paper"]))
    if "paper_diversity" in tables:
        caption = "Ensembles, ours / published; of the published KL and JS the definition is unknown"
        found.append((caption, tables["paper_diversity"]))
    return tuple(found)


def _by_setting(met: Sequence[Meeting]) -> Table:
    """Return one row for each sparsity and rewind point of the main position of matching, the methods across."""
    main = [one for one in met if one.theirs.match_epoch is None]
    places = list(dict.fromkeys((one.sparsity, one.rewind) for one in main))
    methods = [method for method in KEY if any(one.method == method for one in main)]
    found = {(one.sparsity, one.rewind, one.method): one for one in main}

    def text(place: tuple[float, str | None], method: str) -> str:
        one = found.get((*place, method))
        if one is None:
            return DASH
        theirs = number(one.theirs.mean, 2)
        return f"{plus_minus(one.row, 2)} ({theirs}) {number(one.difference, 2, sign=True)}"

    body = tuple((percent(s), position(k), *(text((s, k), method) for method in methods)) for s, k in places)
    return Table("paper_by_setting", (), ("sparsity", "rewind", *map(label, methods)), body)


def _ensembles(results: Results) -> list[_Beside]:
    known = results.experiment
    here = (known.dataset, known.network, known.width)
    return [
        _Beside(one, theirs)
        for one in results.of(Diversity)
        for theirs in published.ensembles()
        if (theirs.dataset, theirs.model, theirs.width) == here
        and (theirs.method, theirs.protocol) == (one.method, one.protocol)
        and abs(theirs.sparsity - one.sparsity) < 1e-6
    ]


def beside_the_paper(results: Results) -> Finding | None:
    """Return what the comparison says, and how to read it, or None where no cell is published."""
    met = meetings(results)
    if not met and not _ensembles(results):
        return None
    says = [_overall(results, met), *_shares(results, met)] if met else []
    return Finding(None, tuple(filter(None, says)), _caption(results, met))


def _overall(results: Results, met: Sequence[Meeting]) -> str:
    parts = []
    for method in KEY:
        mine = [one.difference for one in met if one.method == method]
        if mine:
            parts.append(f"{number(fmean(mine), 2, sign=True)} points for {label(method)}")
    total = sum(row.metric == "accuracy" for row in results.rows)
    cells = f"{len(met)} of the {total} accuracies of this run are published in {published.source()}"
    return f"{cells}; ours less theirs is {listed(parts)} on average."


def _shares(results: Results, met: Sequence[Meeting]) -> list[str]:
    """Say the share of the gap that "permuted" closes here and there: where all three methods meet, at most three."""
    told = []
    for one in [one for one in met if one.method == "permuted"]:
        place = (one.theirs.sparsity, one.theirs.rewind_epoch)
        there = [other.theirs for other in met if (other.theirs.sparsity, other.theirs.rewind_epoch) == place]
        theirs = {other.method: other.mean for other in there if other.match_epoch is None}
        gap = next((gap for gap in results.gap_closed if _is(gap, one)), None)
        if {"lth", "naive"} <= theirs.keys() and gap is not None and gap.share is not None and open_gap(gap):
            share = 100 * (one.theirs.mean - theirs["naive"]) / (theirs["lth"] - theirs["naive"])
            where = f"At {percent(one.sparsity)}, {rewound(one.rewind)}"
            bounds = "" if gap.low is None else f" [{number(gap.low, 0)}, {number(gap.high, 0)}]"
            here = f"{number(gap.share, 0)}{PERCENT}{bounds}"
            told.append(f"{where}, permuted closes {here} of the gap here and {number(share, 0)}{PERCENT} there.")
    return told[:3]


def _is(gap: Any, one: Meeting) -> bool:
    names = ("method", "sparsity", "rewind", "match_at")
    return all(getattr(gap, name) == getattr(one, name) for name in names)


def _caption(results: Results, met: Sequence[Meeting]) -> str:
    told = [scale_words(results), _what_differs(results.experiment)]
    told.append(
        "The difference is divided by the standard deviation of single runs, not of means: pooled over both where both "
        "are known, else ours, else theirs. It says how far apart the numbers are, not whether a test would tell them "
        "apart; with few seeds an sd is itself uncertain by half. A question mark: the source does not say how many."
    )
    if any(not one.same_epoch for one in met):
        told.append("Where this run is of another length, rewind points are compared by their share of training.")
    if any(one.theirs.rewind_epoch == 0 for one in met):
        told.append("Their rewind point 0 is the end of the first epoch, ours is the random initialisation itself.")
    told.append(_sparsity_words(results.experiment, met))
    told.append("Their pruning stops within half a point of the nominal sparsity; the count here is exact.")
    if _ensembles(results):
        told.append("Ensembles are shown as ours / theirs; the source does not say their rewind point or spread.")
        told.append(published.divergence_words())
    return " ".join(filter(None, told))


def _what_differs(known: Experiment) -> str:
    found = departures(known)
    if found is None:
        return "The source does not say with which settings the paper trained this network on these data."
    if not found:
        return "Every setting that the paper states is the paper's."
    parts = [f"{one.name} {_plain(one.ours)} instead of {_plain(one.theirs)}" for one in found]
    return f"Not the paper's settings: {listed(parts)}."


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return listed(str(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _sparsity_words(known: Experiment, met: Sequence[Meeting]) -> str:
    """Say where the true sparsities are known to differ."""
    told: dict[float, str] = {}
    for one in met:
        theirs = published.true_sparsity(known.dataset, known.network, known.width, one.theirs.sparsity)
        ours = one.row.true_sparsity
        if theirs is not None and ours is not None and abs(theirs - ours) > 0.002:
            told[one.sparsity] = f"{percent(round(ours, 3))} and {percent(theirs)} at {percent(one.sparsity)}"
    return f"The true sparsities, of all weights, differ: {listed(told.values())}." if told else ""
