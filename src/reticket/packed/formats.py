"""Formats of a packed weight: how the product with a matrix of few entries is computed.

A format is a class under `@sparse_format(...)`. It is made for the places of the kept entries, refuses those that do
not suit it by returning False from `suits`, and is called with the entries and a batch.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from reticket.errors import InputError
from reticket.packed.pattern import KeptEntries
from reticket.registry import Registry, first_line

SIDES = (32, 16, 8, 4)  # of blocks that are looked for, the largest first

Values = Float[Tensor, " kept"]
Batch = Float[Tensor, "samples inputs"]


@runtime_checkable
class Product(Protocol):
    """Multiplies a batch as a linear layer without bias does; no gradients are asked of it."""

    def __call__(self, values: Values, x: Batch) -> Float[Tensor, "samples outputs"]:
        """Return the product.

        Args:
            values: the kept entries, row by row.
            x: one row a sample.
        """
        ...


@dataclass(frozen=True)
class Format:
    """A format by name.

    Args:
        name: what users write.
        build: from the places of the kept entries to the product.
        suits: whether a matrix can have it.
    """

    name: str
    build: Callable[[KeptEntries], Product]
    suits: Callable[[KeptEntries], bool]


FORMATS = Registry[Format](
    "sparse format", "reticket.sparse_formats", InputError, says=lambda one: first_line(one.build)
)
Kind = TypeVar("Kind", bound=Callable[[KeptEntries], Product])


def sparse_format(name: str, *, suits: Callable[[KeptEntries], bool] = lambda entries: True) -> Callable[[Kind], Kind]:
    """Register a format: a class that is made for the places of kept entries and called with them and a batch.

    Args:
        name: what users write.
        suits: whether a matrix can have it.

    Raises:
        InputError: when the name is taken.
    """

    def register(build: Kind) -> Kind:
        FORMATS.add(name, Format(name, build, suits))
        return build

    return register


class Laid:
    """What is made of values once, and again when they have changed.

    They have changed where they differ from a copy: neither their address nor torch's count of changes in place tells,
    since an optimiser may change them through a vector that they are views of, and an address is used again. On another
    device than the CPU a comparison would wait for it, and what is made is made anew each time.

    Args:
        make: from the values to what a product computes with.
    """

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        self._make = make
        self._of: Tensor | None = None
        self._made: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy begins with: torch's sparse tensors cannot be copied, and are made anew."""
        return {"_make": self._make, "_of": None, "_made": None}

    def __call__(self, values: Tensor) -> Any:
        """Return what was made of these values."""
        values = values.detach()
        if not values.is_cpu:
            return self._make(values)
        if self._of is None or self._of.dtype != values.dtype or not _same_bits(self._of, values):
            self._made, self._of = self._make(values), values.clone()
        return self._made


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors of one dtype on the CPU hold the same; numpy takes a fifth of the time of torch."""
    one, other = (values.contiguous().view(torch.uint8).numpy() for values in (a, b))
    if one.size % 8 == 0:
        one, other = one.view(np.int64), other.view(np.int64)
    return np.array_equal(one, other)


class Shared(Laid):
    """What is made of values once and shares their memory, so that it has changed with them."""

    def __call__(self, values: Tensor) -> Any:
        """Return what was made on this memory, which is held, so that no other values have its address."""
        values = values.detach()
        if self._of is None or (self._of.data_ptr(), self._of.dtype) != (values.data_ptr(), values.dtype):
            self._made, self._of = self._make(values), values
        return self._made


@sparse_format("dense")
class Dense:
    """The whole matrix with its zeros, by the library's product."""

    def __init__(self, entries: KeptEntries) -> None:
        self._whole = Laid(entries.dense)

    def __call__(self, values: Values, x: Batch) -> Tensor:
        """Return the product."""
        return F.linear(x, self._whole(values))


def compressed(entries: KeptEntries, values: Tensor) -> Tensor:
    """Return a matrix as torch's compressed sparse rows, which share the memory of the values."""
    with _beta():
        return torch.sparse_csr_tensor(
            entries.starts, entries.columns, values, size=entries.shape, check_invariants=False
        )


@contextmanager
def _beta() -> Iterator[None]:
    """While active, torch does not say that its sparse tensors are in beta state, which it says once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse .* tensor support is in beta state")
        yield


@sparse_format("csr")
class CompressedRows:
    """Compressed sparse rows, by torch's product (MKL's on a CPU that has it)."""

    def __init__(self, entries: KeptEntries) -> None:
        self._laid = Shared(partial(compressed, entries))

    def __call__(self, values: Values, x: Batch) -> Tensor:
        """Return the product."""
        matrix = self._laid(values)
        if len(x) == 1:  # with a vector it takes two fifths of the time that it takes with a matrix of one column
            return (matrix @ x[0])[None]
        return (matrix @ x.T).T


@sparse_format("condensed")
class Condensed:
    """The kept inputs of every output gathered and summed with their weights (torch's embedding bag)."""

    def __init__(self, entries: KeptEntries) -> None:
        self._columns, self._starts = entries.columns, entries.starts[:-1].contiguous()

    def __call__(self, values: Values, x: Batch) -> Tensor:
        """Return the product."""
        table = x.T.contiguous()
        bags = F.embedding_bag(self._columns, table, self._starts, mode="sum", per_sample_weights=values.detach())
        return bags.T


def block_side(entries: KeptEntries) -> int | None:
    """Return the side of the largest square blocks that are kept as a whole; None where there are none.

    >>> block_side(KeptEntries(torch.eye(2, dtype=torch.bool).repeat_interleave(8, 0).repeat_interleave(8, 1)))
    8
    """
    outputs, inputs = entries.shape
    for side in SIDES:
        if outputs % side == 0 and inputs % side == 0:
            share = entries.kept.view(outputs // side, side, inputs // side, side).sum(dim=(1, 3))
            if bool(((share == 0) | (share == side * side)).all()):
                return side
    return None


@sparse_format("blocks", suits=lambda entries: block_side(entries) is not None)
class BlockRows:
    """Compressed rows of square blocks, by torch's product, for masks that keep blocks as a whole."""

    def __init__(self, entries: KeptEntries) -> None:
        side = block_side(entries)
        if side is None:
            raise InputError("this weight keeps no whole blocks; choose another sparse format than blocks")
        outputs, inputs = entries.shape
        blocks = KeptEntries(entries.kept.view(outputs // side, side, inputs // side, side)[:, 0, :, 0])

        def laid(values: Tensor) -> Tensor:
            tiles = entries.dense(values).view(outputs // side, side, inputs // side, side).transpose(1, 2)
            with _beta():
                return torch.sparse_bsr_tensor(
                    blocks.starts, blocks.columns, tiles[blocks.kept], size=entries.shape, check_invariants=False
                )

        self._laid = Laid(laid)

    def __call__(self, values: Values, x: Batch) -> Tensor:
        """Return the product."""
        return (self._laid(values) @ x.T).T
