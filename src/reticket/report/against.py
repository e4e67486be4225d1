"""A run beside the paper: which of its cells are published, by how much they differ, and why they may."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reticket.figures import published
from reticket.figures.published import Accuracy
from reticket.records import Stat
from reticket.report.accuracy_rows import accuracy_rows
from reticket.report.training_positions import in_epochs
from reticket.tasks.results import Results
from reticket.tasks.rows import Experiment, Row

TOLERANCE = 0.5  # epochs of the paper's training, where only the share of training can be compared


@dataclass(frozen=True)
class Meeting:
    """One cell of the run and the published one that it meets.

    Args:
        row: ours.
        theirs: the published cell.
        same_epoch: False where the rewind points agree only as a share of training.
        sd: by which the difference is divided, points; None when no spread is known.
        whose: "pooled" of both, "ours" or "theirs"; empty without an sd.
    """

    row: Row
    theirs: Accuracy
    same_epoch: bool
    sd: float | None
    whose: str

    method = property(lambda self: self.row.method)
    sparsity = property(lambda self: self.row.sparsity)
    rewind = property(lambda self: self.row.rewind)
    match_at = property(lambda self: self.row.match_at)

    @property
    def published(self) -> Stat:
        """Their mean and sd."""
        return Stat(n=self.theirs.n or 0, mean=self.theirs.mean, sd=self.theirs.sd)

    @property
    def difference(self) -> float:
        """Our mean less theirs, in points."""
        return (self.row.mean or 0.0) - self.theirs.mean

    @property
    def in_sds(self) -> float | None:
        """The difference in standard deviations of single runs."""
        return self.difference / self.sd if self.sd else None


def meetings(results: Results) -> tuple[Meeting, ...]:
    """Return the accuracies of a run that meet a published cell, in the run's order."""
    known = results.experiment
    found = []
    for row in accuracy_rows(results):
        theirs, same = published_cell(known, row)
        if theirs is not None:
            found.append(Meeting(row, theirs, same, *_spread(row, theirs)))
    return tuple(found)


def published_cell(known: Experiment, row: Row) -> tuple[Accuracy | None, bool]:
    """Return the published cell of a row, and whether its rewind point is the same epoch.

    A run of another length meets a cell by its epochs or, failing that, by its share of training.
    """
    here = published.find_accuracies(known.dataset, known.network, known.width, row.sparsity, method=row.method)
    rewound = in_epochs(row.rewind, known.steps_per_epoch)
    if not here or rewound is None:
        return None, False
    scales = ((1.0, 1e-9), (_longer(known), TOLERANCE))
    for scale, tolerance in scales if scales[1][0] != 1.0 else scales[:1]:
        matched = _match_epoch(known, row.match_at, scale, tolerance, here)
        near = [c for c in here if c.match_epoch == matched and abs(c.rewind_epoch - rewound * scale) <= tolerance]
        near = [c for c in near if (c.rewind_epoch == 0) == (rewound == 0)]
        if near and matched != -1:
            return min(near, key=lambda c: abs(c.rewind_epoch - rewound * scale)), scale == 1.0
    return None, False


def _longer(known: Experiment) -> float:
    """Return how many of the paper's epochs one of ours stands for."""
    theirs = published.settings(known.dataset, known.network)
    return theirs["epochs"] / known.epochs if theirs and known.epochs else 1.0


def _match_epoch(
    known: Experiment, match_at: str | None, scale: float, tolerance: float, here: Sequence[Accuracy]
) -> int | None:
    """Return the published position of matching that `match_at` is, None for the end, -1 where none is."""
    if match_at in (None, "end"):
        return None
    epoch = in_epochs(match_at, known.steps_per_epoch)
    near = [c.match_epoch for c in here if c.match_epoch is not None and epoch is not None]
    found = [one for one in near if abs(one - (epoch or 0.0) * scale) <= tolerance]
    return found[0] if found else -1


def _spread(row: Row, theirs: Accuracy) -> tuple[float | None, str]:
    """Return the sd to divide by: pooled over both where both are known, else ours, else theirs."""
    if row.sd is not None and theirs.sd is not None and theirs.n:
        a, b = row.n - 1, theirs.n - 1
        return ((a * row.sd**2 + b * theirs.sd**2) / (a + b)) ** 0.5, "pooled"
    if row.sd is not None:
        return row.sd, "ours"
    return (theirs.sd, "theirs") if theirs.sd is not None else (None, "")


@dataclass(frozen=True)
class Departure:
    """One setting in which a run departs from the paper."""

    name: str
    ours: Any
    theirs: Any


_NAMES = {
    "epochs": ("dense", "epochs", "epochs of dense training"),
    "batch_size": ("dense", "batch_size", "batch size"),
    "lr": ("dense", "lr", "learning rate"),
    "momentum": ("dense", "momentum", "momentum"),
    "weight_decay": ("dense", "weight_decay", "weight decay"),
    "schedule": ("dense", "schedule", "schedule"),
    "warmup_epochs": ("dense", "warmup_epochs", "warm-up epochs"),
    "sparse_lr": ("sparse", "lr", "learning rate of the sparse runs"),
    "prune_style": ("prune", "style", "style of pruning"),
    "prune_rate": ("prune", "rate", "share pruned a round"),
    "prune_scope": ("prune", "scope", "scope of pruning"),
    "round_epochs": ("prune", "epochs", "epochs of a pruning round"),
    "round_lr": ("prune", "lr", "learning rate of a pruning round"),
    "round_momentum": ("prune", "momentum", "momentum of a pruning round"),
    "round_weight_decay": ("prune", "weight_decay", "weight decay of a pruning round"),
    "spared": ("prune", "exclude", "layers not pruned"),
}


def departures(known: Experiment) -> tuple[Departure, ...] | None:
    """Return the settings in which a run departs from the paper, or None where the paper's are not known."""
    theirs = published.settings(known.dataset, known.network)
    if theirs is None:
        return None
    found = []
    for key, (section, field, words) in _NAMES.items():
        values = getattr(known, section)
        if field in values and not _same(values[field], theirs[key]):
            found.append(Departure(words, values[field], theirs[key]))
    for field, words in (("test_size", "test images"), ("train_size", "training images")):
        if known.data.get(field) is not None:
            found.insert(0, Departure(words, known.data[field], "all"))
    return tuple(found)


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, (list, tuple)):
        return list(ours) == list(theirs)
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return abs(ours - theirs) <= 1e-9 * max(abs(ours), abs(theirs), 1.0)
    return ours == theirs
