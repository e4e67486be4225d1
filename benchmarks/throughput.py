"""Measuring in turns: every contestant does a short piece of work, one after another, many times over."""

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.contestants import Member, Piece, Setup, Work, together

OURS = "ours, 2 processes of 1 thread"
OURS_ALONE = "ours, 1 process of 1 thread"
PLAIN_ALONE = "plain, 1 process of 1 thread"
PLAIN_TWICE = "plain, 2 processes of 1 thread"
PLAIN_BOTH = ("plain, 2 threads, 0 workers", "plain, 2 threads, 2 persistent workers")
SETTLE = 6  # steps before a piece: what a DataLoader's workers fetched while they waited is used up


def measure(case: Case, folder: Path | None, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Return throughputs and ratios of one case.

    Args:
        case: what is trained.
        folder: of the data.
        rounds: times that every contestant has its turn.
        seconds: about how long one turn of training lasts.
    """
    with _teams(case, folder) as (teams, source):
        steps = max(2, round(seconds / _pace(teams[PLAIN_ALONE][0])))
        trained: dict[str, list[float]] = {name: [] for name in teams}
        processor: dict[str, list[float]] = {OURS_ALONE: [], PLAIN_ALONE: []}
        for _ in range(rounds):
            for name, members in teams.items():
                together(members, "train", SETTLE if name == PLAIN_BOTH[1] else 1)
                trained[name].append(together(members, "train", steps))
            for name, seen in processor.items():
                seen.append(_processor(teams[name][0], "train", steps))
        others = {work: _other(teams, work, rounds) for work in ("evaluate", "match")}
    return {
        "case": case.name,
        "title": case.title,
        "data": source,
        "batch_size": case.batch_size,
        "steps": steps,
        "goal": case.goal,
        "train": {name: spread(values) for name, values in trained.items()},
        "ratios": _ratios(trained, processor),
        **others,
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Return n, median, mean, standard deviation and ends of some values."""
    return {
        "n": len(values),
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }


def _ratios(trained: Mapping[str, list[float]], processor: Mapping[str, list[float]]) -> dict[str, Any]:
    best = max(PLAIN_BOTH, key=lambda name: statistics.median(trained[name]))
    return {
        "aggregate": {"of": OURS, "to": best, **_ratio(trained[OURS], trained[best])},
        "per process": {"of": OURS_ALONE, "to": PLAIN_ALONE, **_ratio(trained[OURS_ALONE], trained[PLAIN_ALONE])},
        "to two plain processes": {"of": OURS, "to": PLAIN_TWICE, **_ratio(trained[OURS], trained[PLAIN_TWICE])},
        "per second of processor time": {
            "of": OURS_ALONE,
            "to": PLAIN_ALONE,
            **_ratio(processor[OURS_ALONE], processor[PLAIN_ALONE]),
        },
    }


def _ratio(ours: list[float], plain: list[float]) -> dict[str, Any]:
    return spread([one / other for one, other in zip(ours, plain, strict=True)])


def _other(teams: Mapping[str, tuple[Member, ...]], work: Work, rounds: int) -> dict[str, Any]:
    """Return the throughput of one process of one thread at evaluating or matching, in turns with the plain loop's."""
    names = [OURS_ALONE, PLAIN_ALONE] if work == "evaluate" else [OURS_ALONE]
    seen: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        together(teams[name], work, 1)  # what is made once
    for _ in range(max(2, rounds // 2)):
        for name in names:
            seen[name].append(together(teams[name], work, 1))
    found: dict[str, Any] = {name: spread(values) for name, values in seen.items()}
    if len(names) > 1:
        found["ratio"] = {"of": OURS_ALONE, "to": PLAIN_ALONE, **_ratio(seen[OURS_ALONE], seen[PLAIN_ALONE])}
    return found


def _pace(member: Member) -> float:
    """Return seconds a step, after a few to warm up."""
    together((member,), "train", 2)
    piece = _piece(member, "train", 5)
    return piece.seconds / 5


def _processor(member: Member, work: Work, amount: int) -> float:
    piece = _piece(member, work, amount)
    return piece.inputs / piece.cpu


def _piece(member: Member, work: Work, amount: int) -> Piece:
    member.start(work, amount)
    return member.wait()


@contextmanager
def _teams(case: Case, folder: Path | None) -> Iterator[tuple[dict[str, tuple[Member, ...]], str]]:
    members: list[Member] = []
    try:
        setups = (Setup("ours", 1), Setup("ours", 1), Setup("plain", 1), Setup("plain", 1))
        for setup in (*setups, Setup("plain", 2), Setup("plain", 2, workers=2)):
            members.append(Member(case.name, setup, folder))  # noqa: PERF401 (those that started must be ended)
        ours, plain = tuple(members[:2]), tuple(members[2:4])
        yield (
            {
                OURS: ours,
                OURS_ALONE: ours[:1],
                PLAIN_ALONE: plain[:1],
                PLAIN_TWICE: plain,
                PLAIN_BOTH[0]: (members[4],),
                PLAIN_BOTH[1]: (members[5],),
            },
            members[0].source,
        )
    finally:
        for member in members:
            member.end()
