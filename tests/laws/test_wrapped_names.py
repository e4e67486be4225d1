"""Wrappers, tied names and checkpoints are looked through, and what could mean two things is refused."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from reticket.cli.aligning import MatchSettings, match_files
from reticket.cli.input_files import read_inputs
from reticket.errors import AlignmentError, DataError
from reticket.matching import match
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover, load_into, random_alignment
from reticket.tickets import Mask, sparse
from reticket.weights import state_of
from reticket.wrapped import inside, names_in

X = torch.randn(40, 6, generator=generator_for("x"))


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


@cache
def symmetry_of_net() -> Symmetry:
    return discover(net(), X[:2])


@pytest.fixture
def distributed(tmp_path: Path) -> Any:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield nn.parallel.DistributedDataParallel
    torch.distributed.destroy_process_group()


class Tied(nn.Module):
    """Words in and words out by one table."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.fc(self.words(ids)))).mean(1)


def ids_model() -> nn.Module:
    return Tied()


def test_names_are_found_exactly_first_and_never_by_guessing() -> None:
    known = ["module.fc.weight", "module._orig_mod.conv.weight", "weight", "module.weight", "a.w", "module.a.w"]
    assert names_in(["fc.weight", "_orig_mod.conv.weight", "weight", "a.w", "b"], known) == {
        "fc.weight": "module.fc.weight",
        "_orig_mod.conv.weight": "module._orig_mod.conv.weight",
        "weight": "weight",
        "a.w": "a.w",
    }
    assert names_in(["_orig_mod.a.w"], known) == {}  # two could be meant
    own = nn.ModuleDict({"module": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    assert inside(own) is own
    assert list(names_in(own.state_dict(), own.state_dict()).values()) == list(own.state_dict())


def assert_matched_and_masked_like(model: nn.Module, wrapped: nn.Module) -> None:
    symmetry, other = symmetry_of_net(), net()
    shuffle = random_alignment(symmetry, generator_for("shuffle"))
    load_into(other, shuffle.apply(model.state_dict()))
    assert match(wrapped, other, symmetry, [X]).permutations == shuffle.permutations
    assert match([wrapped], [other], symmetry, [X]).permutations == shuffle.permutations
    mask = Mask({"0.weight": torch.rand(8, 6, generator=generator_for("mask")) > 0.5})
    state = mask.apply_to(wrapped.state_dict())
    assert type(state) is type(wrapped.state_dict())
    load_into(wrapped, state)
    torch.testing.assert_close(dict(model.state_dict()), mask.apply_to(dict(model.state_dict())), rtol=0, atol=0)
    load_into(other, wrapped.state_dict())
    load_into(wrapped, other.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),  # pyright: ignore[reportArgumentType]
    ],
)
def test_wrapped_models_are_matched_masked_and_loaded(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = net()
    assert_matched_and_masked_like(model, wrap(model))


def test_distributed_models_are_matched_masked_and_loaded(distributed: Callable[[nn.Module], nn.Module]) -> None:
    model = net()
    assert_matched_and_masked_like(model, distributed(model))


@pytest.mark.parametrize("left", ["words.weight", "head.weight"])
def test_a_tied_weight_is_loaded_from_either_name_and_two_values_are_refused(left: str) -> None:
    torch.manual_seed(0)
    model, other = Tied(), Tied()
    state = {name: tensor.clone() for name, tensor in other.state_dict().items() if name != left}
    load_into(model, state)
    torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()), rtol=0, atol=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state[left] = torch.zeros(9, 4)
    with pytest.raises(AlignmentError, match=r"it is one tensor with 'words\.weight', but two different ones"):
        load_into(model, state)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    del state["words.weight"], state["head.weight"]
    with pytest.raises(AlignmentError, match="tensors missing"):
        load_into(model, state)


@pytest.mark.parametrize(("kind", "expected"), [
    ("int64", torch.int64), ("int16", torch.int64), (">i4", torch.int64), ("uint8", torch.uint8),
    ("float64", torch.float32), (">f4", torch.float32), ("float16", torch.float32),
])  # fmt: skip
def test_inputs_keep_their_kind(kind: str, expected: torch.dtype, tmp_path: Path) -> None:
    values = np.arange(12).reshape(4, 3)
    np.save(tmp_path / "x.npy", values.astype(kind))
    found: Any = read_inputs(os.fspath(tmp_path / "x.npy"), "mlp", 10)
    assert found.dtype == expected
    assert sorted(found.long().tolist()) == values.tolist()


@pytest.mark.parametrize("values", [
    np.array(3.0), np.zeros((0, 3)), np.zeros(3, complex), np.array(["a"]), np.zeros(2, [("a", int)]),
    np.array([None, 1], dtype=object),
])  # fmt: skip
def test_files_that_hold_no_inputs(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy: (expected (inputs of shape|an array of)|cannot be read as)"):
        read_inputs(os.fspath(tmp_path / "x.npy"), "mlp", 10)


@pytest.mark.parametrize("shape", [None, "2,7"])
def test_ids_in_a_file_match_a_language_model_that_has_no_example(shape: str | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    b = Tied()
    ids = np.random.default_rng(0).integers(0, 9, (64, 7))
    symmetry = discover(b, torch.as_tensor(ids[:2]))
    shuffle = random_alignment(symmetry, generator_for("ids"))
    torch.save(shuffle.inverse().apply(b.state_dict()), tmp_path / "a.pt")
    torch.save(b.state_dict(), tmp_path / "b.pt")
    np.save(tmp_path / "ids.npy", ids)
    how = MatchSettings(
        f"{__name__}:ids_model", os.fspath(tmp_path / "ids.npy"), settings=("cost=correlation",), samples=64,
        input_shape=shape,
    )  # fmt: skip
    found = match_files(tmp_path / "a.pt", tmp_path / "b.pt", how)
    assert found.permutations == shuffle.permutations


class LightningModule(nn.Module):
    """Stands for that of Lightning, which is known by its name."""


class Trained(LightningModule):
    """Holds the network in an attribute of its own choice, beside what has no weights."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.loss = network, nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class FabricModule(nn.Module):
    """Has the two names of Lightning Fabric's wrapper, for one module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._forward_module = self._original_module = model

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_module(x)


@pytest.mark.parametrize("wrap", [Trained, FabricModule, lambda one: AveragedModel(Trained(nn.DataParallel(one)))])
def test_other_libraries_wrappers_are_seen_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = net()
    wrapped = wrap(model)
    assert list(inside(wrapped).state_dict()) == list(model.state_dict())
    symmetry, other = symmetry_of_net(), net()
    shuffle = random_alignment(symmetry, 0)
    load_into(other, shuffle.apply(model.state_dict()))
    assert match(wrapped, other, symmetry, [X]).permutations == shuffle.permutations
    mask = Mask({"0.weight": torch.rand(8, 6, generator=generator_for("mask")) > 0.5})
    with sparse(wrapped, mask, torch.optim.SGD(wrapped.parameters(), lr=0.1)):
        assert int((state_of(wrapped)["0.weight"] == 0).sum()) == mask.numel - mask.kept


def test_a_module_of_lightning_that_holds_more_than_the_model_is_the_model() -> None:
    two = Trained(net())
    two.other = nn.Linear(2, 2)
    assert inside(two) is two
    assert names_in(["0.weight"], two.state_dict()) == {}
    assert names_in(["0.weight", "1.weight"], Trained(net()).state_dict()) == {}  # one of them is missing
