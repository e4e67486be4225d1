"""Models with LoRA adapters, of peft where it is installed and of a stand-in laid out as peft lays them out.

W x becomes `W x + s B A x`: the base layer is frozen, A and B are trained.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import reticket as rt
from reticket.errors import AlignmentError, MaskError
from reticket.wrapped import names_in
from tests.zoo.torchvision_operators import named_operators

X = torch.randn(40, 6, generator=rt.generator_for("adapters"))
BASE = ("0.weight", "2.weight", "4.weight")
KEPT: list[object] = []


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


class Adapted(nn.Module):
    """A linear layer with one adapter."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        self.lora_dropout = nn.ModuleDict({"default": nn.Identity()})
        self.lora_A = nn.ModuleDict({"default": nn.Linear(layer.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, layer.out_features, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output and the adapter's."""
        inner = self.lora_A["default"](self.lora_dropout["default"](x))
        return self.base_layer(x) + 2.0 * self.lora_B["default"](inner)


class Saved(nn.Module):
    """A layer that is trained whole, beside what it was."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.original_module = layer.requires_grad_(False)
        self.modules_to_save = nn.ModuleDict({"default": nn.Linear(layer.in_features, layer.out_features)})

    def forward(self, x: Tensor) -> Tensor:
        """Return what the trained copy gives."""
        return self.modules_to_save["default"](x)


class Tuner(nn.Module):
    """What peft calls a tuner: a model whose layers were replaced."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        first, second, last = (layer for layer in model if isinstance(layer, nn.Linear))
        model[0], model[2], model[4] = Adapted(first, 4), Adapted(second, 4), Saved(last)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's output."""
        return self.model(x)


class StandIn(nn.Module):
    """What peft calls a model: a tuner in a wrapper."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.base_model = Tuner(model)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tuner's output."""
        return self.base_model(x)


def stand_in() -> nn.Module:
    """Return the network with adapters of this module."""
    return StandIn(net())


def of_peft() -> nn.Module:
    """Return the network with adapters of peft; its imports need torchvision's operators where that is installed."""
    KEPT.append(named_operators())
    peft: Any = pytest.importorskip("peft", reason="adapters of peft need the package peft")
    config = peft.LoraConfig(r=4, target_modules=["0", "2"], modules_to_save=["4"], init_lora_weights=False)
    return peft.get_peft_model(net(), config)


@pytest.fixture(params=[stand_in, of_peft])
def adapted(request: pytest.FixtureRequest) -> nn.Module:
    build: Callable[[], nn.Module] = request.param
    return build()


def test_the_stand_in_is_laid_out_as_peft_lays_it_out() -> None:
    shapes = [{name: p.shape for name, p in build().named_parameters()} for build in (of_peft, stand_in)]
    assert shapes[0] == shapes[1]


def test_base_weights_are_found_by_their_own_names(adapted: nn.Module) -> None:
    found = names_in(BASE, adapted.state_dict())
    assert found == {
        "0.weight": "base_model.model.0.base_layer.weight",
        "2.weight": "base_model.model.2.base_layer.weight",
        "4.weight": "base_model.model.4.modules_to_save.default.weight",
    }
    assert names_in(["0.lora_A.default.weight"], adapted.state_dict()).values()


def test_adapters_move_with_the_units_of_their_layer(adapted: nn.Module) -> None:
    symmetry = rt.discover(adapted, X[:2])
    base, inner = "base_model.model.0.base_layer.weight", "base_model.model.0.lora_A.default.weight"
    members = {(member.tensor, member.axis) for member in symmetry.groups[base].members}
    assert {
        (base, 0), ("base_model.model.0.lora_B.default.weight", 0), ("base_model.model.2.base_layer.weight", 1),
        ("base_model.model.2.lora_A.default.weight", 1),
    } <= members  # fmt: skip
    assert symmetry.groups[inner].size == 4  # the rank has an order of its own
    before = adapted(X).detach()
    moved = rt.random_alignment(symmetry, 1).apply(adapted.state_dict())
    assert not torch.equal(moved[base], adapted.state_dict()[base])
    rt.load_into(adapted, moved)
    assert_close(adapted(X).detach(), before)


def test_a_planted_permutation_is_matched_with_its_adapters(adapted: nn.Module) -> None:
    symmetry = rt.discover(adapted, X[:2])
    planted = rt.random_alignment(symmetry, 2)
    found = rt.match(adapted, planted.apply(adapted.state_dict()), symmetry, [X])
    assert found.permutations == planted.permutations


def test_a_mask_of_the_network_without_adapters_holds_in_it(adapted: nn.Module) -> None:
    mask = rt.prune_magnitude(net(), density=0.4)
    assert tuple(mask) == BASE
    trained = [p for p in adapted.parameters() if p.requires_grad]
    start = {name: p.detach().clone() for name, p in adapted.named_parameters()}
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    with rt.sparse(adapted, mask, optimizer):
        for step in range(5):
            optimizer.zero_grad()
            adapted(X[8 * step : 8 * step + 8]).square().mean().backward()
            optimizer.step()
    now = dict(adapted.named_parameters())
    for name, there in names_in(BASE, now).items():
        assert not now[there][~mask[name]].any()
        if "base_layer" in there:
            assert torch.equal(now[there], start[there].masked_fill(~mask[name], 0))  # frozen
    assert all(bool((now[name] != start[name]).any()) for name in now if "lora" in name)


def test_adapters_are_pruned_and_held_like_any_weight(adapted: nn.Module) -> None:
    names = rt.prunable(adapted, exclude=["*base_layer*", "*original_module*"])
    assert {name.split(".")[3] for name in names} == {"lora_A", "lora_B", "modules_to_save"}
    mask = rt.prune_magnitude(adapted, density=0.5, names=names)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    with rt.sparse(adapted, mask, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            adapted(X).square().mean().backward()
            optimizer.step()
    now = dict(adapted.named_parameters())
    assert all(not now[name][~mask[name]].any() for name in names)
    assert all(bool(now[name][mask[name]].all()) for name in names)


def test_what_would_leave_adapters_behind_is_refused(adapted: nn.Module) -> None:
    """An alignment of the network without adapters knows nothing of them."""
    alone = rt.random_alignment(rt.discover(net(), X[:2]), 0)
    with pytest.raises(AlignmentError, match=r"is no tensor of this symmetry, which has 0\.weight"):
        alone.apply(adapted.state_dict())


def test_an_optimizer_of_another_model_is_still_refused() -> None:
    mask = rt.prune_magnitude(net(), density=0.4)
    with (
        pytest.raises(MaskError, match="the optimizer holds none of the masked weights, so it was made for another"),
        rt.sparse(net(), mask, torch.optim.SGD(net().parameters(), lr=0.1)),
    ):
        pass
