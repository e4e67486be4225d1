"""Sparse tensors are carried along as they are; nested and quantised ones are refused in one sentence."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.copied import private_copy
from reticket.symmetry import Alignment, verify
from reticket.types import Permutation

X, LABELS = torch.linspace(-1, 1, 30).reshape(5, 6), torch.arange(5) % 3
RING = torch.eye(5) + torch.eye(5).roll(1, 0) * 0.5
warnings.filterwarnings("ignore", "Sparse C")
LAYOUTS = {"coo": torch.sparse_coo, "csr": torch.sparse_csr, "csc": torch.sparse_csc}


class Graph(nn.Module):
    """Two layers of a graph network over five nodes: the sparse matrix stands on their axis."""

    def __init__(self, layout: str, *, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("ring", RING.to_sparse(layout=LAYOUTS[layout]), persistent=persistent)
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        with torch.no_grad():
            self.a.bias.copy_(torch.linspace(-1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.ring, self.b(torch.relu(torch.sparse.mm(self.ring, self.a(x)))))


def values(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.to_dense() for name, tensor in state.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_with_a_sparse_buffer_is_like_any_other(layout: str) -> None:
    torch.manual_seed(0)
    model: Any = Graph(layout)
    other = Graph(layout)
    wanted = model(X).detach()
    torch.testing.assert_close(wanted, RING @ model.b(torch.relu(RING @ model.a(X))))
    sym = rt.discover(model, X)
    assert sym.log10_order == pytest.approx(math.log10(math.factorial(8))), "the hidden units move, the nodes do not"
    assert "not dense: a sparse tensor" in sym.explain("ring")
    assert not sym.pinned_by_verify
    moved = rt.random_alignment(sym, rt.generator_for("sparse")).apply(model.state_dict())
    assert not torch.equal(moved["a.weight"], model.a.weight)
    assert torch.equal(moved["ring"].to_dense(), RING)
    rt.load_into(other, moved)
    torch.testing.assert_close(other(X), wanted)
    rt.match(model, other, sym, [X])
    ends = model.state_dict(), Graph(layout).state_dict()
    middle = values(rt.interpolate(*ends, 0.5))
    torch.testing.assert_close(middle["a.weight"], (ends[0]["a.weight"] + ends[1]["a.weight"]) / 2)
    assert torch.equal(middle["ring"], RING)
    curve = rt.barrier(model, *ends, [(X, LABELS)], (0, 0.5, 1), repair=True)
    assert curve.loss[0] == pytest.approx(nn.functional.cross_entropy(wanted, LABELS).item(), abs=1e-6)


def test_a_sparse_buffer_whose_values_differ_is_mixed_like_the_dense_one() -> None:
    for layout in LAYOUTS.values():
        ends = [{"s": (RING * k).to_sparse(layout=layout)} for k in (1.0, 3.0)]
        first, second = ends
        torch.testing.assert_close(
            rt.interpolate(first, second, 0.25)["s"].to_dense(), RING * 1.5
        )  # 0.75 * 1 + 0.25 * 3
        assert torch.equal(rt.interpolate(first, second, 1)["s"].to_dense(), RING * 3)
    with pytest.raises(
        rt.ReticketError, match=r"'s' has shape \(5, 5\) in a and \(5, 5\) as a sparse tensor \(torch.sparse_coo\) in b"
    ):
        rt.interpolate({"s": RING}, {"s": RING.to_sparse()}, 0.5)


def test_other_values_are_seen_and_a_wrong_claim_is_refused() -> None:
    model: Any = Graph("coo")
    assert not torch.equal(model.ring.to_dense(), private_copy(model).ring.to_dense() * 2)
    claim = {
        "a.weight": ("P", None),
        "a.bias": ("P",),
        "b.weight": (None, None),
        "b.bias": (None,),
        "ring": (None, None),
    }
    with pytest.raises(rt.VerificationError, match="changes the function"):
        verify(rt.Symmetry.from_axes(claim, model), model, X)
    moving = rt.Symmetry.from_axes({**claim, "ring": ("Q", "Q")}, model)
    turn = {"Q": Permutation(torch.tensor([1, 2, 3, 4, 0])), "P": Permutation.identity(8)}
    with pytest.raises(
        rt.ReticketError, match=r"'ring' is a sparse tensor \(torch.sparse_coo\) and cannot be permuted"
    ):
        Alignment(moving, turn).apply(model.state_dict())


def test_loading_into_a_compressed_buffer_of_other_places_changes_nothing() -> None:
    model: Any = Graph("csr")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = {name: tensor + 1 if name != "ring" else torch.eye(5).to_sparse_csr() for name, tensor in before.items()}
    with pytest.raises(rt.ReticketError, match=r"cannot load 'ring', of layout torch\.sparse_csr"):
        rt.load_into(model, other)
    assert torch.equal(model.a.weight, before["a.weight"])


@pytest.mark.parametrize("to", ["to_sparse", "to_sparse_csr"])
def test_a_sparse_input_and_a_sparse_output(to: str) -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(torch.sparse.mm(x, self.a.weight.t()))).to_sparse()

    model, x = Ends(), getattr(X.round(), to)()
    sym = rt.discover(model, x)
    assert [group.size for group in sym.groups.values()] == [8]
    assert not sym.pinned_by_verify
    rt.barrier(model, model.state_dict(), model.state_dict(), [(x, LABELS)], (0, 1))


def holding(tensor: Tensor, *, parameter: bool = False, plain: bool = False) -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 3))
    if parameter:
        model.register_parameter("held", nn.Parameter(tensor))
    elif plain:
        model.held = tensor
        model[0].register_forward_hook(lambda layer, args, out: torch.sparse.mm(model.held, torch.hstack([out])))
    else:
        model.register_buffer("held", tensor)
    return model


def test_a_sparse_tensor_that_a_hook_holds_is_carried_along() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    held = RING.to_sparse()
    model[0].register_forward_hook(lambda layer, args, out: torch.sparse.mm(held, out))
    torch.testing.assert_close(model(X), model[2](torch.relu(RING @ (X @ model[0].weight.T + model[0].bias))))
    sym = rt.discover(model, X)
    assert sym.log10_order == pytest.approx(math.log10(math.factorial(8)))
    assert not sym.pinned_by_verify
    assert held.dtype == torch.float32


NESTED = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=torch.jagged)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch is giving up these dtypes
    QUANTISED = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
REFUSED: dict[str, tuple[nn.Module, str]] = {
    "nested": (holding(NESTED), "'held' of the model .* is a nested tensor.*: pad it"),
    "quantised": (holding(QUANTISED), "'held' of the model .* is quantised.*dequantize"),
    "compressed parameter": (
        holding(RING.to_sparse_csr(), parameter=True),
        "'held' .* is a parameter of layout torch.sparse_csr.*dense or COO",
    ),
    "plain": (
        holding(RING.to_sparse(), plain=True),
        "holds a sparse tensor that is neither a parameter nor a buffer.*register",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_cannot_trace_is_refused_in_one_sentence(name: str) -> None:
    model, sentence = REFUSED[name]
    with pytest.raises(rt.ReticketError, match=sentence):
        rt.discover(model, X)


@pytest.mark.parametrize("value", [NESTED, QUANTISED], ids=["nested", "quantised"])
def test_inputs_of_such_kinds_too(value: Tensor) -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    with pytest.raises(rt.ReticketError, match=r"example input 0 is a (nested|quantised) tensor.*: pa"):
        rt.discover(model, value)
    with pytest.raises(rt.ReticketError, match="example input 1 is a"):
        verify(rt.discover(model, X, verify=False), model, (X, value))
