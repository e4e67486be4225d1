"""The rules of recurrent layers and cells: what they leave free keeps the function, and is all that there is."""

import pytest

from tests.recurrent_models import RECURRENT
from tests.together import Findings, built


@pytest.fixture(scope="module")
def found() -> Findings:
    return Findings(*built(RECURRENT, seed=1))


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_freedom_equals_the_hand_derived(found: Findings, name: str) -> None:
    assert found.log10_order(name) == pytest.approx(RECURRENT[name].log10_order), found.explain(name)
    assert found.wrong(name) == []


def test_every_recurrent_operator_has_a_rule(found: Findings) -> None:
    assert found.symmetry.notes == ()
    assert not any("train mode" in note for note in found.notes)
