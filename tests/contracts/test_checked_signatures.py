"""The suite's own check of signatures is in force, and sees what it should."""

import inspect
from dataclasses import dataclass

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from reticket.training.loop import train
from reticket.types import Permutation
from tests.checked import EVERY, FIRST, checked


@checked
def doubled(number: int) -> int:
    return 2 * number


@checked
def row_sums(matrix: Float[Tensor, "rows columns"], factor: Float[Tensor, "columns"]) -> Float[Tensor, "rows"]:
    return matrix @ factor if len(factor) == matrix.shape[1] else matrix.sum(1)


@checked
@dataclass(frozen=True)
class Pair:
    """Has a method of every kind."""

    left: int
    right: int

    @property
    def both(self) -> str:
        return self.left  # pyright: ignore[reportReturnType]

    @classmethod
    def of(cls, number: int) -> "Pair":
        return cls(number, number)

    @staticmethod
    def larger(left: int, right: int) -> int:
        return max(left, right)


def test_the_packages_functions_and_methods_are_checked() -> None:
    for one in (train, Permutation.identity, Permutation.__init__):
        assert inspect.unwrap(one) is not one


def test_types_are_checked_in_the_first_calls_and_now_and_then() -> None:
    outcomes = ""
    for _ in range(FIRST + 2 * EVERY):
        try:
            doubled("ab")  # pyright: ignore[reportArgumentType]
            outcomes += "-"
        except BeartypeCallHintViolation:
            outcomes += "x"
    assert outcomes == "x" * FIRST + ("-" * (EVERY - 1) + "x") * 2


def test_shapes_are_checked() -> None:
    assert row_sums(torch.ones(2, 3), torch.ones(3)).tolist() == [3, 3]
    with pytest.raises(TypeCheckError):
        row_sums(torch.ones(2, 3), torch.ones(2))


def test_members_of_a_class_are_checked() -> None:
    assert Pair.larger(1, 2) == 2
    for wrong in (lambda: Pair.larger("a", 2), lambda: Pair.of("a"), lambda: Pair("a", 1), lambda: Pair(1, 2).both):  # pyright: ignore
        with pytest.raises(BeartypeCallHintViolation):
            wrong()
