"""What a scaled-down run says about itself, at the top of the page and wherever a figure would mislead."""

from collections.abc import Mapping
from typing import Any

from reticket.figures.text import listed
from reticket.tasks.results import Results

_WORDS = {
    "epochs": "epochs of dense training",
    "prune_epochs": "epochs of a pruning round",
    "train": "training images",
    "test": "test images",
}


def is_scaled(results: Results) -> bool:
    """Return whether `--epochs` or `--subset` made this run smaller than its preset."""
    return bool(_changes(results.scale))


def _changes(scale: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    found = []
    for name, value in scale.items():
        if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] != value[1]:
            found.append((_WORDS.get(name, name.replace("_", " ")), value[0], value[1]))
    return found


def scale_words(results: Results) -> str:
    """Return one sentence on what was scaled down, or nothing.

    >>> scale_words(Results(scale={"epochs": [200, 1], "train": [50000, 256]}))
    'Scaled down: 1 of 200 epochs of dense training and 256 of 50,000 training images.'
    """
    parts = [f"{_count(after)} of {_count(before)} {name}" for name, before, after in _changes(results.scale)]
    return f"Scaled down: {listed(parts)}." if parts else ""


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
