"""Patterns that hardware and kernels ask for: which weights of a matrix may be kept together.

Weights stand as torch's layers hold them, outputs first: `(outputs, inputs, ...)`. What follows the inputs, as the
positions of a kernel, is treated apart in blocks and in N of M, and counts as inputs in a constant fan-in.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reticket.errors import MaskError
from reticket.lookup import nearest
from reticket.tickets.counts import kept_count
from reticket.tickets.mask import Mask

FAN_IN = "fan-in"


@runtime_checkable
class Pattern(Protocol):
    """A pattern of kept weights."""

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a weight that can have no such pattern.

        Raises:
            MaskError: naming it.
        """
        ...

    def follows(self, kept: Bool[Tensor, "outputs inputs *positions"]) -> bool:
        """Return whether what is kept of a weight is of this pattern."""
        ...


@dataclass(frozen=True)
class NOfM:
    """N of every M consecutive inputs of an output are kept, as 2:4 of NVIDIA's sparse tensor cores.

    Args:
        n: inputs kept.
        m: consecutive inputs, which begin at a multiple of m.

    >>> NOfM(2, 4).follows(torch.tensor([[True, True, False, False], [False, True, False, True]]))
    True
    """

    n: int
    m: int

    @property
    def density(self) -> float:
        """Fraction of the weights that it keeps."""
        return self.n / self.m

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a weight whose inputs are no multiple of m."""
        _check_inputs(self, name, shape, self.m)

    def follows(self, kept: Bool[Tensor, "outputs inputs *positions"]) -> bool:
        """Return whether n of every m inputs are kept."""
        return kept.shape[1] % self.m == 0 and bool((_in_groups(kept, self.m).sum(dim=2) == self.n).all())

    def on_the_way(self, density: float) -> "NOfM":
        """Return the pattern of a mask of this density that is to come to this one: as many of m, at least n."""
        return NOfM(max(self.n, kept_count(density, self.m)), self.m)

    def largest(self, scores: Float[Tensor, "outputs inputs *positions"]) -> Bool[Tensor, "outputs inputs *positions"]:
        """Return the n largest of every m inputs.

        Args:
            scores: numbers, -inf for what cannot be kept.
        """
        return _largest(_in_groups(scores, self.m), self.n, dim=2).reshape(scores.shape) & (scores > -math.inf)

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclass(frozen=True)
class Blocks:
    """Whole blocks of weights are kept, of some outputs and inputs, as kernels for block-sparse matrices want them.

    Args:
        outputs: consecutive outputs of a block.
        inputs: consecutive inputs of a block.

    >>> Blocks(1, 2).follows(torch.tensor([[True, True, False, False], [False, True, False, True]]))
    False
    """

    outputs: int
    inputs: int

    @property
    def size(self) -> int:
        """Weights in a block."""
        return self.outputs * self.inputs

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a weight that blocks do not cover."""
        if shape[0] % self.outputs:
            raise MaskError(
                f"'{name}' has {shape[0]} outputs, which blocks of {self.outputs} do not cover; leave it out of names, "
                f"or choose another pattern than {self}"
            )
        _check_inputs(self, name, shape, self.inputs)

    def follows(self, kept: Bool[Tensor, "outputs inputs *positions"]) -> bool:
        """Return whether every block is kept or left out as a whole."""
        if kept.shape[0] % self.outputs or kept.shape[1] % self.inputs:
            return False
        share = self.summed(kept.float())
        return bool(((share == 0) | (share == self.size)).all())

    def summed(self, scores: Float[Tensor, "outputs inputs *positions"]) -> Float[Tensor, "rows columns *positions"]:
        """Return the sum over every block."""
        rows, columns = scores.shape[0] // self.outputs, scores.shape[1] // self.inputs
        return scores.reshape(rows, self.outputs, columns, self.inputs, *scores.shape[2:]).sum(dim=(1, 3))

    def whole(self, kept: Bool[Tensor, "rows columns *positions"]) -> Bool[Tensor, "outputs inputs *positions"]:
        """Return for every weight whether its block is kept."""
        return kept.repeat_interleave(self.outputs, dim=0).repeat_interleave(self.inputs, dim=1)

    def __str__(self) -> str:
        return f"{self.outputs}x{self.inputs}"


@dataclass(frozen=True)
class ConstantFanIn:
    """Every output of a weight keeps equally many inputs, as a gather of packed rows wants it (arXiv 2305.02299).

    >>> ConstantFanIn().follows(torch.tensor([[True, True, False, False], [False, True, False, True]]))
    True
    """

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse nothing: every weight has such a pattern."""

    def follows(self, kept: Bool[Tensor, "outputs inputs *positions"]) -> bool:
        """Return whether the outputs keep equally many weights."""
        counts = kept.flatten(1).sum(dim=1)
        return bool((counts == counts[:1]).all())

    def largest(
        self, scores: Float[Tensor, "outputs inputs *positions"], kept: int
    ) -> Bool[Tensor, "outputs inputs *positions"]:
        """Return the largest of every output.

        Args:
            scores: numbers, -inf for what cannot be kept.
            kept: how many are kept of the weight; every output keeps its share of them, rounded half up, at least one.
        """
        rows = scores.flatten(1)
        found = _largest(rows, max(1, math.floor(kept / len(rows) + 0.5)), dim=1)
        return (found & (rows > -math.inf)).reshape(scores.shape)

    def __str__(self) -> str:
        return FAN_IN


def pattern_of(text: str) -> NOfM | Blocks | ConstantFanIn:
    """Return the pattern that a text names.

    Args:
        text: "2:4" for 2 of every 4 consecutive inputs, "4x8" for blocks of 4 outputs and 8 inputs, "fan-in".

    Raises:
        MaskError: for any other text, or numbers that make no pattern.

    >>> pattern_of("2:4"), str(pattern_of("16x1"))
    (NOfM(n=2, m=4), '16x1')
    >>> pattern_of("4:2")
    Traceback (most recent call last):
    reticket.errors.MaskError: pattern '4:2' keeps 4 of 2 weights; give N:M with 0 < N < M
    """
    if text == FAN_IN:
        return ConstantFanIn()
    found = re.fullmatch(r"(\d{1,6})(:|x)(\d{1,6})", text) if isinstance(text, str) else None
    if found is None:
        raise MaskError(
            f"unknown pattern {text!r}{nearest(str(text), [FAN_IN])}; give N:M as 2:4, blocks of outputs x inputs as "
            f"4x8, or {FAN_IN}"
        )
    first, second = int(found[1]), int(found[3])
    if found[2] == ":" and not 0 < first < second:
        raise MaskError(f"pattern '{text}' keeps {first} of {second} weights; give N:M with 0 < N < M")
    if found[2] == "x" and not (first and second):
        raise MaskError(f"pattern '{text}' has blocks of no weight; give blocks of outputs x inputs as 4x8")
    return NOfM(first, second) if found[2] == ":" else Blocks(first, second)


def follows(mask: Mask, pattern: str, transposed: Mapping[str, bool] | None = None) -> bool:
    """Return whether every weight of a mask is of a pattern.

    Args:
        mask: of weights that stand outputs first.
        pattern: as of `pattern_of`.
        transposed: the weights that stand inputs first, as those of `Conv1D` and of transposed convolutions.

    >>> follows(Mask({"w": torch.tensor([[True, False], [False, True]])}), "1:2")
    True
    """
    wanted = pattern_of(pattern)
    return all(wanted.follows(outputs_first(kept, bool((transposed or {}).get(name)))) for name, kept in mask.items())


def check_density(pattern: str | None, density: float) -> None:
    """Refuse a density that is not the pattern's own, where it has one.

    Args:
        pattern: as of `pattern_of`; None for any.
        density: fraction of the weights that is asked for.

    Raises:
        MaskError: saying which it is.

    >>> check_density("2:4", 0.1)
    Traceback (most recent call last):
    reticket.errors.MaskError: pattern 2:4 keeps 0.5 of the weights, but density 0.1 was asked for; make them agree
    """
    wanted = None if pattern is None else pattern_of(pattern)
    if isinstance(wanted, NOfM) and abs(wanted.density - density) > 1e-6:
        raise MaskError(
            f"pattern {wanted} keeps {wanted.density:g} of the weights, but density {density:g} was asked for; make "
            f"them agree"
        )


def outputs_first(tensor: Tensor, transposed: bool) -> Tensor:
    """Return a weight, or what is indexed like it, with its outputs first, and its inputs second."""
    return tensor.transpose(0, 1) if transposed else tensor


def _check_inputs(pattern: object, name: str, shape: tuple[int, ...], least: int) -> None:
    if shape[1] % least:
        raise MaskError(
            f"'{name}' has {shape[1]} inputs, no multiple of {least}; leave it out of names, or choose another pattern "
            f"than {pattern}"
        )


def _in_groups(tensor: Tensor, m: int) -> Tensor:
    """Return a weight with its inputs in groups of m, along an axis of their own behind that of the groups."""
    return tensor.reshape(tensor.shape[0], -1, m, *tensor.shape[2:])


def _largest(scores: Tensor, count: int, dim: int) -> Tensor:
    """Return True for the `count` largest along an axis; of equal ones the first are kept."""
    first = scores.argsort(dim=dim, descending=True, stable=True).narrow(dim, 0, min(count, scores.shape[dim]))
    return torch.zeros(scores.shape, dtype=torch.bool, device="cpu").scatter_(dim, first, True)
