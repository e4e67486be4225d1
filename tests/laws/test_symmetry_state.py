"""Weights are written into what a model computes with, whatever its `state_dict()` hands out."""

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.errors import AlignmentError, ModelError, VerificationError
from reticket.symmetry import model_tensors, verify

X = torch.linspace(-1, 1, 48).reshape(8, 6)
WRONG = {"0.weight": ("P", None), "0.bias": ("P",), "2.weight": (None, None), "2.bias": (None,)}  # 2.weight must follow


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


def handing_out(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Sequential], nn.Module]:
    def with_hook(model: nn.Sequential) -> nn.Module:
        def hook(module: nn.Module, found: dict[str, Tensor], prefix: str, metadata: Any) -> None:
            found.update({name: change(tensor) for name, tensor in found.items()})

        model.register_state_dict_post_hook(hook)
        return model

    return with_hook


class Offloading(nn.Sequential):
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {name: tensor.detach().clone() for name, tensor in super().state_dict(*args, **kwargs).items()}


COPIES: dict[str, Callable[[nn.Sequential], nn.Module]] = {
    "clone": handing_out(lambda tensor: tensor.detach().clone()),
    "cast": handing_out(lambda tensor: tensor.to(torch.float64)),
    "detached": handing_out(lambda tensor: tensor.detach()),
    "override": lambda model: Offloading(*model),
}
OTHERS = {
    "scaled": handing_out(lambda tensor: 2 * tensor),
    "transposed": handing_out(lambda tensor: tensor.detach().t().clone()),
}


@pytest.mark.parametrize("name", COPIES)
def test_weights_arrive_and_the_tensors_keep_their_identity(name: str) -> None:
    a, b = COPIES[name](net(1)), COPIES[name](net(2))
    before = list(b.parameters())
    assert not torch.allclose(a(X), b(X))
    rt.load_into(b, a.state_dict())
    torch.testing.assert_close(b(X), a(X), rtol=0, atol=0)
    assert all(p is q for p, q in zip(before, b.parameters(), strict=True))


@pytest.mark.parametrize("name", COPIES)
def test_a_wrong_claim_is_refused_and_the_right_one_found(name: str) -> None:
    model = COPIES[name](net(1))
    with pytest.raises(VerificationError, match="changes the function"):
        verify(rt.Symmetry.from_axes(WRONG, model), model, X)
    assert [group.size for group in rt.discover(model, X).groups.values()] == [8]


def test_a_proof_that_writes_into_what_is_handed_out_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = COPIES["clone"](net(1))
    claim = rt.Symmetry.from_axes(WRONG, model)

    def handed_out(model: nn.Module) -> dict[str, Tensor]:
        return model.state_dict(keep_vars=True)

    for name in ("exact", "verify"):
        monkeypatch.setattr(import_module(f"reticket.symmetry.{name}"), "named_state", handed_out)
    with pytest.raises(AssertionError, match="lost hold of its copy"):
        verify(claim, model, X)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.i, self.a, self.b, self.o = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.relu(self.b(torch.relu(self.a(torch.relu(self.i(x)))))))


def test_a_tie_is_seen_behind_copies() -> None:
    torch.manual_seed(1)
    model = Tied()
    plain = rt.discover(model, X)
    copying = handing_out(lambda tensor: tensor.detach().clone())(model)  # type: ignore[arg-type]
    found = rt.discover(copying, X)
    assert found.layouts == plain.layouts
    moved = copy.deepcopy(copying)
    rt.load_into(moved, rt.random_alignment(found, torch.Generator().manual_seed(1)).apply(copying.state_dict()))
    torch.testing.assert_close(moved(X), model(X))


@pytest.mark.parametrize("name", OTHERS)
def test_other_values_under_a_name_are_refused(name: str) -> None:
    model = OTHERS[name](net(1))
    for call in (lambda: rt.discover(model, X), lambda: rt.load_into(model, net(2).state_dict())):
        with pytest.raises(ModelError, match=r"hands out '0\.weight', which is neither a tensor of the model"):
            call()


class Scaled(nn.Module):
    """Keeps a number and a table that are no parameters, as quantised layers do."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.a, self.b, self.extra = nn.Linear(6, 8), nn.Linear(8, 4), extra

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize("extra", [{"steps": 3}, None, torch.arange(5)], ids=["dict", "none", "tensor"])
def test_extra_state_is_passed_on_and_no_weight(extra: Any) -> None:
    a, b = Scaled(extra), Scaled(0)
    sym = rt.discover(a, X)
    assert "_extra_state" not in sym.layouts
    al = rt.match(a, b, sym, [X])
    moved = al.apply(a.state_dict())
    rt.load_into(b, moved)
    torch.testing.assert_close(b(X), a(X))
    assert torch.equal(b.extra, extra) if isinstance(extra, Tensor) else b.extra == extra
    rt.load_into(b, {name: moved[name] for name in sym.layouts})  # files of tensors cannot hold it


def test_names_that_only_look_like_extra_state_are_unknown() -> None:
    with pytest.raises(AlignmentError, match="unknown"):
        rt.load_into(net(1), {**net(2).state_dict(), "0.my_extra_state": torch.zeros(1)})
    assert model_tensors.is_extra("_extra_state")


@pytest.mark.parametrize("call", ["load_into", "match", "barrier", "repair", "prune_magnitude"])
@pytest.mark.parametrize("kind", ["lazy", "meta"])
def test_a_model_without_values_is_refused_in_one_sentence(kind: str, call: str) -> None:
    full = net(1)
    if kind == "lazy":
        model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 4))
    else:
        with torch.device("meta"):
            model = net(1)
    weights = full.state_dict()
    run: dict[str, Callable[[], Any]] = {
        "load_into": lambda: rt.load_into(model, weights),
        "match": lambda: rt.match(full, model, rt.discover(full, X), [X]),
        "barrier": lambda: rt.barrier(model, weights, weights, [(X, torch.zeros(8, dtype=torch.int64))]),
        "prune_magnitude": lambda: rt.prune_magnitude(model, 0.5),
        "repair": lambda: rt.repair(model, (weights, weights), 0.5, [X]),
    }
    said = "call the model once" if kind == "lazy" else "on the meta device and holds no values"
    with pytest.raises(ModelError, match=said):
        run[call]()
    if kind == "lazy":
        with pytest.raises(ModelError, match=said):
            rt.discover(model, X)
        assert model(X).shape == (8, 4)
