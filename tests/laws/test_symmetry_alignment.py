"""Alignments form a group, keep the function, and move masks, optimizer states and weights alike."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from reticket.rng import generator_for
from reticket.symmetry import (
    Alignment,
    Symmetry,
    discover,
    identity_alignment,
    load_into,
    random_alignment,
    verify,
)
from reticket.types import Permutation
from tests.models_for_symmetry import ResidualBatchNorm, image, mlp, solved


@pytest.fixture(scope="module")
def residual() -> tuple[nn.Module, Symmetry]:
    return solved("residual-batchnorm")


def draw(symmetry: Symmetry, *labels: str | int) -> Alignment:
    return random_alignment(symmetry, generator_for("test", *labels))


def same(left: Alignment, right: Alignment) -> bool:
    return dict(left.permutations) == dict(right.permutations)


@pytest.mark.parametrize("name", ["residual-batchnorm", "grouped", "concat", "attention"])
def test_group_laws_hold_exactly(name: str) -> None:
    model, symmetry = solved(name)
    first, second, third = (draw(symmetry, name, i) for i in range(3))
    weights = model.state_dict()
    assert same(first.inverse().after(first), identity_alignment(symmetry))
    assert same(first.after(first.inverse()), identity_alignment(symmetry))
    assert same(third.after(second).after(first), third.after(second.after(first)))
    torch.testing.assert_close(second.after(first).apply(weights), second.apply(first.apply(weights)), rtol=0, atol=0)
    torch.testing.assert_close(first.inverse().apply(first.apply(weights)), weights, rtol=0, atol=0)
    assert not same(second.after(first), first.after(second))


def dependent_symmetry() -> Symmetry:
    """Heads that move as blocks, each with an order of its own inside; their parent stands on another axis of `w`."""
    from reticket.symmetry.terms import Atom, product

    head, inner, deep = Atom("q", 3), Atom("q:1", 4, ("q",)), Atom("e", 2, ("q", "q:1"))
    layouts = {"q": (product(head, inner),), "w": (head, inner), "e": (deep, head, inner)}
    return Symmetry(layouts, {name: ("",) * len(layout) for name, layout in layouts.items()})


def test_dependent_permutations_obey_the_semidirect_law() -> None:
    symmetry = dependent_symmetry()
    first, second = draw(symmetry, "a"), draw(symmetry, "b")
    tensors = {"q": torch.arange(12), "w": torch.arange(12).reshape(3, 4), "e": torch.arange(24).reshape(2, 3, 4)}
    assert symmetry.groups["e"].copies == 12
    torch.testing.assert_close(second.after(first).apply(tensors), second.apply(first.apply(tensors)), rtol=0, atol=0)
    torch.testing.assert_close(first.inverse().apply(first.apply(tensors)), tensors, rtol=0, atol=0)
    assert same(first.inverse().after(first), identity_alignment(symmetry))
    moved = first.apply(tensors)
    torch.testing.assert_close(moved["q"].reshape(3, 4), moved["w"])
    heads, inner = first.permutations["q"].index, first.permutations["q:1"].index
    for p in range(3):
        torch.testing.assert_close(moved["w"][p], tensors["w"][heads[p]][inner[p]])


def test_inverting_blocks_in_place_would_break_the_law() -> None:
    symmetry = dependent_symmetry()
    first = draw(symmetry, "a")
    naive = {name: Permutation(torch.argsort(p.index, dim=-1)) for name, p in first.permutations.items()}
    assert not same(Alignment(symmetry, naive).after(first), identity_alignment(symmetry))


def test_mask_moves_with_its_weights(residual: tuple[nn.Module, Symmetry]) -> None:
    model, symmetry = residual
    alignment, weights = draw(symmetry, "mask"), model.state_dict()
    mask = {
        name: torch.rand(w.shape, generator=generator_for(name)) > 0.5 for name, w in weights.items() if w.dim() > 1
    }
    both = {name: mask[name] * weights[name] for name in mask}
    apart = {name: alignment.apply(mask)[name] * alignment.apply(weights)[name] for name in mask}
    torch.testing.assert_close(alignment.apply(both), apart, rtol=0, atol=0)
    assert alignment.apply(mask)["conv1.weight"].dtype == torch.bool


def test_function_is_kept_and_the_argument_untouched(residual: tuple[nn.Module, Symmetry]) -> None:
    model, symmetry = residual
    twin = ResidualBatchNorm()
    weights = model.state_dict()
    before = {name: w.clone() for name, w in weights.items()}
    moved = draw(symmetry, "function").apply(weights)
    load_into(twin, moved)
    torch.testing.assert_close(twin.eval()(image()), model.eval()(image()))
    torch.testing.assert_close(dict(weights), before, rtol=0, atol=0)
    assert not torch.equal(moved["conv1.weight"], before["conv1.weight"])
    assert type(moved) is OrderedDict


def test_identity_returns_tensors_of_their_own(residual: tuple[nn.Module, Symmetry]) -> None:
    model, symmetry = residual
    weights = model.state_dict()
    for name, tensor in identity_alignment(symmetry).apply(weights).items():
        assert tensor.data_ptr() != weights[name].data_ptr()
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)


@dataclass(frozen=True)
class Cut:
    """A value made of tensors named like parameters."""

    held: Mapping[str, Tensor]

    def tensors(self) -> Mapping[str, Tensor]:
        return self.held

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        return type(self)(tensors)


def test_permutable_values_keep_their_type(residual: tuple[nn.Module, Symmetry]) -> None:
    model, symmetry = residual
    weight = model.state_dict()["conv1.weight"]
    alignment = draw(symmetry, "cut")
    cut = alignment.apply(Cut({"conv1.weight": weight}))
    assert isinstance(cut, Cut)
    torch.testing.assert_close(cut.held["conv1.weight"], alignment.apply({"conv1.weight": weight})["conv1.weight"])


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_training_commutes_with_alignment(kind: str) -> None:
    """Move weights and optimizer in the middle of training: the rest of it computes the same function."""
    torch.manual_seed(0)
    model, twin = mlp(5, 8, 7, 3).double(), mlp(5, 8, 7, 3).double()
    symmetry = discover(model, torch.zeros(2, 5, dtype=torch.float64), verify=False)
    build = {
        "sgd": lambda m: torch.optim.SGD(m.named_parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
        "adamw": lambda m: torch.optim.AdamW(m.named_parameters(), lr=0.01),
    }[kind]
    ours, theirs = build(model), build(twin)
    x, y = torch.randn(40, 5, dtype=torch.float64), torch.randint(3, (40,))

    def train(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()

    train(model, ours)
    alignment = draw(symmetry, kind)
    load_into(twin, alignment.apply(model.state_dict()))
    theirs.load_state_dict(alignment.apply(ours.state_dict()))
    train(model, ours)
    train(twin, theirs)
    torch.testing.assert_close(twin(x), model(x), rtol=0, atol=1e-11)
    torch.testing.assert_close(twin.state_dict(), alignment.apply(model.state_dict()), rtol=0, atol=1e-11)


def test_pruned_modules_follow_their_parameter() -> None:
    torch.manual_seed(0)
    model = mlp(5, 8, 3)
    symmetry = discover(model, torch.zeros(2, 5), verify=False)
    pruned = mlp(5, 8, 3)
    prune.l1_unstructured(pruned[0], "weight", amount=0.5)
    alignment = draw(symmetry, "pruned")
    moved = alignment.apply(pruned.state_dict())
    index = alignment.permutations["0.weight"].index
    state = pruned.state_dict()
    torch.testing.assert_close(moved["0.weight_mask"], state["0.weight_mask"][index])
    torch.testing.assert_close(moved["0.weight_orig"], state["0.weight_orig"][index])
    own = discover(pruned, torch.zeros(2, 5), verify=False)
    verify(own, pruned, torch.zeros(2, 5))
    assert own.log10_order == symmetry.log10_order
    averaged = torch.optim.swa_utils.AveragedModel(model).state_dict()
    torch.testing.assert_close(alignment.apply(averaged)["module.0.bias"], averaged["module.0.bias"][index])


@pytest.mark.parametrize("name", ["grouped", "concat"])
def test_saved_alignment_is_the_same(name: str, tmp_path: Path) -> None:
    _, symmetry = solved(name)
    alignment = draw(symmetry, "saved")
    alignment.save(tmp_path / "a.safetensors")
    loaded = Alignment.load(tmp_path / "a.safetensors")
    assert same(loaded, alignment)
    assert loaded.symmetry == symmetry
