"""How far an alignment can be trusted, group by group: correlations, what other data and times change, signs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reticket.errors import InputError
from reticket.matching.correlations import activation_similarity
from reticket.matching.registry import NetworkCheckpoints, match, models_to_match
from reticket.rng import as_generator
from reticket.symmetry import Alignment
from reticket.symmetry.alignment import resolve_name
from reticket.symmetry.showing import GroupTable
from reticket.weights import state_of

COLUMNS = {  # of the table, by field
    "group": "group",
    "units": "units",
    "correlation": "correlation",
    "margin": "margin",
    "changed": "changed",
    "changed_earlier": "changed earlier",
    "signs": "signs alike",
}
ALWAYS = 5  # columns that every table has


@dataclass(frozen=True)
class GroupAssessment:
    """What is known of the matching of one group.

    Args:
        group: its name.
        units: permuted units, those of all copies.
        correlation: mean correlation of matched units in what they respond to; None where no activation shows them.
        margin: how far it is ahead of the best other unit's, on average; None likewise.
        changed: share of the units that have another partner when they are matched on half of the batches, on average.
        changed_earlier: share of the units that had another partner at an earlier point of training; None where none
            was given.
        signs: share of the kept weights of the group's tensors at which A's sign is B's, half of them by chance; None
            without a mask, or where it keeps none.
    """

    group: str
    units: int
    correlation: float | None
    margin: float | None
    changed: float
    changed_earlier: float | None = None
    signs: float | None = None


@dataclass(frozen=True)
class Assessment:
    """What is known of an alignment; `print` it for a table.

    Args:
        groups: one entry for each group.
        signs: by tensor, the share of the weights that the moved mask keeps at which A's sign is B's; half of them by
            chance; empty without a mask.
    """

    groups: tuple[GroupAssessment, ...]
    signs: Mapping[str, float]

    @property
    def changed(self) -> float:
        """Share of all units that have another partner on half of the batches."""
        return sum(one.changed * one.units for one in self.groups) / sum(one.units for one in self.groups)

    @property
    def table(self) -> GroupTable:
        """Everything by group, without the columns of which nothing is known."""
        known = [field for field in COLUMNS if any(getattr(one, field) is not None for one in self.groups)]
        fields = [field for number, field in enumerate(COLUMNS) if number < ALWAYS or field in known]
        rows = tuple(tuple(getattr(one, field) for field in fields) for one in self.groups)
        caption = f"{100 * self.changed:.1f} % of the units change"
        return GroupTable(caption, tuple(COLUMNS[field] for field in fields), rows)

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`, one row a group.

        Raises:
            InputError: when pandas is not installed.
        """
        return self.table.to_frame()

    def __str__(self) -> str:
        return str(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def assess(
    alignment: Alignment,
    model_a: NetworkCheckpoints,
    model_b: NetworkCheckpoints,
    batches: Iterable[object],
    method: str = "activation",
    *,
    resamples: int = 4,
    generator: torch.Generator | int = 0,
    mask: Mapping[str, Tensor] | None = None,
    earlier: tuple[NetworkCheckpoints, NetworkCheckpoints] | None = None,
    **options: Any,
) -> Assessment:
    """Return how far an alignment can be trusted.

    A matching that only the data at hand bring about has other partners on other data, so the networks are matched
    again on random halves of the batches; one that only the moment brings about has other partners earlier in training.
    Correlations are those of what matched units respond to, whatever the alignment was found by. How alike units are
    does not say how good a moved mask is: of two alignments the one with the higher correlation may give the worse
    ticket.

    Args:
        alignment: carries A's units to B's order.
        model_a, model_b: the networks, or their checkpoints, as for `match`; the last is looked at for signs.
        batches: two or more, of inputs as for `match`; kept in memory.
        method: what to match by.
        resamples: how many halves.
        generator: draws them; or a seed.
        mask: of A's weights; with it the signs of A and B on what it keeps are compared.
        earlier: A and B at an earlier point of their training, matched on all batches.
        options: of the method, and what it needs, as `start`.

    Raises:
        InputError: fewer than two batches or no halves, or what `match` refuses.
        AlignmentError, ModelError: as `match` does.

    >>> from torch import nn
    >>> from reticket import discover, match
    >>> a, b = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2))
    >>> data = torch.randn(64, 4).split(16)
    >>> sym = discover(a, data[0])
    >>> found = assess(match(a, a, sym, data), a, a, data)
    >>> found.changed, round(found.groups[0].correlation, 3)
    (0.0, 1.0)
    """
    _check_kinds(alignment, mask, earlier)
    sym, kept = alignment.symmetry, list(batches)
    if len(kept) < 2 or resamples < 1:
        raise InputError(
            f"assess got {len(kept)} batches and {resamples} halves to draw; it needs two batches or more, and a half"
        )
    of_a, of_b = models_to_match(model_a, model_b, sym)
    halves = _halves(kept, resamples, as_generator(generator, "halves"))
    others = [match(of_a, of_b, sym, half, method, **options) for half in halves]
    before = [] if earlier is None else [match(*earlier, sym, kept, method, **options)]
    seen = activation_similarity(of_a, of_b, sym, kept).quality(alignment.permutations)
    counts = {} if mask is None else _sign_counts(alignment, mask, state_of(of_a[-1]), state_of(of_b[-1]))
    groups = tuple(
        GroupAssessment(
            name,
            permutation.index.numel(),
            seen[name].correlation if name in seen else None,
            seen[name].margin if name in seen else None,
            sum(_changed(permutation.index, other.permutations[name].index) for other in others) / resamples,
            _changed(permutation.index, before[0].permutations[name].index) if before else None,
            _share([counts[tensor] for tensor in sym.groups[name].tensors if tensor in counts]),
        )
        for name, permutation in alignment.permutations.items()
    )
    return Assessment(groups, {name: found[0] / found[1] for name, found in counts.items() if found[1]})


def _check_kinds(alignment: object, mask: object, earlier: object) -> None:
    """Refuse arguments of another kind, such as those of another order."""
    if not isinstance(alignment, Alignment):
        raise InputError(
            f"assess takes the alignment first, got {type(alignment).__name__}; give assess(al, a, b, batches)"
        )
    if mask is not None and not isinstance(mask, Mapping):
        raise InputError(
            f"mask is a {type(mask).__name__}, but a mask of A's weights was expected; of a ticket give .mask"
        )
    if earlier is not None and not (isinstance(earlier, Sequence) and len(earlier) == 2):
        raise InputError(f"earlier is a {type(earlier).__name__}, but a pair was expected, as (a_5, b_5)")


def _halves(batches: Sequence[object], count: int, generator: torch.Generator) -> list[list[object]]:
    drawn = [torch.randperm(len(batches), generator=generator, device="cpu") for _ in range(count)]
    return [[batches[i] for i in order[: len(batches) // 2].tolist()] for order in drawn]


def _changed(index: Tensor, other: Tensor) -> float:
    return float((index != other).double().mean())


def _sign_counts(
    alignment: Alignment, mask: Mapping[str, Tensor], of_a: Mapping[str, Tensor], of_b: Mapping[str, Tensor]
) -> dict[str, tuple[int, int]]:
    """Return by tensor at how many kept weights A, carried to B's order, has B's sign, and how many are kept."""
    found = {}
    for name, kept in mask.items():
        there, carried = alignment.tensor(name, kept), alignment.tensor(name, of_a[name])
        alike = (carried.sign() == of_b[name].sign())[there]
        found[resolve_name(alignment.symmetry, name) or name] = (int(alike.sum()), alike.numel())
    return found


def _share(counts: Sequence[tuple[int, int]]) -> float | None:
    kept = sum(kept for _, kept in counts)
    return sum(alike for alike, _ in counts) / kept if kept else None
