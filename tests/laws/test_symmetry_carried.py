"""What goes along with the weights: extra state, state in plain attributes, and weights that are complex."""

import copy
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.symmetry import exact, verify

MANY = torch.randn(64, 6, generator=rt.generator_for("many"))
X, LABELS = torch.linspace(-1, 1, 48).reshape(8, 6), torch.arange(8) % 4


class Extra(nn.Module):
    """A model whose state_dict holds what is no weight."""

    def __init__(self, extra: Any, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.norm, self.b, self.extra = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4), extra

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.norm(self.a(x))))

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


PAIRS = {
    "dict": ({"steps": 1}, {"steps": 2}),
    "text": ("first", "second"),
    "tensor": (torch.tensor([2.0, 4.0]), torch.tensor([6.0, 8.0])),
    "tensors and None": ([torch.ones(2)], None),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


@pytest.mark.parametrize("name", PAIRS)
def test_extra_state_is_that_of_the_nearer_end(name: str) -> None:
    first, second = PAIRS[name]
    model, other = Extra(first, 1), Extra(second, 2)
    ends = model.state_dict(), other.state_dict()
    for alpha, wanted in ((0, first), (0.25, first), (0.5, second), (1, second)):
        mixtures = [rt.interpolate(*ends, alpha), *([rt.repair(model, ends, alpha, [X])] if alpha == 0.25 else [])]
        for state in mixtures:
            assert same(state["_extra_state"], wanted)
            assert list(state) == list(ends[0])
    half = rt.interpolate(*ends, 0.5)
    torch.testing.assert_close(half["a.weight"], (ends[0]["a.weight"] + ends[1]["a.weight"]) / 2)
    if isinstance(first, dict):
        half["_extra_state"]["steps"] = 7
        assert second == {"steps": 2}, "a copy, as the tensors are"
    assert len(rt.barrier(model, *ends, [(X, LABELS)], (0, 0.5, 1), repair=True).loss) == 3
    assert same(model.extra, first), "the caller's model keeps its own"


def test_extra_state_goes_along_with_masks_and_signs() -> None:
    model = Extra({"steps": 1}, 1)
    state, mask = model.state_dict(), rt.prune_magnitude(model, 0.5)
    assert mask.apply_to(state)["_extra_state"] == {"steps": 1}
    signed = rt.Ticket.of(state, mask).write_signs({**state, "a.weight": -state["a.weight"]})
    torch.testing.assert_close(signed["a.weight"] * mask["a.weight"], state["a.weight"] * mask["a.weight"])
    assert signed["_extra_state"] == {"steps": 1}
    found = rt.iterative_magnitude_pruning(state, [0.5], lambda weights, mask, of: weights, names=list(mask))
    assert found[0.5].weights["_extra_state"] == {"steps": 1}


def test_states_that_differ_in_kind_are_refused() -> None:
    with pytest.raises(rt.ReticketError, match=r"'w' has shape \(2,\) in a and a dict in b"):
        rt.interpolate({"w": torch.ones(2)}, {"w": {}}, 0.5)
    with pytest.raises(rt.ReticketError, match="'_extra_state' is in a only"):
        rt.interpolate({"w": torch.ones(2), "_extra_state": 1}, {"w": torch.ones(2)}, 0.5)


@dataclass(frozen=True)
class Table:
    scale: Tensor


Named = namedtuple("Named", "scale")
HOLDERS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "dict in dict": (lambda t: {"by name": {"scale": [t, (t,)]}}, lambda s: s["by name"]["scale"][1][0]),
    "frozen dataclass": (Table, lambda s: s.scale),
    "named tuple": (Named, lambda s: s.scale),
}


class Holding(nn.Module):
    """Keeps a tensor of its own dtype in a plain attribute, and another for each batch size that it has seen."""

    def __init__(self, hold: Callable[[Tensor], Any], look: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.look = nn.Linear(6, 8), nn.Linear(8, 4), look
        self.held, self.cache = hold(torch.linspace(0.5, 1, 6)), {}

    def forward(self, x: Tensor) -> Tensor:
        scale = self.look(self.held)
        if scale.dtype != x.dtype:
            raise TypeError(f"{scale.dtype} is not {x.dtype}")
        if len(x) not in self.cache:
            self.cache[len(x)] = scale + 0
        return self.b(torch.relu(self.a(x * self.cache[len(x)])))


@pytest.mark.parametrize("name", HOLDERS)
def test_state_in_plain_attributes_is_widened_in_the_copy_alone(name: str) -> None:
    hold, look = HOLDERS[name]
    model = Holding(hold, look)
    model(X)  # fills the cache in float32, before anything is copied
    twin: Any = exact.copy_in(model, torch.float64)
    assert look(twin.held).dtype == torch.float64
    assert twin.cache[8].dtype == torch.float64
    torch.testing.assert_close(twin(X.double()), model(X).double(), rtol=1e-6, atol=1e-6)
    sym = rt.discover(model, X)  # its proof runs in float64
    assert [group.size for group in sym.groups.values()] == [8]
    assert not sym.pinned_by_verify
    assert look(model.held).dtype == model.cache[8].dtype == torch.float32
    assert list(model.cache) == [8]


class Waves(nn.Module):
    """Complex weights: 8 hidden units, twice, and a real readout of their moduli."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Linear(6, 8, dtype=torch.cfloat), nn.Linear(8, 8, dtype=torch.cfloat)
        self.c = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(torch.tanh(self.a(x.to(torch.cfloat)))).abs())


def test_complex_weights_are_permuted_proven_matched_and_mixed() -> None:
    model, other = Waves(1), Waves(2)
    sym = rt.discover(model, X)
    assert [(group.name, group.size) for group in sym.groups.values()] == [("a.weight", 8), ("b.weight", 8)]
    assert not sym.pinned_by_verify
    verify(sym, model, X)
    with torch.no_grad():
        wanted = model(X)
    alignment = rt.random_alignment(sym, rt.generator_for("complex"))
    moved = alignment.apply(model.state_dict())
    torch.testing.assert_close(moved["a.weight"], model.a.weight.detach()[alignment.permutations["a.weight"].index])
    rt.load_into(other, moved)
    assert other.a.weight.dtype == torch.cfloat
    torch.testing.assert_close(other(X).detach(), wanted)
    found = rt.match(model, other, sym, [MANY])
    torch.testing.assert_close(dict(found.apply(model.state_dict())), dict(moved))
    ends = model.state_dict(), Waves(3).state_dict()
    quarter = rt.interpolate(*ends, 0.25)
    torch.testing.assert_close(quarter["a.weight"], 0.75 * ends[0]["a.weight"] + 0.25 * ends[1]["a.weight"])
    assert quarter["a.weight"].imag.abs().max() > 0
    assert rt.barrier(model, *ends, [(X, LABELS)], (0, 0.5, 1)).loss[0] == pytest.approx(
        nn.functional.cross_entropy(wanted, LABELS).item(), abs=1e-6
    )


def test_a_claim_that_moves_the_real_part_alone_is_refused() -> None:
    claim = {name: (None,) * tensor.dim() for name, tensor in Waves(1).state_dict().items()}
    claim |= {"a.weight": ("P", None), "a.bias": ("P",)}  # the columns of b do not follow
    with pytest.raises(rt.VerificationError, match="changes the function"):
        verify(rt.Symmetry.from_axes(claim, Waves(1)), Waves(1), X)


def test_the_copy_of_the_proof_keeps_imaginary_parts() -> None:
    model = Waves(1)
    twin: Any = exact.copy_in(model, torch.float64)
    assert copy.deepcopy(twin).a.weight.dtype == torch.complex128

    def output() -> Tensor:
        with exact.exact(0, torch.float64):
            return twin(X.double())

    torch.testing.assert_close(output(), model(X).double().detach(), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        twin.a.weight.copy_(twin.a.weight.real)
    assert not torch.allclose(output(), model(X).double(), rtol=1e-5, atol=1e-5)


def test_units_are_told_by_imaginary_parts_too_and_repair_refuses_them() -> None:
    model, twin = Waves(1), Waves(1)
    with torch.no_grad():
        for one in (model, twin):
            one.a.weight.copy_(one.a.weight.imag * 1j)  # real parts tell nothing
            one.a.bias.zero_()
    sym = rt.discover(model, X)
    moved = rt.random_alignment(sym, rt.generator_for("imaginary")).apply(model.state_dict())
    rt.load_into(twin, moved)
    found = rt.match(model, twin, sym, [MANY]).apply(model.state_dict())
    torch.testing.assert_close(dict(found), dict(moved))
    with pytest.raises(rt.ReticketError, match="REPAIR rescales real activations"):
        rt.repair(model, (model.state_dict(), moved), 0.5, [X])


def test_what_a_hook_holds_meets_float64_but_is_never_written_in_a_copy() -> None:
    held, wide = torch.full((2, 2), 3.0), torch.eye(2, dtype=torch.float64)
    with exact.Exact(torch.float64):
        assert torch.equal(torch.mm(held, wide), 3.0 * torch.ones(2, 2, dtype=torch.float64))
        with pytest.raises(RuntimeError, match=r"dtype|scalar type"):
            held.addmm_(wide, wide)
    assert torch.equal(held, torch.full((2, 2), 3.0))
