"""`match` with its defaults recovers a planted order of transformers, heads included."""

import copy
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.rng import generator_for
from tests.zoo.torchvision_operators import named_operators

DRAWS = int(os.environ.get("RETICKET_DRAWS", "2"))  # permutations planted in each model
OPERATORS = named_operators()  # timm and transformers import torchvision where it is installed
IMAGES: Any = {"hidden_dim": 32, "mlp_dim": 64, "num_layers": 2, "num_heads": 4, "num_classes": 10}


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def torchvision_vit() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(image_size=16, patch_size=4, **IMAGES)
    nn.init.normal_(model.get_parameter("heads.head.weight"))  # 0 at first, so that nothing would show
    return model


def timm_vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=16, patch_size=4, depth=2, num_heads=4, embed_dim=32, num_classes=10)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: Any = {"n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "use_cache": False}
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, bos_token_id=0, eos_token_id=0, **sizes))


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is missing")


def drawn(*shape: int) -> Callable[[int], Tensor]:
    return lambda examples: torch.randn(examples, *shape, generator=generator_for("examples", examples))


def words(examples: int) -> Tensor:
    return torch.randint(50, (examples, 16), generator=generator_for("words", examples))


@pytest.mark.slow_cases("nn.TransformerEncoder")
@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        pytest.param(encoder, drawn(10, 32), id="nn.TransformerEncoder"),
        pytest.param(
            torchvision_vit, drawn(3, 16, 16), marks=[needs("torchvision"), pytest.mark.slow], id="torchvision"
        ),
        pytest.param(timm_vit, drawn(3, 16, 16), marks=[needs("timm"), pytest.mark.slow], id="timm"),
        pytest.param(gpt2, words, marks=needs("transformers"), id="GPT-2"),
    ],
)
def test_a_planted_order_is_found(make: Callable[[], nn.Module], inputs: Callable[[int], Tensor]) -> None:
    torch.manual_seed(0)
    model = make()
    symmetry = rt.discover(model, inputs(2))
    assert any(group.parents for group in symmetry.groups.values())  # channels of heads
    for seed in range(DRAWS):
        other, planted = copy.deepcopy(model), rt.random_alignment(symmetry, seed)
        planted.apply(other)
        assert rt.match(model, other, symmetry, [inputs(64), inputs(65)]).permutations == planted.permutations
