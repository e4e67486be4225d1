"""Operators that take functions, derivatives inside forward, and values that only one kind of run reads."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

import reticket as rt
from reticket.symmetry import eager, replay, verify

X = torch.linspace(-1, 1, 24).reshape(4, 6) + 0.1
Forward = Callable[["Three", Tensor], Tensor]


class Three(nn.Module):
    """Three layers, 8 hidden units twice, with any forward."""

    def __init__(self, function: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.function = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def scaled_by_cond(m: Three, x: Tensor) -> Tensor:
    """Both branches see the input alone: all hidden units stay free."""
    scale = torch.cond(x.sum() > 0, lambda x: x.sum() * 2, lambda x: x.mean(), (x,))
    return m.c(torch.relu(m.b(torch.relu(m.a(x)) * scale)))


def hidden_in_cond(m: Three, x: Tensor) -> Tensor:
    """The first units go through the operator, which is not looked into; the second are free."""
    h = torch.cond(x.sum() > 0, lambda h: h * 2, lambda h: h.flip(-1), (torch.relu(m.a(x)),))
    return m.c(torch.relu(m.b(h)))


def layer_in_cond(m: Three, x: Tensor) -> Tensor:
    """The weights of `b` are in one branch: the second units may not move either, though the other way is gone."""
    h = torch.relu(m.a(x))
    return m.c(torch.cond(x.sum() > 0, lambda h: h * 2, lambda h: torch.sin(m.b(h)), (h,)))


def looped(m: Three, x: Tensor) -> Tensor:
    start = torch.tensor(0), torch.relu(m.a(x))
    _, h = while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, h * 0.5), start)
    return m.c(torch.relu(m.b(h)))


def mapped(m: Three, x: Tensor) -> Tensor:
    return torch.vmap(lambda row: m.c(torch.relu(m.b(torch.relu(m.a(row))))))(x)


def called(m: Three, x: Tensor) -> Tensor:
    h = torch.func.functional_call(m.a, dict(m.a.named_parameters()), (x,))
    return m.c(torch.relu(m.b(torch.relu(h))))


FREE: dict[str, tuple[Forward, list[str]]] = {
    "cond on inputs": (scaled_by_cond, ["a.weight", "b.weight"]),
    "cond on units": (hidden_in_cond, ["b.weight"]),
    "cond with a layer": (layer_in_cond, []),
    "while_loop": (looped, ["b.weight"]),
    "vmap": (mapped, ["a.weight", "b.weight"]),
    "functional_call": (called, ["a.weight", "b.weight"]),
}


@pytest.mark.slow_cases(but=["functional_call"])
@pytest.mark.parametrize("name", FREE)
def test_what_such_operators_touch_is_pinned_and_the_rest_is_free(name: str) -> None:
    function, free = FREE[name]
    model, twin = Three(function), Three(function)
    sym = rt.discover(model, X, verify="cond" in name)
    assert list(sym.groups) == free
    assert not sym.pinned_by_verify
    assert not any("not" in note.replace("without", "") for note in sym.notes), sym.notes
    rt.load_into(twin, rt.random_alignment(sym, rt.generator_for("higher")).apply(model.state_dict()))
    for x in (X, -X):  # the way of the example, and the other one
        with torch.no_grad():
            torch.testing.assert_close(twin(x), model(x))
    if name == "cond on inputs":
        rt.match(model, twin, sym, [X])


def test_the_assertion_sees_a_run_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "STEPS", {})
    monkeypatch.delattr(torch.compiler, "set_stance", raising=False)
    with pytest.raises(rt.ReticketError, match="runs, but not without gradients and with its calls watched"):
        rt.discover(Three(scaled_by_cond), X)


def energy(m: Three, x: Tensor) -> Tensor:
    return m.c(torch.tanh(m.b(torch.tanh(m.a(x))))).sum()


def force(m: Three, x: Tensor) -> Tensor:
    return torch.func.grad(lambda x: energy(m, x))(x)


def force_by_autograd(m: Three, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(energy(m, x), x)[0]


def force_of_the_caller(m: Three, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(energy(m, x), x)[0]


@pytest.mark.parametrize("function", [force, force_by_autograd, force_of_the_caller])
def test_derivatives_are_named_and_the_advice_holds(function: Forward) -> None:
    model = Three(function)
    with pytest.raises(rt.ReticketError, match=r"takes derivatives .*discover the part that it differentiates"):
        rt.discover(model, X)
    sym = rt.discover(Three(energy), X, verify=False)
    assert list(sym.groups) == ["a.weight", "b.weight", "c.weight"], "a sum over the outputs frees them too"
    if function is force:  # the last runs with gradients only
        verify(sym, model, X)
    twin = Three(function)
    rt.load_into(twin, rt.random_alignment(sym, rt.generator_for("force")).apply(model.state_dict()))
    torch.testing.assert_close(twin(X), model(X))


def shown(m: Three, x: Tensor) -> Tensor:
    """As libraries skip a mask of ones in eager runs."""
    h = torch.relu(m.a(x))
    if not torch.compiler.is_exporting() and bool((x > 9).any()):
        h = h.flip(-1)
    return m.c(torch.relu(m.b(h)))


def shown_and_read(m: Three, x: Tensor) -> Tensor:
    h = shown(m, x)
    return h * 2 if x.sum() > 0 else h


def traced_only(m: Three, x: Tensor) -> Tensor:
    h = torch.relu(m.a(x))
    if torch.compiler.is_exporting() and x.sum() > 0:
        h = h * 2
    return m.c(torch.relu(m.b(h)))


@pytest.mark.parametrize("function", [shown, shown_and_read])
def test_what_only_an_eager_run_reads_is_told(function: Forward) -> None:
    sym = rt.discover(Three(function), X, verify=False)
    assert [group.size for group in sym.groups.values()] == [8, 8]
    (way,) = [note for note in sym.notes if note.startswith("holds for inputs that take the way of")]
    lines = shown.__code__.co_firstlineno + 3, shown_and_read.__code__.co_firstlineno + 2
    told = re.findall(r"bool\(\) at test_symmetry_higher_order.py:(\d+) giving (\w+)", way)
    assert told == [(str(lines[0]), "False"), (str(lines[1]), "True")][: 1 + (function is shown_and_read)]


def test_reads_in_another_order_are_answered_by_their_line() -> None:
    reads = [replay.Read("bool()", value, line) for value, line in ((True, "a:1"), (False, "a:2"), (True, "a:2"))]
    answers = replay._Replay(reads)
    assert answers._next("bool()", "a:2", 1) == [False]  # "a:1" ran in the recorded run only
    assert answers._next("bool()", "a:9", 1) is None  # runs in this one only
    assert answers._next("bool()", "a:2", 1) == [True]
    assert answers._next("bool()", "a:1", 1) is None


def test_a_line_that_only_the_tracer_reaches_is_named() -> None:
    line = traced_only.__code__.co_firstlineno + 2
    with pytest.raises(
        rt.ReticketError, match=rf"a decision at test_symmetry_higher_order.py:{line} depends on values"
    ):
        rt.discover(Three(traced_only), X)


def unique(m: Three, x: Tensor) -> Tensor:
    found, place = torch.unique((x > 0).sum(1), return_inverse=True)
    return m.c(torch.zeros(len(found), 8).index_add(0, place, m.a(x)))


def masked(m: Three, x: Tensor) -> Tensor:
    h = m.a(x) * 2 if x.sum() > 0 else m.a(x)
    return m.c(h[x[:, 0] > 0]).mean(0)


@pytest.mark.parametrize(("function", "place"), [(unique, (unique, 2)), (masked, (Three.forward, 1))])
def test_a_shape_that_values_decide_is_refused_at_its_line(function: Forward, place: tuple[Any, int]) -> None:
    line = place[0].__code__.co_firstlineno + place[1]  # a graph knows the line in the forward of a module
    with pytest.raises(rt.ReticketError, match=rf"test_symmetry_higher_order.py:{line} depends on values; remove"):
        rt.discover(Three(function), X)
