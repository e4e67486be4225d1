"""Alignments form a group, keep the function, and move masks, optimizer states and weights alike."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
from tests.models_for_symmetry import CASES, ResidualBatchNorm, image, mlp, solved


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


class Orthogonal(torch.optim.Optimizer):
    """Momentum whose step for a matrix is nearly orthogonal (Newton-Schulz, as in Muon), in its own precision."""

    def __init__(self, named_parameters: Iterable[tuple[str, nn.Parameter]], lr: float) -> None:
        super().__init__(list(named_parameters), {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                held = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
                held.mul_(0.9).add_(parameter.grad)
                parameter.sub_(_nearly_orthogonal(held) if held.dim() > 1 else held, alpha=group["lr"])


def _nearly_orthogonal(update: Tensor) -> Tensor:
    matrix = update.flatten(1) / (update.norm() + 1e-6)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return matrix.reshape(update.shape)


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.named_parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda m: torch.optim.Adam(m.named_parameters(), lr=1e-3, amsgrad=True),
    "adamw": lambda m: torch.optim.AdamW(m.named_parameters(), lr=1e-3),
    "orthogonal": lambda m: Orthogonal(m.named_parameters(), lr=1e-3),
}


TRAINED = [(name, kind) for name in ("residual-batchnorm", "attention", "grouped") for kind in OPTIMIZERS]
TRAINED.remove(("grouped", "orthogonal"))  # its step mixes channels of all groups


@pytest.mark.slow_cases(
    "residual-batchnorm-sgd",
    "residual-batchnorm-adam",
    "residual-batchnorm-adamw",
    "residual-batchnorm-orthogonal",
    "attention-orthogonal",
)
@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_training_goes_on_as_if_nothing_had_happened(name: str, kind: str) -> None:
    """Move weights, averaged weights and optimizer in the middle of training: 50 more steps compute the same."""
    (model, symmetry), (twin, _) = solved(name), solved(name)
    x = CASES[name].example()
    x = x.double() if x.is_floating_point() else x
    nets = [model.double(), twin.double()]
    torch.manual_seed(0)
    for tensor in model.parameters():
        tensor.data.add_(torch.randn_like(tensor), alpha=0.1)
    target = torch.randn_like(model.eval()(x))
    averaged = [torch.optim.swa_utils.AveragedModel(net, use_buffers=True) for net in nets]
    optimizers = [OPTIMIZERS[kind](net) for net in nets]

    def train(which: int, steps: int) -> None:
        nets[which].train()
        for module in nets[which].modules():
            module.training &= not isinstance(module, nn.Dropout)
        for _ in range(steps):
            optimizers[which].zero_grad()
            (nets[which](x) - target).square().mean().backward()
            optimizers[which].step()
            averaged[which].update_parameters(nets[which])

    train(0, 10)
    alignment = draw(symmetry, name, kind)
    load_into(twin, alignment.apply(model.state_dict()))
    optimizers[1].load_state_dict(alignment.apply(optimizers[0].state_dict()))
    load_into(averaged[1], alignment.apply(averaged[0].state_dict()))
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    train(0, 50)
    train(1, 50)
    torch.testing.assert_close(twin.eval()(x), model.eval()(x), rtol=1e-9, atol=1e-9)
    for ours, theirs in [(model, twin), (averaged[0], averaged[1])]:
        moved = alignment.apply(ours.state_dict())
        torch.testing.assert_close(dict(theirs.state_dict()), dict(moved), rtol=1e-9, atol=1e-9)


def test_training_shows_a_momentum_that_was_left_behind() -> None:
    torch.manual_seed(0)
    model, twin = mlp(5, 8, 3).double(), mlp(5, 8, 3).double()
    symmetry = discover(model, torch.zeros(2, 5, dtype=torch.float64), verify=False)
    x, optimizers = torch.randn(9, 5, dtype=torch.float64), [OPTIMIZERS["adamw"](net) for net in (model, twin)]
    for steps, nets in ((10, (model,)), (10, (model, twin))):
        if len(nets) == 2:
            load_into(twin, draw(symmetry, "left").apply(model.state_dict()))
            optimizers[1].load_state_dict(optimizers[0].state_dict())
        for net, optimizer in zip(nets, optimizers, strict=False):
            for _ in range(steps):
                optimizer.zero_grad()
                net(x).square().mean().backward()
                optimizer.step()
    assert float((twin(x) - model(x)).detach().abs().max()) > 1e-5


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
