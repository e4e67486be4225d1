"""Awkward models: what the rules alone find keeps the function, and is as much as was derived by hand.

The derivations stand beside the models. Each family shares one trace, in which every model is on its own.
"""

from functools import cache

import pytest
import torch
from torch import nn

from reticket.symmetry import discover, verify
from tests.models_for_symmetry import Case, features, mlp, orders
from tests.models_with_attention import ATTENTION
from tests.models_with_modules import MODULES, RETURNS, SEVERAL
from tests.models_with_structure import CONVOLUTION, STRUCTURE
from tests.together import Findings, built

FAMILIES: dict[str, dict[str, Case]] = {
    "attention": ATTENTION,
    "convolution": CONVOLUTION,
    "structure": STRUCTURE,
    "modules": MODULES,
}


@cache
def found(family: str) -> Findings:
    """What is found for a family of models; tracing is the slow part, so it is kept."""
    return Findings(*built(FAMILIES[family], seed=1))


EACH = [pytest.param(family, name, id=name) for family, cases in FAMILIES.items() for name in cases]


@pytest.mark.parametrize(("family", "name"), EACH)
def test_freedom_equals_the_hand_derived(family: str, name: str) -> None:
    order = FAMILIES[family][name].log10_order
    assert found(family).log10_order(name) == pytest.approx(order), found(family).explain(name)
    assert found(family).wrong(name) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_operator_has_a_rule_and_everything_is_proven(family: str) -> None:
    assert found(family).symmetry.notes == ()
    assert not any("train mode" in note for note in found(family).notes)


@pytest.mark.slow_cases(but=["dict"])
@pytest.mark.parametrize("case", [SEVERAL, *RETURNS.values()], ids=["several-inputs", *RETURNS])
def test_inputs_and_outputs_of_every_kind(case: Case) -> None:
    torch.manual_seed(1)
    model, example = case.build(), case.example()
    symmetry = discover(model, example, verify=False)
    assert symmetry.log10_order == pytest.approx(case.log10_order)
    verify(symmetry, model, example)


def test_positional_and_keyword_inputs_may_be_mixed() -> None:
    torch.manual_seed(1)
    model, example = SEVERAL.build(), SEVERAL.example()
    rest = {"side": example["side"], "nothing": torch.ones(2, 7)}
    symmetry = discover(model, (example["ids"], example["x"]), rest, verify=False)
    assert symmetry.log10_order == 0  # ones for each of the 7 features come in by an input
    assert discover(model, (example["ids"], example["x"]), {"side": example["side"]}).log10_order == pytest.approx(
        orders(7)
    )


def test_an_unused_parameter_says_why_it_is_pinned() -> None:
    symmetry = discover(MODULES["unused-parameter"].build(), features(), verify=False)
    for name in ("idle.weight", "spare"):
        assert "not read for these inputs" in symmetry.explain(name)


def test_a_frozen_or_tied_copy_follows_its_twin() -> None:
    """Two names for one tensor, one of which no graph reads, must not move apart."""
    model = mlp(6, 8, 4)
    model.register_buffer("copy", model.get_parameter("0.weight").data)
    symmetry = discover(model, features(), verify=False)
    assert symmetry.layouts["copy"] == symmetry.layouts["0.weight"]
    assert symmetry.log10_order == pytest.approx(orders(8))


def test_views_of_one_memory_in_two_shapes_stay_where_they_are() -> None:
    class Overlap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            flat = torch.randn(48)
            self.first, self.second = nn.Parameter(flat.view(8, 6)), nn.Parameter(flat[:32].view(4, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(nn.functional.linear(x, self.first).relu(), self.second)

    symmetry = discover(Overlap(), features(), verify=False)
    assert symmetry.log10_order == 0
    assert "shares memory" in symmetry.explain("first")
