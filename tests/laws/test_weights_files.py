"""Weights are found in whatever they stand in, by the model's names; what could mean two things is refused."""

import json
import os
import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils import prune

from reticket.errors import AlignmentError, InputError
from reticket.types import StateDict
from reticket.weight_files import load_file, read_weights, write_weights

STATE = {"0.weight": torch.arange(12.0).reshape(3, 4), "0.bias": torch.arange(3.0), "2.weight": torch.ones(2, 3)}
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}


class Net(nn.Module):
    """What `STATE` are the weights of."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", nn.Linear(4, 3))
        self.add_module("2", nn.Linear(3, 2, bias=False))


class Tied(nn.Module):
    """Words in and words out by one table."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.words.weight


def called(prefix: str, state: StateDict = STATE) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def torch_file(value: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(value, folder / "w.pt")
        return folder / "w.pt"

    return write


def in_shards(folder: Path, save: Callable[[dict[str, Tensor], Path], object], stem: str, ending: str) -> Path:
    """Write the layout of the Hub, one tensor a shard."""
    names = {name: f"{stem}-{n:05}-of-{len(STATE):05}{ending}" for n, name in enumerate(STATE, 1)}
    for name, shard in names.items():
        save({name: STATE[name]}, folder / shard)
    (folder / f"{stem}{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def whole(folder: Path, name: str) -> Path:
    (torch.save if name.endswith(".bin") else safetensors.torch.save_file)(STATE, folder / name)
    return folder


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3, 4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
WAYS: dict[str, Callable[[Path], Path]] = {
    "state_dict": torch_file(OrderedDict(STATE)),
    "Lightning": torch_file({"state_dict": called("model."), "epoch": 3, "optimizer_states": [OPTIMIZER]}),
    "Lightning, compiled": torch_file({"state_dict": called("model._orig_mod.")}),
    "Lightning, two names deep": torch_file({"state_dict": called("model.net.")}),
    "DDP of a compiled one": torch_file({"model": called("module._orig_mod."), "optimizer": OPTIMIZER}),
    "compiled layers": torch_file({"net": {n.replace(".", "._orig_mod.", 1): t for n, t in STATE.items()}}),
    "a generator beside it": torch_file(
        {"model": STATE, "rng_state": torch.get_rng_state(), "best": torch.tensor(3.0)}
    ),
    "one unusual name": torch_file({"student": STATE, "args": {"lr": 0.1}}),
    "torchvision's script": torch_file({"model": STATE, "optimizer": OPTIMIZER, "args": Namespace(lr=0.1, out=["a"])}),
    "deep": torch_file({"trainer": {"run": {"agent": STATE}}}),
    "twice the same": torch_file({"model": STATE, "best": STATE}),
    "usual beside others": torch_file({"model": STATE, "model_ema": OTHER}),
    "averaged": torch_file({"n_averaged": torch.tensor(3), **called("module.")}),
    "extra": torch_file({"trainer": {**STATE, "_extra_state": None}}),
    "Hub": lambda folder: whole(folder, "model.safetensors"),
    "Hub, older": lambda folder: whole(folder, "pytorch_model.bin"),
    "Hub, in shards": lambda folder: in_shards(folder, safetensors.torch.save_file, "model", ".safetensors"),
    "Hub, older, in shards": lambda folder: in_shards(folder, torch.save, "pytorch_model", ".bin"),
    "an index": lambda folder: in_shards(folder, torch.save, "pytorch_model", ".bin") / "pytorch_model.bin.index.json",
}


def assert_read(source: str | Path, expected: StateDict, network: nn.Module) -> None:
    read = load_file(network, source, say=lambda note: None)
    weights = {name: read[name] for name in expected}
    torch.testing.assert_close(weights, dict(expected), rtol=0, atol=0)
    torch.testing.assert_close(dict(network.state_dict()), dict(expected), rtol=0, atol=0)


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_found_in_whatever_they_stand_in(way: str, tmp_path: Path) -> None:
    source = WAYS[way](tmp_path)
    model = Net()
    if way == "extra":
        model.set_extra_state = lambda state: None  # pyright: ignore[reportAttributeAccessIssue]
    assert_read(source, STATE, model)


def test_the_law_can_fail(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        assert_read(torch_file(OTHER)(tmp_path), STATE, Net())


@pytest.mark.parametrize("left", [{"words.weight"}, {"head.weight"}, set[str]()])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "lit.model._orig_mod."])
def test_of_tied_weights_one_is_enough(left: set[str], prefix: str, tmp_path: Path) -> None:
    table = torch.arange(36.0).reshape(9, 4)
    state = {name: table.clone() for name in ("words.weight", "head.weight")}
    given = called(prefix, {name: tensor for name, tensor in state.items() if name not in left})
    safetensors.torch.save_file(given, tmp_path / "w.safetensors")
    assert_read(tmp_path / "w.safetensors", state, Tied())
    safetensors.torch.save_model(Tied(), str(tmp_path / "m.safetensors"))
    load_file(Tied(), tmp_path / "m.safetensors")


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_masks_of_torch_are_zeros(prefix: str, tmp_path: Path) -> None:
    model = Net()
    pruned = prune.l1_unstructured(model.get_submodule("0"), "weight", 0.5)
    prune.random_unstructured(model.get_submodule("2"), "weight", 2)
    zeros = int((pruned.weight == 0).sum())
    assert zeros == 6
    expected = {"0.weight": pruned.weight, "0.bias": pruned.bias, "2.weight": model.get_submodule("2").weight}
    path = torch_file(called(prefix, model.state_dict()))(tmp_path)
    assert_read(path, {name: tensor.detach() for name, tensor in expected.items()}, Net())
    assert_read(path, dict(model.state_dict()), model)  # a model that is pruned itself takes them as they are


def test_a_key_says_which_part_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    checkpoint = {
        "model": STATE,
        "model_ema": {"module": OTHER, "decay": 0.9},
        "lit": {**called("student.", STATE), **called("teacher.net.", OTHER), "loss.weight": torch.ones(2)},
        "dotted.name": OTHER,
        "rounds": {0: STATE, 1: OTHER},
    }
    torch.save(checkpoint, path)
    for key, expected in (
        ("model", STATE),
        ("model_ema", OTHER),
        ("model_ema.module", OTHER),
        ("lit.student", STATE),
        ("lit.teacher", OTHER),
        ("lit.teacher.net", OTHER),
        ("dotted.name", OTHER),
        ("rounds.1", OTHER),
    ):
        assert_read(f"{path}#{key}", expected, Net())
    odd = tmp_path / "a#b.pt"
    torch.save(OTHER, odd)
    assert_read(odd, OTHER, Net())
    torch.save({"x": STATE, "y": OTHER}, odd)
    assert_read(f"{odd}#y", OTHER, Net())
    safetensors.torch.save_file(called("bert.") | called("head.", OTHER), tmp_path / "w.safetensors")
    assert_read(f"{tmp_path / 'w.safetensors'}#bert", STATE, Net())


def test_arguments_of_a_script_hold_nothing_that_runs(tmp_path: Path) -> None:
    path = torch_file({"model": STATE, "args": Namespace(run=os.system)})(tmp_path)
    with pytest.raises(InputError, match="holds more than tensors and is not unpickled"):
        read_weights(path)
    assert Namespace not in torch.serialization.get_safe_globals()


def test_a_checkpoint_that_holds_itself_is_looked_through_once(tmp_path: Path) -> None:
    checkpoint: dict[str, Any] = {"model": STATE}
    checkpoint["self"] = checkpoint
    assert_read(torch_file(checkpoint)(tmp_path), STATE, Net())
    assert_read(f"{tmp_path / 'w.pt'}#self.self.model", STATE, Net())


def test_a_choice_is_said(tmp_path: Path) -> None:
    path = WAYS["usual beside others"](tmp_path)
    note = f"{path}: 'model' is taken; it also holds 'model_ema', which is {path}#model_ema"
    with pytest.warns(UserWarning, match=f"^{re.escape(note)}$"):
        read_weights(path)
    said: list[str] = []
    read_weights(path, say=said.append)
    assert said == [note]
    read_weights(f"{path}#model")
    read_weights(WAYS["Lightning"](tmp_path))


def test_weights_come_by_the_names_of_the_file_or_of_a_model(tmp_path: Path) -> None:
    path = WAYS["Lightning"](tmp_path)
    assert read_weights(path).keys() == called("model.").keys()
    assert read_weights(path, nn.DataParallel(Net())).keys() == STATE.keys()
    assert read_weights(path, Tied()).keys() == called("model.").keys()  # no prefix makes them fit
    model = Net()
    write_weights(tmp_path / "w.safetensors", nn.DataParallel(model))
    torch.testing.assert_close(read_weights(tmp_path / "w.safetensors"), dict(model.state_dict()), rtol=0, atol=0)


REFUSED: dict[str, tuple[object, str]] = {
    "two usual names": ({"model": STATE, "net": OTHER}, r"nested weights in 'model', 'net', .* as .*w\.pt#model$"),
    "no usual name": ({"generator": STATE, "critic": OTHER}, r"in 'generator', 'critic', expected one .*#generator$"),
    "weights of its own": ({**STATE, "ema": OTHER}, "weights of its own beside nested weights in 'ema', expected one"),
    "no weights": ({"epoch": 3}, r"got a dict in which 'epoch' is int; save model\.state_dict"),
    "more than weights": ({**STATE, "epoch": 3}, "a dict in which 'epoch' is int"),
    "nothing": ({}, "got nothing"),
    "a list": ([STATE], "got list"),
    "an optimizer": (OPTIMIZER, "a dict in which 'state' is dict"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_mean_two_things_or_none_is_refused(name: str, tmp_path: Path) -> None:
    value, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        read_weights(torch_file(value)(tmp_path))


def test_a_prefix_goes_only_where_all_then_fits(tmp_path: Path) -> None:
    path = torch_file({"state_dict": {**called("model."), "loss.weight": torch.ones(2)}})(tmp_path)
    with pytest.raises(InputError, match=r"all of which stands behind 'model\.'; name .* as .*w\.pt#model$"):
        load_file(Net(), path)
    assert_read(f"{path}#model", STATE, Net())
    assert_read(f"{path}#state_dict.model", STATE, Net())
    with pytest.raises(InputError, match=r"behind 'a\.', 'b\.'; name the part that is meant, as .*#state_dict\.a$"):
        load_file(Net(), f"{torch_file({'state_dict': called('a.') | called('b.')})(tmp_path)}#state_dict")
    for state in (
        {"model.0.weight": STATE["0.weight"], "0.bias": STATE["0.bias"]},
        called("model.", {"x": torch.ones(1)}),
    ):
        with pytest.raises(AlignmentError, match=r"w\.pt: cannot load into Net: \d tensors missing"):
            load_file(Net(), torch_file(state)(tmp_path))


def test_a_key_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = torch_file({"model": STATE, "model_ema": OTHER})(tmp_path)
    with pytest.raises(
        InputError, match=r"#model_em: there is no 'model_em', did you mean 'model_ema'\?; it has model"
    ):
        read_weights(f"{path}#model_em")
    with pytest.raises(InputError, match=r"w\.pt#model\.1: there is no 'model\.1', did you mean 'model'\?; it has"):
        read_weights(f"{path}#model.1")
    with pytest.raises(InputError, match="there is no 'x'; nothing stands there"):
        read_weights(f"{torch_file([STATE])(tmp_path)}#x")


def test_what_is_written_is_what_was_given(tmp_path: Path) -> None:
    table = torch.arange(12.0).reshape(3, 4)
    weights = {
        "a": table,
        "tied": table,
        "turned": table.T,
        "row": table[1],
        "half": table.bfloat16(),
        "n": torch.tensor(3),
    }
    for target in ("w.safetensors", "hub/", "hub"):
        path = write_weights(f"{tmp_path}/{target}", weights)
        assert path == tmp_path / ("w.safetensors" if target == "w.safetensors" else "hub/model.safetensors")
        torch.testing.assert_close(read_weights(path), weights, rtol=0, atol=0)
        with safe_open(str(path), framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
    assert sorted(os.listdir(tmp_path / "hub")) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("target", "weights", "said"),
    [
        ("w.pt", STATE, r"w\.pt: weights are written as \.safetensors; give such a name with -o, or a folder"),
        ("w.safetensors", {"_extra_state": b"x"}, "'_extra_state' is a bytes, but safetensors holds dense tensors"),
        ("w.safetensors", {"w": torch.eye(2).to_sparse()}, r"'w' is of layout torch\.sparse_coo, but safetensors"),
        ("no/w.safetensors", STATE, r"no/w\.safetensors' cannot be written \(No such file or directory\); choose"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(target: str, weights: StateDict, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        write_weights(f"{tmp_path}/{target}", weights)
    assert os.listdir(tmp_path) == []
