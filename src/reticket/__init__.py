"""reticket: reissue a lottery ticket for a new random initialisation.

The names below are the public surface. Each is imported from its home when it is first used, so that `import reticket`
costs little more than `import torch`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from reticket.analysis import Diversity, Stat, diversity, gap_closed, overlap
    from reticket.cli.run import run
    from reticket.connectivity import BarrierCurve, barrier, interpolate, repair
    from reticket.data import Dataset, load_dataset
    from reticket.errors import ReticketError, VerificationError
    from reticket.matching import match
    from reticket.models import build_model
    from reticket.rng import generator_for
    from reticket.symmetry import (
        Alignment,
        Group,
        Quality,
        Symmetry,
        discover,
        identity_alignment,
        load_into,
        random_alignment,
        verify,
    )
    from reticket.tasks.config import Config
    from reticket.tasks.results import Results
    from reticket.tasks.running import Machine
    from reticket.tickets import (
        Mask,
        Ticket,
        erk_mask,
        iterative_magnitude_pruning,
        prunable,
        prune_magnitude,
        random_mask,
        sparse,
        true_density,
    )
    from reticket.training import Recipe, evaluate, train
    from reticket.types import Permutation

_HOMES = {
    "reticket.analysis": ("Diversity", "Stat", "diversity", "gap_closed", "overlap"),
    "reticket.cli.run": ("run",),
    "reticket.connectivity": ("BarrierCurve", "barrier", "interpolate", "repair"),
    "reticket.data": ("Dataset", "load_dataset"),
    "reticket.errors": ("ReticketError", "VerificationError"),
    "reticket.matching": ("match",),
    "reticket.models": ("build_model",),
    "reticket.rng": ("generator_for",),
    "reticket.symmetry": (
        "Alignment",
        "Group",
        "Quality",
        "Symmetry",
        "discover",
        "identity_alignment",
        "load_into",
        "random_alignment",
        "verify",
    ),
    "reticket.tickets": (
        "Mask",
        "Ticket",
        "erk_mask",
        "iterative_magnitude_pruning",
        "prunable",
        "prune_magnitude",
        "random_mask",
        "sparse",
        "true_density",
    ),
    "reticket.tasks.config": ("Config",),
    "reticket.tasks.results": ("Results",),
    "reticket.tasks.running": ("Machine",),
    "reticket.training": ("Recipe", "evaluate", "train"),
    "reticket.types": ("Permutation",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Alignment",
    "BarrierCurve",
    "Config",
    "Dataset",
    "Diversity",
    "Group",
    "Machine",
    "Mask",
    "Permutation",
    "Quality",
    "Recipe",
    "Results",
    "ReticketError",
    "Stat",
    "Symmetry",
    "Ticket",
    "VerificationError",
    "barrier",
    "build_model",
    "discover",
    "diversity",
    "erk_mask",
    "evaluate",
    "gap_closed",
    "generator_for",
    "identity_alignment",
    "interpolate",
    "iterative_magnitude_pruning",
    "load_dataset",
    "load_into",
    "match",
    "overlap",
    "prunable",
    "prune_magnitude",
    "random_alignment",
    "random_mask",
    "repair",
    "run",
    "sparse",
    "train",
    "true_density",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'reticket' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
