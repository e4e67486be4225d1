"""What the tests of rules demand, as values: models, their inputs and the freedom of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.contracts import test_dependent_rules as dependent
from tests.contracts import test_symmetry_decomposed as decomposed
from tests.contracts import test_symmetry_indexing as indexing
from tests.contracts import test_symmetry_linalg as linalg
from tests.contracts import test_symmetry_operators as operators
from tests.contracts import test_symmetry_positions as positions
from tests.contracts import test_symmetry_rules as rules
from tests.models_for_symmetry import CASES, Case, orders
from tests.oracles.test_symmetry_awkward import FAMILIES
from tests.recurrent_models import RECURRENT
from tests.together import Together, built


@dataclass(frozen=True)
class Suite:
    """Several models in one and the freedom that each must have.

    Args:
        name: where the demands come from.
        model: the models in one.
        inputs: their example inputs.
        orders: log10 of the freedom, by the beginning of the names of a model's tensors.
    """

    name: str
    model: nn.Module
    inputs: Any
    orders: Mapping[str, float]


def of_cases(name: str, cases: Mapping[str, Case]) -> Suite:
    """The suite of hand-derived cases."""
    models, examples = built(cases, seed=1)
    demands = {f"models.{i}.": case.log10_order for i, case in enumerate(cases.values())}
    return Suite(name, Together(models), tuple(examples.values()), demands)


def suites() -> list[Suite]:
    """Every suite, the quicker ones first."""
    torch.manual_seed(3)
    functions = {**indexing.FREE, **indexing.PINNED}
    demands = {f"first.{name}.": orders(12) if name in indexing.FREE else 0.0 for name in functions}
    looks = {name: indexing.Looking(look) for name, look in indexing.LOOKS.items()}
    heads = {name: positions.Heads(function) for name, function in positions.SEPARATE.items()}
    looking = {f"models.{i}.": orders(6) for i in range(len(looks))}
    separate = {f"models.{i}.": orders(3) + 3 * orders(4) for i in range(len(heads))}
    return [
        of_cases("tables", dependent.CASES),
        of_cases("rules", rules.CASES),
        of_cases("operators", operators.CASES),
        of_cases("linalg", linalg.CASES),
        of_cases("decomposed", decomposed.CASES),
        of_cases("recurrent", RECURRENT),
        of_cases("models", {name: case for name, case in CASES.items() if name != "no-rule"}),
        Suite("indexing", indexing.Branches(functions), (indexing.example(),), demands),
        Suite("looking", Together(looks), tuple(torch.randn(2, 4) for _ in looks), looking),
        Suite("positions", Together(heads), tuple(indexing.example() for _ in heads), separate),
        *(of_cases(name, cases) for name, cases in FAMILIES.items()),
    ]
