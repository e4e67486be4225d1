"""What the networks of a cell predict, as votes on every test image: what decides its exemplars."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Int64
from torch import Tensor

from reticket.analysis import Exemplars, exemplars
from reticket.tasks.cells import Cell
from reticket.tasks.stored import Stored


@dataclass(frozen=True)
class Votes:
    """The predictions that decide a cell's exemplars.

    Args:
        dense: of the dense networks.
        sparse: of the sparse ones.
        pair: of the dense networks A and of the dense networks B, whose exemplars are noise; None without B.
    """

    dense: Int64[Tensor, "dense_networks n"]
    sparse: Int64[Tensor, "sparse_networks n"]
    pair: tuple[Tensor, Tensor] | None

    @cached_property
    def _classes(self) -> int:
        every = (self.dense, self.sparse, *(self.pair or ()))
        return 1 + max(int(predictions.max()) for predictions in every)

    @cached_property
    def found(self) -> Exemplars:
        """The exemplars."""
        return exemplars(self.dense, self.sparse, self._classes)

    @cached_property
    def noise(self) -> Exemplars | None:
        """What dense A and dense B make exemplars by chance; None without B."""
        return exemplars(*self.pair, self._classes) if self.pair else None

    def surest(self, most: int) -> list[int]:
        """Return the images with the clearest modes among the exemplars, by index where they are equally clear."""
        dense, sparse = self.found.dense, self.found.sparse
        where = self.found.found.nonzero().flatten().tolist()
        where.sort(key=lambda index: (-int(dense.margin[index] + sparse.margin[index]), index))
        return where[:most]


def votes_of(cell: Cell, found: Stored) -> Votes | None:
    """Return the predictions that decide a cell's exemplars, or None for a dense cell or one without results."""
    if cell.method == "dense":
        return None
    plan, seeds = found.plan, found.plan.config.grid.seeds
    a, b = (found.predicted(plan.networks.dense(side, seed) for seed in seeds) for side in ("A", "B"))
    dense = b if plan.methods[cell.method].network == "B" and b is not None else a
    sparse = found.predicted(plan.runs[cell])
    if dense is None or sparse is None:
        return None
    return Votes(dense, sparse, (a, b) if a is not None and b is not None else None)
