"""What runs a model leaves it as it was: everything that it writes to, whether the call succeeds or raises."""

import copy
import functools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.errors import ModelError, VerificationError
from reticket.symmetry import untouched, verify
from reticket.symmetry.reach import Reach, names_in
from reticket.symmetry.untouched import Kept
from tests.models_that_write import WRITERS, Net, Shared, bounded, fresh_globals, unbounded

X, LABELS = torch.linspace(-1, 1, 48).reshape(8, 6), torch.zeros(8, dtype=torch.int64)
WRONG = {"a.weight": ("P", None), "a.bias": ("P",), "b.weight": (None, None), "b.bias": (None,)}


def discover(model: nn.Module, name: str) -> None:
    try:
        rt.discover(model, X)
    except ModelError as error:
        if "cannot trace" not in str(error):
            raise


@functools.cache
def discovered(name: str) -> rt.Symmetry:
    try:
        return rt.discover(WRITERS[name].build(), X, verify=False)
    except ModelError:  # writes through `.data` cannot be traced
        return rt.discover(Net(), X, verify=False)


def verified(model: nn.Module, name: str) -> None:
    with suppress(rt.ReticketError):  # a model that writes into its weights may be refused: it must be left as it was
        verify(discovered(name), model, X)


def matched(model: nn.Module, name: str) -> None:
    rt.match(model, copy.deepcopy(model), discovered(name), [X, X], unmatched="identity")


def on_the_line(model: nn.Module, name: str) -> None:
    rt.barrier(model, model.state_dict(), model.state_dict(), [(X, LABELS)], (0, 1), repair=True)


CALLS: dict[str, Callable[[nn.Module, str], Any]] = {
    "discover": discover,
    "verify": verified,
    "match": matched,
    "barrier": on_the_line,
    "repair": lambda model, name: rt.repair(model, (model.state_dict(), model.state_dict()), 0.5, [X]),
}


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def differs(a: Any, b: Any) -> bool:
    """Whether two looks differ in a bit, a type or a place; inference tensors differ from all."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype != b.dtype or not torch.equal(a, b) or b.is_inference()
    if type(a) is not type(b):
        return True
    if isinstance(a, dict):
        return list(a) != list(b) or any(differs(a[key], b[key]) for key in a)
    if isinstance(a, str) or not hasattr(a, "__iter__"):
        return bool(a != b)
    return len(a) != len(b) or any(differs(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", WRITERS)
def test_a_plain_run_does_write(name: str) -> None:
    model, look = WRITERS[name].build(), WRITERS[name].look
    before = copy.deepcopy(look(model))
    model(X)
    assert differs(before, look(model)), "this model would not notice a call that leaves a trace"


@pytest.mark.slow_cases(
    "parameter-clamped-discover",
    "parameter-clamped-verify",
    "embedding-renormed-discover",
    "embedding-renormed-verify",
    "buffer-in-place-discover",
    "buffer-in-place-verify",
    "buffer-rebound-verify",
    "tensor-in-a-list-verify",
)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", WRITERS)
def test_the_model_is_left_as_it_was(name: str, call: str) -> None:
    torch.manual_seed(1)
    model, look = WRITERS[name].build(), WRITERS[name].look
    before, weights = copy.deepcopy(look(model)), [(p, p.data_ptr(), p._version) for p in model.parameters()]
    CALLS[call](model, name)
    watched = call == "match" and name in ("hook-with-a-list", "hook-with-a-variable")
    assert differs(before, look(model)) == watched, "hooked functions may watch the batches of a match, no other run"
    assert [(p, p.data_ptr()) for p in model.parameters()] == [w[:2] for w in weights]
    model.train()(X).square().mean().backward()


@pytest.mark.parametrize("call", ["discover", "barrier"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_model_that_fails_half_way_is_left_as_it_was(name: str, call: str) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("half way")

    model, look = WRITERS[name].build(), WRITERS[name].look
    model.b.register_forward_hook(fail)  # type: ignore[union-attr, operator]
    before = copy.deepcopy(look(model))
    with pytest.raises(ModelError, match="half way"):
        CALLS[call](model, name)
    assert not differs(before, look(model))


@pytest.mark.parametrize("name", WRITERS)
def test_the_assertion_sees_a_restoration_that_does_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untouched, "kept", suppress)
    monkeypatch.setattr(Kept, "restore", lambda self: None)
    model, look = WRITERS[name].build(), WRITERS[name].look
    before = copy.deepcopy(look(model))
    with suppress(rt.ReticketError):
        match_only(model)
    assert differs(before, look(model))


def match_only(model: nn.Module) -> None:
    """Run the model as `match` does, with nothing put back."""
    model.eval() if not isinstance(model, Net) or "n" not in dict(model.named_children()) else model.train()
    with torch.no_grad():
        model(X)


def test_shared_caches_hold_no_other_dtype_afterwards() -> None:
    model = fresh_globals()
    rt.discover(model, X)
    for batch in (8, 7, 9):  # the proof ran on these sizes, in float64
        assert model(X[:1].expand(batch, 6)).dtype == torch.float32
        assert unbounded(batch).dtype == bounded(batch)[0].dtype == torch.float32


def test_what_a_cache_held_before_is_still_there() -> None:
    model = fresh_globals()
    model(X)
    table, known = unbounded(8), dict(Shared.known)
    rt.discover(model, X)
    assert unbounded(8) is table
    assert Shared.known.keys() == known.keys()
    assert all(Shared.known[key] is known[key] for key in known)


class Fused(Net):
    """Multiplies its two matrices at the first call and keeps the product: later weights have no effect."""

    def begin(self) -> None:
        self.product: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.product is None:
            self.product = self.b.weight @ self.a.weight
        return x @ self.product.T + self.b.bias + self.b.weight @ self.a.bias


class Drawn(Net):
    """Makes its table of the weights under a cache that all share."""

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))) * scales(self)


@functools.cache
def scales(model: Drawn) -> Tensor:
    return model.a.bias.detach() @ torch.arange(8.0).to(model.a.bias.dtype)


@pytest.mark.parametrize("kind", [Fused, Drawn])
def test_the_proof_sees_weights_that_an_earlier_run_made_a_table_of(kind: type[Net]) -> None:
    model = kind()
    with pytest.raises(VerificationError, match="changes the function"):
        verify(rt.Symmetry.from_axes(WRONG, model), model, X)


def test_a_proof_on_a_stale_copy_would_believe_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kept, "restore", lambda self: None)
    model = Fused()
    with torch.no_grad():
        model.a.bias.zero_()
    model.a.bias.requires_grad_(False)
    claim = rt.Symmetry.from_axes({**WRONG, "a.bias": (None,)}, model)
    verify(claim, model, X)


def test_batches_may_draw_from_the_generators_of_python() -> None:
    def batches() -> Iterator[Tensor]:
        for _ in range(3):
            drawn.append(random.random())
            yield X

    model, drawn = Net(), list[float]()
    random.seed(1)
    rt.match(model, Net(), rt.discover(model, X, verify=False), batches())
    assert len(set(drawn)) == 3
    assert random.random() not in drawn


def test_values_that_are_not_numbers_are_not_written_again() -> None:
    model, steps = Net(), torch.tensor([float("nan"), 1.0])
    model.register_buffer("steps", steps)
    version = steps._version
    rt.discover(model, X)
    assert steps._version == version
    kept = Kept([model])
    steps[0] = 2.0
    kept.restore()
    torch.testing.assert_close(steps, torch.tensor([float("nan"), 1.0]), equal_nan=True)


class Asserting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 2
        return x


def test_what_pytest_writes_into_an_assertion_leads_nowhere() -> None:
    """The rewritten `assert` names pytest's own functions, which reach every test of the session."""
    assert "@pytest_ar" in names_in(Asserting.forward.__code__)
    reach = Reach([Asserting()])
    assert {type(item).__module__.partition(".")[0] for item in reach.objects} == {__name__.partition(".")[0]}
    assert len(reach.containers) < 100
