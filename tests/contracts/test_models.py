"""What holds for every registered model."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from reticket.errors import ModelError
from reticket.models import build_model, example_input, list_models, model, model_params
from reticket.rng import generator_for

SMALL: dict[str, dict[str, Any]] = {
    "airbench": {"width": 0.125},
    "vgg11": {"width": 0.125},
    "resnet50": {"width": 0.125, "classes": 10},
}


@pytest.mark.parametrize("name", list_models())
class TestEveryModel:
    def test_gives_one_row_of_logits_for_each_input(self, name: str) -> None:
        built, x = build_model(name, **SMALL.get(name, {})), example_input(name, **SMALL.get(name, {}))
        assert len(x) == 2
        assert built(x).shape == (2, 10)
        assert torch.equal(x, example_input(name, **SMALL.get(name, {})))

    def test_the_generator_decides_and_the_global_one_stays(self, name: str) -> None:
        before = torch.get_rng_state()
        one, same, other, default = (
            nn.utils.parameters_to_vector(build_model(name, generator=g, **SMALL.get(name, {})).parameters())
            for g in (generator_for(1, "init"), generator_for(1, "init"), generator_for(2, "init"), None)
        )
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert not torch.equal(one, default)
        assert torch.equal(before, torch.get_rng_state())

    def test_the_initial_signal_keeps_its_size(self, name: str) -> None:
        built = build_model(name, **SMALL.get(name, {})).train()
        with torch.no_grad():
            out = built(example_input(name, **SMALL.get(name, {})))
        assert 0.01 < float(out.std()) < 10

    def test_takes_the_size_of_a_data_set(self, name: str) -> None:
        shape = (1, 32, 32)
        params = model_params(name, shape, 7, **{k: v for k, v in SMALL.get(name, {}).items() if k == "width"})
        assert build_model(name, **params)(torch.randn(2, *shape)).shape == (2, 7)

    def test_unknown_parameter(self, name: str) -> None:
        with pytest.raises(ModelError, match=f"model '{name}' has no parameter 'clases', did you mean 'classes'"):
            build_model(name, clases=3)
        with pytest.raises(ModelError, match="no parameter 'clases'"):
            example_input(name, clases=3)


def test_kaiming_standard_deviations_of_a_convolution_network() -> None:
    built = build_model("vgg11", classes=300)
    weights = {name: p for name, p in built.named_parameters() if p.dim() > 1}
    for name, weight in weights.items():
        gain = 1 if name == "fc.weight" else 2
        assert_close(weight.std().item(), (gain / weight[0].numel()) ** 0.5, rtol=0.05, atol=0)
    assert all(not p.any() for p in built.parameters() if p.dim() == 1)


def test_an_mlp_begins_as_torch_draws_linear_layers() -> None:
    built = build_model("mlp", in_features=400, hidden=(500, 500), classes=300)
    for weight in (p for p in built.parameters() if p.dim() == 2):
        bound = weight.shape[1] ** -0.5
        assert 0.99 * bound < weight.abs().max() <= bound
        assert_close(weight.std().item(), bound / 3**0.5, rtol=0.02, atol=0)


def test_messages() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'resnet21', did you mean 'resnet20'\?"):
        build_model("resnet21")
    with pytest.raises(ModelError, match="cannot be imported"):
        build_model("no_such_package:build")
    with pytest.raises(
        ModelError, match=r"model 'torch.nn:ReLU' has no example input; set the attribute example_input"
    ):
        example_input("torch.nn:ReLU")
    with pytest.raises(ModelError, match=r"returned a OrderedDict, but a torch.nn.Module was expected"):
        build_model("collections:OrderedDict")
    with pytest.raises(ModelError, match=r"is a str, but a function was expected"):
        build_model("sys:platform")
    with pytest.raises(ModelError, match=r"model 'mlp' has widths 64-0-10; each must be at least 1"):
        build_model("mlp", hidden=(0,))
    with pytest.raises(ModelError, match=r"width 0.001 leaves 0 of 16 channels; use at least 0.0625"):
        build_model("resnet20", width=0.001)
    with pytest.raises(ModelError, match=r"model 'resnet20' with {'classes': -1} cannot be built"):
        build_model("resnet20", classes=-1)
    with pytest.raises(ModelError, match="registered already"):
        model("mlp", input_shape=lambda **_: (1,))(nn.Identity)


def test_a_function_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_model_for_test.py").write_text(
        "import torch\n"
        "def build(classes=2):\n    return torch.nn.Linear(3, classes)\n"
        "build.example_input = lambda classes=2: torch.ones(2, 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    built = build_model("own_model_for_test:build", generator=generator_for(3), classes=4)
    assert torch.equal(
        next(built.parameters()),
        next(build_model("own_model_for_test:build", generator=generator_for(3), classes=4).parameters()),
    )
    assert built(example_input("own_model_for_test:build", classes=4)).shape == (2, 4)
    assert model_params("own_model_for_test:build", (3,), 4) == {"classes": 4}


def test_timm_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="need the package timm; install it with pip install timm"):
        build_model("timm:resnet10t")


def test_timm_models_are_made_without_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(model_name: str, pretrained: bool, num_classes: int = 5, in_chans: int = 3) -> nn.Module:
        assert (model_name, pretrained) == ("tiny", False)
        made = nn.Sequential(nn.Flatten(), nn.Linear(in_chans * 4, num_classes))
        made.default_cfg = {"input_size": (3, 2, 2)}  # pyright: ignore[reportArgumentType]
        return made

    fake = ModuleType("timm")
    monkeypatch.setattr(fake, "create_model", create_model, raising=False)
    monkeypatch.setitem(sys.modules, "timm", fake)
    params = model_params("timm:tiny", (1, 2, 2), 7)
    x = example_input("timm:tiny", **params)
    assert x.shape == (2, 1, 2, 2)
    assert build_model("timm:tiny", **params)(x).shape == (2, 7)
