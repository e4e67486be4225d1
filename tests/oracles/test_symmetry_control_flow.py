"""Models whose way depends on values: found by replaying a concrete run, and never at the price of the function."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import ModelError, VerificationError
from reticket.rng import generator_for
from reticket.symmetry import discover, load_into, random_alignment, verify
from reticket.symmetry.calls import calls_of, differs_in_training
from reticket.symmetry.graph import Inputs, trace
from tests.models_for_symmetry import CASES, orders, solved

Hidden = Callable[[Tensor, Tensor], Tensor]


class Between(nn.Module):
    """`last(function(x, relu(first(x))))`: 8 hidden units."""

    def __init__(self, function: Hidden) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 8), nn.Linear(8, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(x, self.first(x).relu()))


def branch(x: Tensor, h: Tensor) -> Tensor:
    if x.sum() > 0:
        h = h.tanh()
    return h


def repeated(x: Tensor, h: Tensor) -> Tensor:
    for _ in range(int(x[0, 0])):
        h = h.sin()
    return h


def early_exit(x: Tensor, h: Tensor) -> Tensor:
    if bool((h.mean(1) > 1e-3).all()):
        return h
    return h.flip(1)


def listed(x: Tensor, h: Tensor) -> Tensor:
    low, high = sorted(x.mean(0).tolist())[:2]
    return h.cos() if low > high else h.exp()


def one_unit_decides(x: Tensor, h: Tensor) -> Tensor:
    return h.tanh() if h[:, 3].sum() > 1e9 else h.sin()


def halves_decide(x: Tensor, h: Tensor) -> Tensor:
    return h.tanh() if h[:, :5].sum() > h[:, 5:].sum() else h.sin()


def positions(x: Tensor, h: Tensor) -> Tensor:
    return h + x[(x[:, 0] > 0).nonzero().squeeze(-1)].sum()


# the way, the sizes of the groups that stay free, and what the note says about the values
REPLAYED: dict[str, tuple[Hidden, list[int], str]] = {
    "branch": (branch, [8], r"bool() at test_symmetry_control_flow.py:\d+ giving True"),
    "loop": (repeated, [8], r"int() at .* giving 2"),
    "early-exit": (early_exit, [8], r"bool() at .* giving True"),
    "tolist": (listed, [8], r"item() at .* giving"),
    "one-unit": (one_unit_decides, [3, 4], r"bool() at .* giving False"),
    "halves": (halves_decide, [3, 5], r"bool() at"),
    "nonzero": (positions, [8], r"nonzero() at .* giving its values"),
}


def given() -> Tensor:
    return torch.tensor([[2.5, 0.3, -0.2, 0.9], [0.4, 1.0, 0.7, -0.1], [1.2, -0.5, 0.8, 0.6]])


def built(function: Hidden) -> Between:
    torch.manual_seed(5)
    model = Between(function)
    with torch.no_grad():
        model.first.bias.add_(0.5)
    return model


@pytest.mark.parametrize("name", REPLAYED)
def test_a_way_that_values_decide_is_replayed(name: str) -> None:
    function, sizes, note = REPLAYED[name]
    model = built(function)
    symmetry = discover(model, given(), verify=False)
    assert sorted(group.size for group in symmetry.groups.values()) == sizes
    (text,) = [text for text in symmetry.notes if text.startswith("holds for inputs that take the way of")]
    assert re.search(note.replace("()", r"\(\)"), text), text
    twin = built(function)
    load_into(twin, random_alignment(symmetry, generator_for("way")).apply(model.state_dict()))
    torch.testing.assert_close(twin(given()), model(given()))


def test_a_number_taken_out_holds_for_every_value() -> None:
    """A scale is traced as a symbol: nothing is recorded, and the result is not limited to one value."""
    model = built(lambda x, h: h * x.abs().max().item())
    symmetry = discover(model, given())
    assert symmetry.log10_order == pytest.approx(orders(8))
    assert symmetry.notes == symmetry.pinned_by_verify == ()


@dataclass
class Answer:
    """What a model may return that torch.export does not know."""

    score: Tensor
    hidden: Tensor | None


class Answering(Between):
    def forward(self, x: Tensor) -> Answer:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Answer(super().forward(x), None)


def test_dataclasses_are_opened_and_their_tensors_compared() -> None:
    torch.manual_seed(0)
    model = Answering(lambda x, h: h)
    symmetry = discover(model, given())
    assert symmetry.log10_order == pytest.approx(orders(8))
    broken = discover(Answering(lambda x, h: h), given(), free=["output0:1"], verify=False)
    assert broken.log10_order == pytest.approx(orders(8, 2))
    other = Answering(lambda x, h: h.cumsum(1))
    with pytest.raises(VerificationError, match=r"permuting first\.weight changes"):
        verify(symmetry, other, given())


class WaysOfHidden(Between):
    """Which way random inputs take is not the example's."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.last(h) if bool((x == 1).all()) else self.last(h.cumsum(1))


def test_inputs_that_go_another_way_prove_nothing_and_this_is_said() -> None:
    model = WaysOfHidden(lambda x, h: h)
    symmetry = discover(model, torch.ones(3, 4))
    assert symmetry.log10_order == pytest.approx(orders(8))
    assert symmetry.pinned_by_verify == ()
    assert any("on random ones the model fails or acts otherwise" in note for note in symmetry.notes)
    reverse = discover(model, given())
    assert reverse.log10_order == 0


def test_the_model_is_left_as_it_was() -> None:
    model = built(branch).train()
    model.register_buffer("steps", torch.zeros(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes, rng = sorted(model.__dict__), torch.get_rng_state()
    discover(model, given())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), rng)
    assert sorted(model.__dict__) == attributes
    assert "forward" not in model.__dict__
    assert model.training


def outside(x: Tensor, h: Tensor) -> Tensor:
    return h * float(x.detach().numpy().max())


@pytest.mark.parametrize("function", [outside, lambda x, h: h[x[:, 0] > 0]])
def test_what_cannot_be_replayed_is_one_clear_error(function: Hidden, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"torch\.export cannot trace Between in eval mode: .*on its own$") as caught:
        discover(built(function), given())
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


class Recorded(nn.Module):
    """Differs between the modes in what it computes, reads or returns."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.kind, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), kind, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        train = self.training
        layer = self.b if self.kind == "layer" and train else self.a
        y = self.drop(layer(x))
        if self.kind == "operator" and train:
            y = y.cumsum(1)
        if self.kind == "number":
            y = y * (2.0 if train else 1.0)
        return (y, y.sum()) if self.kind == "result" and train else (y,)


@pytest.mark.slow_cases(but=["number-True"])
@pytest.mark.parametrize(("kind", "differs"), [(k, k != "none") for k in ("none", "layer", "operator", "number")])
def test_train_mode_is_traced_where_it_differs(kind: str, differs: bool) -> None:
    model, inputs = Recorded(kind), Inputs.of(given())
    assert differs_in_training(model, inputs, calls_of(model, inputs, train=False)) is differs
    result = Recorded("result")
    assert differs_in_training(result, inputs, calls_of(result, inputs, train=False))


@pytest.mark.slow_cases(but=["tied"])
@pytest.mark.parametrize("name", ["residual-batchnorm", "depthwise", "attention", "lstm", "concat", "tied"])
def test_one_trace_finds_what_two_decomposed_ones_find(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short cuts, one trace for both modes and no decomposition, change nothing."""
    module = sys.modules["reticket.symmetry.discover"]
    model, short = solved(name)
    monkeypatch.setattr(module, "differs_in_training", lambda *args: True)
    monkeypatch.setattr(module, "trace", lambda model, inputs, train, known: trace(model, inputs, train=train))
    long = discover(model, CASES[name].example(), verify=False)
    assert long.layouts == short.layouts
    assert {site.execution for site in long.sites} == {site.execution for site in short.sites}
