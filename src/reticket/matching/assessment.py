"""How far an alignment can be trusted, group by group: correlations, what resampling changes, what signs agree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reticket.errors import InputError
from reticket.forward import modules_of
from reticket.matching.correlations import activation_similarity
from reticket.matching.registry import match
from reticket.notebook import html_table
from reticket.rng import as_generator
from reticket.symmetry import Alignment
from reticket.weights import Weights, state_of

COLUMNS = ("group", "units", "correlation", "margin", "changed")


@dataclass(frozen=True)
class GroupAssessment:
    """What is known of the matching of one group.

    Args:
        group: its name.
        units: permuted units, those of all copies.
        correlation: mean correlation of matched units in what they respond to; None where no activation shows them.
        margin: how far it is ahead of the best other unit's, on average; None likewise.
        changed: share of the units that have another partner when they are matched on half of the batches, on average.
    """

    group: str
    units: int
    correlation: float | None
    margin: float | None
    changed: float


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

    def __str__(self) -> str:
        rows = [COLUMNS, *(tuple(map(_text, row)) for row in self._rows())]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        signs = [f"signs alike in {name}: {_text(share)}" for name, share in self.signs.items()]
        return "\n".join([*table, *signs])

    def _repr_html_(self) -> str:
        return html_table(f"{100 * self.changed:.1f} % of the units change", COLUMNS, self._rows())

    def _rows(self) -> list[tuple[object, ...]]:
        return [(one.group, one.units, one.correlation, one.margin, one.changed) for one in self.groups]


def assess(
    alignment: Alignment,
    model_a: Weights,
    model_b: Weights,
    batches: Iterable[object],
    method: str = "activation",
    *,
    resamples: int = 4,
    generator: torch.Generator | int = 0,
    mask: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Assessment:
    """Return how far an alignment can be trusted.

    A matching that only the data at hand bring about has other partners on other data, so the networks are matched
    again on random halves of the batches. Correlations are those of what matched units respond to, whatever the
    alignment was found by. How alike units are does not say how good a moved mask is: of two alignments the one with
    the higher correlation may give the worse ticket.

    Args:
        alignment: carries A's units to B's order.
        model_a, model_b: the networks; one of them may be a state_dict.
        batches: two or more, of inputs as for `match`; kept in memory.
        method: what to match the halves by.
        resamples: how many halves.
        generator: draws them; or a seed.
        mask: of A's weights; with it the signs of A and B on what it keeps are compared.
        options: of the method.

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
    (a, b), kept = modules_of({"model_a": model_a, "model_b": model_b}), list(batches)
    if len(kept) < 2 or resamples < 1:
        raise InputError(
            f"assess got {len(kept)} batches and {resamples} halves to draw; it needs two batches or more, and a half"
        )
    sym, drawn = alignment.symmetry, as_generator(generator, "halves")
    seen = activation_similarity((a,), (b,), sym, kept).quality(alignment.permutations)
    halves = [torch.randperm(len(kept), generator=drawn, device="cpu")[: len(kept) // 2] for _ in range(resamples)]
    others = [match(a, b, sym, [kept[i] for i in half.tolist()], method, **options) for half in halves]
    groups = tuple(
        GroupAssessment(
            name,
            permutation.index.numel(),
            seen[name].correlation if name in seen else None,
            seen[name].margin if name in seen else None,
            sum(_changed(permutation.index, other.permutations[name].index) for other in others) / resamples,
        )
        for name, permutation in alignment.permutations.items()
    )
    return Assessment(groups, {} if mask is None else _signs(alignment, mask, state_of(a), state_of(b)))


def _changed(index: Tensor, other: Tensor) -> float:
    return float((index != other).double().mean())


def _signs(
    alignment: Alignment, mask: Mapping[str, Tensor], of_a: Mapping[str, Tensor], of_b: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return by tensor the share of the kept weights at which A, carried to B's order, has B's sign."""
    found = {}
    for name, kept in mask.items():
        there, carried = alignment.tensor(name, kept), alignment.tensor(name, of_a[name])
        if bool(there.any()):
            found[name] = float((carried.sign() == of_b[name].sign())[there].double().mean())
    return found


def _text(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
