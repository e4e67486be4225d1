"""A part of the table of operators (`make test-operators`), and that its brute force counts right and notices a lie."""

from dataclasses import replace
from math import factorial

import pytest
import torch

from reticket.symmetry.rules import RULES
from tests.operators.__main__ import page, tried
from tests.operators.case import Case, Net
from tests.operators.operators import OPERATORS
from tests.operators.oracle import FREE, LESS, UNSOUND, BruteForce, exchanges, find

QUICK = {
    "torch.clip": FREE,
    "torch.bitwise_left_shift": FREE,
    "Tensor.type_as": FREE,
    "torch.dist": FREE,
    "torch.sum": FREE,
    "torch.cumsum": FREE,
    "F.normalize": FREE,
    "F.layer_norm": FREE,
    "torch.tensordot": FREE,
    "torch.cdist": FREE,
    "F.cosine_similarity": FREE,
    "F.embedding_bag": FREE,
    "F.smooth_l1_loss": FREE,
    "torch.hstack": FREE,
    "torch.roll": FREE,
    "torch.index_add": FREE,
    "F.max_pool1d": FREE,
    # to turn an axis round moves its last unit with the first of what reads it: no term says so
    "torch.flip": LESS,
}


@pytest.mark.slow
def test_a_part_of_the_table() -> None:
    found = tried([operator for operator in OPERATORS if operator.name in QUICK])
    lines = [line for line in page(found).splitlines() if line.startswith("| `")]
    assert {line.split("`")[1]: line.split("|")[4].strip() for line in lines} == QUICK


def test_no_operator_stands_twice_in_the_table() -> None:
    names = [operator.name for operator in OPERATORS]
    assert len(set(names)) == len(names) >= 271


@pytest.mark.parametrize(
    ("case", "order"),
    [
        (Case(torch.abs), factorial(3) * factorial(5)),
        (Case(lambda x: x.cumsum(-1)), factorial(3)),
        (Case(lambda x: x[..., 2:].relu() * x[..., :1]), factorial(3) * factorial(3)),
        (Case(lambda x: x.sum()), factorial(3) * factorial(5)),
        # two heads of three units: the heads, and the units of each
        (Case(lambda x: x.unflatten(-1, (2, 3)).softmax(-1).flatten(2), sizes=(3, 6)), 6 * 2 * 6 * 6),
        (Case(lambda x, y: x @ y.mT, operands=2, sizes=(2, 3)), 2 * 2 * 6),
        (Case(lambda x, w: x @ w.T, further=((2, 3),), sizes=(2, 3)), 2 * 2 * 6),
    ],
)
def test_brute_force_counts_what_is_known(case: Case, order: int) -> None:
    assert BruteForce(Net(case)).order() == order


def test_every_exchange_of_neighbours_is_tried() -> None:
    assert len(exchanges(5)) == 8  # Fibonacci: matchings of a path of five
    assert len(exchanges(4)) == 5 + 4 - 1  # and those of two pairs two apart, the identity once


def test_a_rule_that_forgets_the_order_is_unsound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "aten.cumsum", replace(RULES["aten.relu"]))
    (finding,) = find([Case(lambda x: x.cumsum(-1))])
    assert (finding.verdict, finding.true, finding.found) == (UNSOUND, 6, 720)


def test_a_case_that_cannot_be_traced_is_less_free() -> None:
    found = find([Case(torch.abs), Case(lambda x: torch.bincount((x > 0).flatten().long()).float(), batch=False)])
    assert [finding.verdict for finding in found] == [FREE, LESS]
    assert "depends on values" in found[1].note
