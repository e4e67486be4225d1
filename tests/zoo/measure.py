"""One model of the sweep in a process of its own: its symmetry, what it took, and whether it holds elsewhere."""

import resource
import time
from typing import Any
from unittest.mock import patch

import torch

from reticket.errors import ModelError
from reticket.symmetry import Symmetry, discover
from reticket.symmetry.verify import CHANGES_ELSEWHERE
from tests.zoo.entries import Entry
from tests.zoo.soundness import Elsewhere, elsewhere

LIMIT = 600  # seconds of CPU time for one model
RULELESS = "pinned at operators without a rule: "


def measured(entry: Entry) -> dict[str, Any]:
    """Discover, prove and check one model.

    Returns:
        A row of the page, ready for JSON; its "verdict" is "sound", "unsound", "blind" (the check saw nothing),
        "pinned" (the proof refused a group that a rule claimed) or "untraced", which has a "sentence".
    """
    torch.manual_seed(0)
    model = entry.build()
    inputs = entry.inputs(2, entry.size, torch.Generator().manual_seed(0))
    row: dict[str, Any] = {"name": entry.name, "source": entry.source, "size": entry.size}
    row["parameters"] = sum(p.numel() for p in model.parameters())
    start, before = time.process_time(), _peak()
    try:
        with patch("time.perf_counter", time.process_time):  # so that Symmetry.seconds are of CPU time, as these are
            symmetry = discover(model, inputs)
    except ModelError as error:
        return row | {"verdict": "untraced", "sentence": str(error), "seconds": time.process_time() - start}
    row |= {"seconds": time.process_time() - start, "gigabytes": _peak(), "before": before}
    start = time.process_time()
    found = elsewhere(symmetry, model, entry.inputs, entry.size, entry.others)
    return row | figures(symmetry) | _checked(symmetry, found) | {"check_seconds": time.process_time() - start}


def figures(symmetry: Symmetry) -> dict[str, Any]:
    """Return what the page says about a symmetry itself."""
    ruleless = [note.removeprefix(RULELESS) for note in symmetry.notes if note.startswith(RULELESS)]
    return {
        "groups": len(symmetry.groups),
        "log10_order": symmetry.log10_order,
        "movable": symmetry.movable,
        "ruleless": [name for names in ruleless for name in names.split(", ")],
        "pinned": refused(symmetry),
        "notes": [note for note in symmetry.notes if not note.startswith(RULELESS)],
        "phases": dict(symmetry.seconds),
    }


def refused(symmetry: Symmetry) -> list[str]:
    """Return the groups that the proof refused, and the tensors with axes that it refused at other sizes alone."""
    elsewhere = [tensor for tensor, reasons in symmetry.reasons.items() if any(CHANGES_ELSEWHERE in r for r in reasons)]
    return [*symmetry.pinned_by_verify, *elsewhere]


def _checked(symmetry: Symmetry, found: Elsewhere) -> dict[str, Any]:
    verdict = "sound" if found.sound else "unsound"
    if found.sound and symmetry.groups and found.blind:
        verdict = "blind"
    if refused(symmetry) and found.sound:
        verdict = "pinned"
    places = {"ran": found.ran, "refused": found.refused}
    return {"verdict": verdict, "error": found.error, "control": found.control, **places}


def _peak() -> float:
    """Return the largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
