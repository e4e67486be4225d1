"""The exemplars of every cell as rows of the results: how many, of which classes, and the accuracy on them."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor

from reticket.analysis import accuracy_on
from reticket.records import Measured, Record, Stat
from reticket.tasks.cells import Cell
from reticket.tasks.rows import CellRecord
from reticket.tasks.stored import place_of, stat_of
from reticket.tasks.votes import Votes


class ClassCount(Record):
    """How many test images of a class there are, and how many of them are exemplars."""

    name: str = Field(validation_alias="class", serialization_alias="class", description="the class")
    found: int = Field(description="exemplars")
    images: int = Field(description="test images")


class Exemplars(CellRecord):
    """Test images whose modal prediction pruning changes, over the seeds' networks."""

    dense_networks: int = Field(default=0, description="dense networks that vote")
    sparse_networks: int = Field(default=0, description="sparse networks that vote")
    images: int = Field(default=0, description="test images")
    found: int = Field(default=0, description="exemplars")
    undecided: int = Field(default=0, description="images whose vote is tied")
    stable: int = Field(default=0, description="exemplars whichever single network is left out")
    noise: int | None = Field(
        default=None, description="exemplars between dense A and dense B, by chance; null without B"
    )
    dense_on_exemplars: Measured = Field(default=Stat(), description="accuracy of dense networks on them (percent)")
    dense_on_rest: Measured = Field(
        default=Stat(), description="accuracy of dense networks on all other images (percent)"
    )
    sparse_on_exemplars: Measured = Field(default=Stat(), description="accuracy of sparse networks on them (percent)")
    sparse_on_rest: Measured = Field(
        default=Stat(), description="accuracy of sparse networks on all other images (percent)"
    )
    classes: tuple[ClassCount, ...] = Field(default=(), description="how many of each true class")


def row_of(cell: Cell, votes: Votes, labels: Int64[Tensor, " n"], names: Sequence[str]) -> Exemplars:
    """Return counts, the accuracy on exemplars and on the rest, and the exemplars by true class."""
    found, noise = votes.found, votes.noise
    all_of = torch.bincount(labels, minlength=len(names)).tolist()
    mine = torch.bincount(labels[found.found], minlength=len(names)).tolist()
    on_them = [stat_of(accuracy_on(network, labels, found.found)) for network in (votes.dense, votes.sparse)]
    on_the_rest = [stat_of(accuracy_on(network, labels, ~found.found)) for network in (votes.dense, votes.sparse)]
    return Exemplars(
        **place_of(cell),
        dense_networks=len(votes.dense),
        sparse_networks=len(votes.sparse),
        images=len(labels),
        found=int(found.found.sum()),
        undecided=int(found.undecided.sum()),
        stable=int(found.stable.sum()),
        noise=None if noise is None else int(noise.found.sum()),
        dense_on_exemplars=on_them[0],
        dense_on_rest=on_the_rest[0],
        sparse_on_exemplars=on_them[1],
        sparse_on_rest=on_the_rest[1],
        classes=tuple(
            ClassCount(name=name, found=count, images=total)
            for name, count, total in zip(names, mine, all_of, strict=True)
        ),
    )
