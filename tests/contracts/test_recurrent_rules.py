"""The rules of recurrent layers and cells: what they leave free keeps the function, and is all that there is."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from torch._decomp import decompositions
from torch._subclasses.fake_tensor import FakeTensorMode

from reticket.symmetry import discover, graph
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


def test_final_states_keep_their_shape_where_torch_traces_them_with_one_axis_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = RECURRENT["final-hidden-state-of-two"]
    model, example = case.build().double(), case.example().double()  # in float32 torch may ask mkldnn instead
    one_layer: Callable[..., Any] = decompositions.one_layer_lstm

    def as_in_torch_2_11(*args: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        output, final = one_layer(*args, **kwargs)
        return output, [state.unsqueeze(0) for state in final]

    monkeypatch.setattr(decompositions, "one_layer_lstm", as_in_torch_2_11)
    with monkeypatch.context() as patch:
        patch.setattr(graph, "lstm_states", nullcontext)
        FakeTensorMode.cache_clear()
        with pytest.raises(AssertionError, match=r"rule of aten.lstm.input"):
            discover(model, example)
    assert discover(model, example).log10_order == pytest.approx(case.log10_order)
    assert decompositions.one_layer_lstm is as_in_torch_2_11
