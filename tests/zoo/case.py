"""One model of the zoo, what its configuration says about its symmetry, and the check of both."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from reticket.symmetry import discover, verify


def orders(*sizes: int) -> float:
    """Return log10 of the product of n! over the sizes n: one free permutation for each.

    >>> round(10 ** orders(3, 4))
    144
    """
    return math.fsum(math.lgamma(n + 1) for n in sizes) / math.log(10)


def attention(heads: int, query: int, value: int, shared: int = 1) -> float:
    """Return log10 of H! * (d_qk!)^H * (d_v!)^H * (r!)^H.

    Whole heads move; within a head the channels that queries and keys meet in, and those of the values, each by one
    permutation for every head; with grouped queries so do the r queries that share one head of keys and values.

    Args:
        heads: heads of keys and values, H.
        query: free channels of queries and keys within a head; 1 where they are pinned.
        value: channels of values within a head.
        shared: queries to each head of keys, r.
    """
    return orders(heads) + heads * orders(query, value, shared)


@dataclass(frozen=True)
class Case:
    """A model with the symmetry that its configuration gives it.

    Args:
        build: makes the model and its inputs, without any download.
        log10_order: the order of its symmetry, worked out by hand.
        still: how many numbers of its state_dict no permutation moves, worked out by hand.
        quick: also runs in `make test`.
    """

    build: Callable[[], tuple[nn.Module, Any]]
    log10_order: float
    still: int
    quick: bool = False


def parameters(cases: dict[str, Case]) -> list[Any]:
    """Return the cases for `pytest.mark.parametrize`; all but the quick ones run in `make test-zoo` alone."""
    return [pytest.param(case, id=name, marks=() if case.quick else pytest.mark.zoo) for name, case in cases.items()]


def check(case: Case) -> None:
    """Demand that the rules alone find the whole symmetry, and that it keeps the function."""
    torch.manual_seed(0)
    model, inputs = case.build()
    symmetry = discover(model, inputs, verify=False)
    assert [note for note in symmetry.notes if "without a rule" in note or "eval mode only" in note] == []
    verify(symmetry, model, inputs, draws=4)
    assert symmetry.log10_order == pytest.approx(case.log10_order, abs=1e-6)
    numbers = sum(tensor.numel() for tensor in model.state_dict().values() if tensor.dim())
    assert symmetry.movable == pytest.approx(1 - case.still / numbers, abs=1e-12)
