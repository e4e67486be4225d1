"""What a file that a command was given is, so that one of another kind is named as what it is."""

from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

from reticket.errors import InputError
from reticket.tickets.storage import KEY
from reticket.untrusted import parsed

WORDS = {
    "reticket-alignment": "an alignment",
    "reticket-activations": "activations",
    "ticket": "a ticket",
    "mask": "a mask",
}
WEIGHTS = "weights, or tensors of something else"


def kind_of(path: Path) -> str:
    """Return in words what a file of safetensors holds; empty for any other file, or where it cannot be told."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError):
        return ""
    if KEY not in metadata:
        return WORDS.get(metadata.get("format", ""), WEIGHTS)
    with suppress(ValueError, AttributeError):
        return WORDS.get(str(parsed(metadata[KEY]).get("kind")), "")
    return ""


def check_moved(ticket: Path, alignment: Path) -> None:
    """Refuse the files of a transfer that are another thing than their place says.

    Args:
        ticket: what is to be moved.
        alignment: what it is moved by.

    Raises:
        InputError: saying of each that is wrong what it is and what was expected. A file of no kind that can be told is
            left to whoever reads it.
    """
    seen = {"TICKET": kind_of(ticket), "ALIGNMENT": kind_of(alignment)}
    paths = {"TICKET": ticket, "ALIGNMENT": alignment}
    expected = {"TICKET": ("a ticket", "a mask"), "ALIGNMENT": ("an alignment",)}
    wrong = [place for place, kind in seen.items() if kind and kind not in expected[place]]
    if wrong:
        told = [f"{place} '{paths[place]}' holds {seen[place]}, not {' or '.join(expected[place])}" for place in wrong]
        advice = "write TICKET first and ALIGNMENT second, as reticket prune and reticket match make them"
        raise InputError(f"{'; '.join(told)}; {advice}")
