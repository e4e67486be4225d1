"""Sizes and names that published weights and published tables rely on."""

from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn

from reticket.models import build_model


@pytest.mark.parametrize(
    ("name", "params", "count"),
    [
        ("mlp", {}, 26_122),
        ("mlp", {"in_features": 784, "hidden": (256, 256)}, 269_322),
        ("conv-small", {}, 33_338),
        ("vit", {}, 58_138),
        ("airbench", {}, 1_972_792),
        ("vgg11", {}, 9_225_610),
        ("resnet20", {}, 292_954),
        ("resnet20", {"width": 4}, 4_655_434),
        ("resnet20", {"width": 8}, 18_600_586),
        ("resnet20", {"width": 16}, 74_360_074),
        ("vgg11", {"width": 2}, 36_883_210),
        ("resnet50", {}, 25_557_032),
        ("resnet50", {"width": 2}, 98_004_072),
    ],
)
def test_number_of_parameters(name: str, params: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build_model(name, **params).parameters()) == count


def test_resnet20_shortcuts_are_3x3_and_hold_the_share_that_the_paper_leaves_dense() -> None:
    with torch.device("meta"):
        built = build_model("resnet20")
    weights = {name: m.weight for name, m in built.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    shortcuts = {name: tuple(w.shape) for name, w in weights.items() if "shortcut" in name}
    assert shortcuts == {"layer2.0.shortcut.0": (32, 16, 3, 3), "layer3.0.shortcut.0": (64, 32, 3, 3)}
    total = sum(w.numel() for w in weights.values())
    prunable = sum(w.numel() for name, w in weights.items() if "shortcut" not in name)
    true_sparsity = [round(100 * nominal * prunable / total, 1) for nominal in (0.8, 0.9, 0.95, 0.97)]
    assert true_sparsity == [73.7, 82.9, 87.5, 89.3]  # the paper's own 95 % stops at 94.5 %: 87.0


def expected_resnet50() -> dict[str, tuple[int, ...]]:
    """Names and shapes as torchvision has them, written down independently of the model's code."""

    def norm(name: str, n: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{what}": (n,) for what in ("weight", "bias", "running_mean", "running_var")} | {
            f"{name}.num_batches_tracked": ()
        }

    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    fan_in = 64
    for layer, (inner, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            found[f"{at}.conv1.weight"] = (inner, fan_in, 1, 1)
            found[f"{at}.conv2.weight"] = (inner, inner, 3, 3)
            found[f"{at}.conv3.weight"] = (4 * inner, inner, 1, 1)
            for i, n in enumerate((inner, inner, 4 * inner), start=1):
                found |= norm(f"{at}.bn{i}", n)
            if block == 0:
                found[f"{at}.downsample.0.weight"] = (4 * inner, fan_in, 1, 1)
                found |= norm(f"{at}.downsample.1", 4 * inner)
            fan_in = 4 * inner
    return found | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


def test_resnet50_has_the_names_and_shapes_of_torchvision() -> None:
    with torch.device("meta"):
        state = build_model("resnet50").state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected_resnet50()
    parameters = dict(chain(build_model("resnet50", width=0.125).named_parameters()))
    assert len(parameters) == 161


@pytest.mark.parametrize("width", [4, 8, 16])
def test_a_wide_resnet20_has_the_names_of_the_narrow_one_and_each_of_its_channels_that_often(width: int) -> None:
    with torch.device("meta"):
        narrow, wide = (build_model("resnet20", width=w, classes=10).state_dict() for w in (1, width))
    assert list(narrow) == list(wide)
    outside = {"conv1.weight": (1, 3), "fc.weight": (0, 10), "fc.bias": (0, 10)}  # axes that images and classes fix
    for name, tensor in wide.items():
        axis, size = outside.get(name, (None, 0))
        scaled = [n * width if place < 2 and place != axis else n for place, n in enumerate(narrow[name].shape)]
        assert list(tensor.shape) == scaled, name
        assert axis is None or tensor.shape[axis] == size


def test_a_checkpoint_of_torchvisions_names_and_shapes_loads() -> None:
    weights = {name: torch.full(shape, 2.0) for name, shape in expected_resnet50().items()}
    model = build_model("resnet50")
    model.load_state_dict(weights, strict=True)
    assert all(bool((p == 2).all()) for p in model.parameters())
