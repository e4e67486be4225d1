"""The code of `docs/loops.md` as it stands there: other people's loops, 20 steps each, cut in the middle."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import reticket as rt
from reticket.errors import InputError, MaskError
from tests.zoo.torchvision_operators import named_operators

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "loops.md").read_text("utf-8")
BEGINNING, *_ = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BLOCKS = dict(re.findall(r"^## ([^\n]*)\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
NEEDS = {
    "A plain loop": (),
    "Lightning": ("lightning",),
    "The Trainer of transformers": ("transformers", "accelerate"),
    "Accelerate": ("accelerate",),
}
END = """
for who, a_model, an_optimizer in (("model", model, optimizer), ("resumed", resumed, resumed_optimizer)):
    moments = {name: an_optimizer.state[p] for name, p in a_model.named_parameters()}
    torch.save({"weights": a_model.state_dict(), "moments": moments}, f"{who}.{rank}")
"""


def needs(name: str) -> None:
    for package in NEEDS[name]:
        if find_spec(package) is None:
            pytest.skip(f"{name} needs the package {package}, which is not installed here")
    if NEEDS[name]:
        KEPT.append(named_operators())  # lightning and transformers import torchvision


KEPT: list[object] = []


def block(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Run one loop of the page in a folder of its own and return what its names stand for."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "loops"}
    exec(compile(f"{BEGINNING}\n{BLOCKS[name]}", name, "exec"), names)
    return names


def pruned_places(mask: rt.Mask, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return by name of a weight, in its wrappers, where it is masked."""
    return {there: ~mask[name] for name, there in mask.names_among(weights).items()}


def check(
    mask: rt.Mask, weights: Mapping[str, torch.Tensor], moments: Mapping[str, Mapping[str, torch.Tensor]]
) -> None:
    """See that masked weights and their moments are 0, and that the kept ones were trained for 20 steps."""
    places = pruned_places(mask, weights)
    assert len(places) == len(mask) == 2
    for name, pruned in places.items():
        assert not weights[name][pruned].any()
        assert weights[name][~pruned].all()
        held = moments[name]
        assert not held["exp_avg"][pruned].any()
        assert not held["exp_avg_sq"][pruned].any()
        assert held["exp_avg_sq"][~pruned].any()
        assert float(held["step"]) == 20


def test_the_page_has_these_loops() -> None:
    assert BLOCKS.keys() == NEEDS.keys() | {"DistributedDataParallel", "Adapters of peft"}


@pytest.mark.filterwarnings("default")
def test_a_sparse_base_stays_so_under_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("peft") is None:
        pytest.skip("adapters of peft need the package peft, which is not installed here")
    KEPT.append(named_operators())
    names = block("Adapters of peft", tmp_path, monkeypatch)
    model, mask = names["model"], names["mask"]
    weights = model.state_dict()
    for name, pruned in pruned_places(mask, weights).items():
        assert not weights[name][pruned].any()
        assert weights[name][~pruned].all()
    assert {name.rpartition(".")[0][-14:] for name in names["adapters"]} == {"lora_A.default", "lora_B.default"}
    assert names["own_mask"].density == pytest.approx(0.5, abs=0.01)
    before = model(names["x"]).detach()
    rt.load_into(model, names["moved"])
    torch.testing.assert_close(model(names["x"]).detach(), before)


@pytest.mark.slow_cases("Lightning", "The Trainer of transformers")
@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.filterwarnings("default")  # those packages' own
def test_masked_weights_are_0_and_a_resumed_run_gives_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    names = block(name, tmp_path, monkeypatch)
    model, resumed, mask = names["model"], names["resumed"], names["mask"]
    assert isinstance(model, nn.Module)
    assert isinstance(names["optimizer"], Optimizer)
    assert mask.density == pytest.approx(0.3, abs=0.01)
    for one, optimizer in ((model, names["optimizer"]), (resumed, names["resumed_optimizer"])):
        check(mask, one.state_dict(), {key: optimizer.state[p] for key, p in one.named_parameters()})
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in model.state_dict().items())
    assert not any(parameter._backward_hooks for parameter in model.parameters())  # nothing is held afterwards


@pytest.mark.slow
def test_two_processes_of_torchs_own(tmp_path: Path) -> None:
    ending = "rank = dist.get_rank()\n" + END + "dist.destroy_process_group()\n"
    (tmp_path / "ddp.py").write_text(f"{BEGINNING}\n{BLOCKS['DistributedDataParallel']}\n{ending}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), *sys.path]))
    env = {**os.environ, "PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ran = [
        subprocess.Popen([sys.executable, "ddp.py"], cwd=tmp_path, env={**env, "RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]
    assert [process.wait(300) for process in ran] == [0, 0]
    names: dict[str, Any] = {}
    exec(BEGINNING, names)
    states = [
        torch.load(tmp_path / f"{who}.{rank}", weights_only=True) for who in ("model", "resumed") for rank in "01"
    ]
    for state in states:
        check(names["mask"], state["weights"], state["moments"])
        assert all(torch.equal(value, states[0]["weights"][key]) for key, value in state["weights"].items())


@pytest.mark.filterwarnings("default")
def test_a_saved_state_of_another_mask_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("Accelerate")
    names = block("Accelerate", tmp_path, monkeypatch)
    sparse, again, resumed = names["sparse"], names["again"], names["resumed"]
    other = rt.Mask.full(names["mask"])
    with (
        sparse(again, resumed, other, names["resumed_optimizer"]),
        pytest.raises(MaskError, match="saved under another"),
    ):
        again.load_state("half")
    with sparse(again, resumed, names["mask"], names["resumed_optimizer"]):  # the other one is forgotten
        again.load_state("half")


@pytest.mark.parametrize(
    ("module", "package"), [("lightning", "lightning"), ("hugging_face", "transformers"), ("accelerate", "accelerate")]
)
def test_a_package_that_is_missing_is_one_sentence(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers", "accelerate"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"reticket.integrations.{module}", raising=False)
    with pytest.raises(InputError, match=rf"^reticket\.integrations\.{module} needs the package {package}; install it"):
        __import__(f"reticket.integrations.{module}")
