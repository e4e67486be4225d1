"""The page of the zoo, drawn from the rows that its models gave."""

import math
import platform
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

FAILED = ("unsound", "pinned", "blind", "broken")
Row = Mapping[str, Any]
SHOWN = 3  # of what a note lists
HEAD = (
    "model",
    "parameters",
    "groups",
    "log10 order",
    "movable",
    "without a rule",
    "pinned by the proof",
    "error elsewhere",
    "sizes",
    "tracing s",
    "proving s",
    "in all s",
    "peak GB",
)


def page(rows: Sequence[Row], command: str, versions: Mapping[str, str]) -> str:
    """Return the page in Markdown.

    Args:
        rows: what `tests.zoo.measure.measured` gave for each model.
        command: what made them.
        versions: of the libraries.
    """
    parts = [_introduction(rows, command, versions)]
    for source, title in (("timm", "timm"), ("transformers", "Hugging Face")):
        own = [row for row in rows if row["source"] == source and "groups" in row]
        parts.append(f"## {title}\n\n{_table(own)}")
    parts.append(_others(rows))
    parts.append(_notes(rows))
    return "\n\n".join(parts) + "\n"


def _introduction(rows: Sequence[Row], command: str, versions: Mapping[str, str]) -> str:
    found = [row for row in rows if "groups" in row]
    verdicts = [row["verdict"] for row in rows]
    seconds, memory = ([row[key] for row in found] for key in ("seconds", "gigabytes"))
    tracing = [row["phases"]["tracing"] + row["phases"]["solving"] for row in found]
    proving = [row["phases"]["proving"] for row in found]
    timm, transformers = (sum(row["source"] == source for row in rows) for source in ("timm", "transformers"))
    return f"""# The zoo

Made by `{command}` ({_machine(versions)}):
{timm} small variants of timm and {transformers} tiny models of Hugging Face's transformers, all with random weights.
For each: `discover` with its proof, then a check that shares no code with the proof. Weights are drawn anew in float64,
a random element of the group is applied to them, and the function compared in eval mode on inputs of other batches
(1, 2, 3) and, where the model takes them, other image sizes and sequence lengths.

| | |
|---|---|
| models | {len(rows)} |
| unsound elsewhere | {verdicts.count("unsound")} |
| with groups pinned by the proof | {sum(bool(row["pinned"]) for row in found)} |
| not traced | {verdicts.count("untraced")} |
| broken, or the check could not see | {verdicts.count("broken") + verdicts.count("blind")} |
| largest error elsewhere | {max((row["error"] for row in found), default=0.0):.1e} |
| checked at another size too | {sum(_sizes(row) > 1 for row in found)} |
| with an operator without a rule | {sum(bool(row["ruleless"]) for row in found)} |
| CPU seconds, median (largest) | {_spread(seconds)} |
| of these tracing and solving | {_spread(tracing)} |
| of these proving | {_spread(proving)} |
| peak memory in GB, median (largest) | {_spread(memory)} |

Columns: *log10 order* is that of the number of permutations found; *movable* the share of the numbers in the state_dict
that some permutation moves; *without a rule* counts the operators that pinned what they touched for want of a rule;
*error elsewhere* is the largest difference relative to the largest output, over all batches and sizes; *sizes* says at
how many sizes the model ran, the example's included. Seconds are of CPU time, *tracing* with solving the equations,
*in all* with everything that `discover` does; the peak of memory is that of the process, torch itself included
({min((row["before"] for row in found), default=0.0):.1f} GB at least)."""


def _machine(versions: Mapping[str, str]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{libraries}, Python {platform.python_version()}, {platform.machine()}, one thread a model"


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ({max(values):.1f}), n={len(values)}" if values else ""


def _table(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(_cells(row)) + " |" for row in rows)])


def _cells(row: Row) -> tuple[str, ...]:
    phases = row["phases"]
    return (
        row["name"] + ("" if row["verdict"] == "sound" else f" **{row['verdict']}**"),
        f"{row['parameters']:,}",
        str(row["groups"]),
        f"{row['log10_order']:.0f}" if row["log10_order"] >= 100 else f"{row['log10_order']:.1f}",
        f"{_below(row['movable']):.1%}",
        str(len(row["ruleless"])),
        ", ".join(row["pinned"]) or "0",
        f"{row['error']:.0e}",
        str(_sizes(row)),
        f"{phases['tracing'] + phases['solving']:.1f}",
        f"{phases['proving']:.1f}",
        f"{row['seconds']:.1f}",
        f"{row['gigabytes']:.1f}",
    )


def _below(share: float) -> float:
    """Return a share cut off behind a tenth of a percent: 99.96 % is not all.

    >>> _below(0.9996), _below(1.0)
    (0.999, 1.0)
    """
    return math.floor(share * 1000) / 1000


def _sizes(row: Row) -> int:
    return len({str(size) for _, size in row["ran"]})


def _others(rows: Sequence[Row]) -> str:
    found = [f"- **{row['name']}** ({row['verdict']}): {row['sentence']}" for row in rows if "sentence" in row]
    return "## Not traced\n\n" + ("\n".join(found) or "None.")


def _notes(rows: Sequence[Row]) -> str:
    """Return what the symmetries are limited to, each note once with its models, and the operators without a rule."""
    named: dict[str, list[str]] = {}
    for row in rows:
        for operator in row.get("ruleless", ()):
            named.setdefault(f"no rule for `{operator}`", []).append(row["name"])
        for note in row.get("notes", ()):
            named.setdefault(_shortened(note), []).append(row["name"])
    lines = [f"- {note}: {', '.join(names)}" for note, names in sorted(named.items())]
    return "## What they are limited to\n\n" + ("\n".join(lines) or "Nothing.")


def _shortened(note: str) -> str:
    """Return a note without most of what it lists.

    >>> _shortened("no effect: a, b, c, d, e")
    'no effect: a, b, c and 2 more'
    """
    parts = note.split(", ")
    return note if len(parts) <= SHOWN + 1 else f"{', '.join(parts[:SHOWN])} and {len(parts) - SHOWN} more"
