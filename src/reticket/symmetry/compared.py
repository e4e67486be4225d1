"""What two runs of a model are compared by: what each returned and wrote, value by value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from reticket.dense import dense
from reticket.symmetry.alignment import Alignment
from reticket.symmetry.exact import is_number
from reticket.symmetry.gather import gather
from reticket.symmetry.terms import Fixed, Layout, atoms, is_keyed

Differences: TypeAlias = dict[int | str, float]


@dataclass(frozen=True)
class Run:
    """What one forward left behind.

    Args:
        outputs: leaves of what the model returned.
        written: tensors of the state that it wrote.
        way: the functions that it called, in order; empty unless values decide about its control flow.
    """

    outputs: list[Any]
    written: Mapping[str, Tensor]
    way: tuple[Any, ...]

    @property
    def finite(self) -> bool:
        """Whether every number returned is finite."""
        return all(bool(dense(x).isfinite().all()) for x in self.outputs if isinstance(x, Tensor))

    def same(self, other: "Run") -> bool:
        """Whether another run gave the same bits and wrote nothing either."""
        pairs = zip(self.outputs, other.outputs, strict=False)
        equal = all(
            torch.equal(dense(a), dense(b)) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b
            for a, b in pairs
        )
        return equal and len(self.outputs) == len(other.outputs) and not self.written and not other.written

    def differences(self, other: "Run") -> Differences:
        """Return how far another run is from this one in every output, by its number, and every buffer, by its name.

        A value that only one of the two has is infinitely far.
        """
        if len(self.outputs) != len(other.outputs) or self.written.keys() != other.written.keys():
            return {"": float("inf")}
        pairs = enumerate(zip(self.outputs, other.outputs, strict=True))
        found: Differences = {i: difference(want, have) for i, (want, have) in pairs if isinstance(want, Tensor)}
        return found | {name: difference(self.written[name], have) for name, have in other.written.items()}

    def fits(self, layouts: Sequence[Layout]) -> bool:
        """Whether every axis of an output that these layouts move is as long as they say."""
        tensors = (value for value in self.outputs if isinstance(value, Tensor))
        return all(
            term.size == size
            for value, layout in zip(tensors, layouts, strict=False)
            if len(layout) == value.dim()
            for term, size in zip(layout, value.shape, strict=True)
            if is_keyed(term)
        )

    def moved(self, alignment: Alignment) -> "Run":
        """Return what a model with permuted weights should have left behind."""
        layouts = iter(alignment.symmetry.outputs)
        outputs = [moved_by(x, next(layouts, ()), alignment) if isinstance(x, Tensor) else x for x in self.outputs]
        return Run(outputs, {name: alignment.tensor(name, x) for name, x in self.written.items()}, self.way)


def moved_by(value: Tensor, layout: Layout, alignment: Alignment) -> Tensor:
    """Return an input or output in its permuted order; axes that do not move may have another size than traced."""
    moves = any(True for term in layout for _ in atoms(term))
    if not moves or len(layout) != value.dim():  # another tensor that train mode returns, or no layout is known
        return value
    fitted = tuple(term if is_keyed(term) else Fixed(size) for term, size in zip(layout, value.shape, strict=True))
    return gather(value, fitted, alignment.permutations)


def difference(want: Tensor, have: Tensor) -> float:
    """Return max |have - want| / max |want|; infinite where shapes or integers differ or a value is NaN."""
    want, have = dense(want), dense(have)
    if want.shape != have.shape:
        return float("inf")
    if want.numel() == 0 or not is_number(want):
        return 0.0 if torch.equal(want, have) else float("inf")
    scale = float(want.abs().max()) or 1.0
    error = float((have - want).abs().max()) / scale
    return error if error == error else float("inf")
