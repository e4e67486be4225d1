"""Keys of the digits preset: a change of any of them orphans stored results, so it has to be meant."""

import pytest
import torch
from torch import nn

from reticket.experiment import Task
from reticket.models import build_model
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.checks.barriers import BarrierCell
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.pruned_weights import prunable_spec
from reticket.tickets import Pruning

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))


def digits() -> Blueprint:
    return Blueprint(load_config("digits")[1], FACTS)


def test_ten_keys_are_pinned() -> None:
    plan = digits()
    tasks: dict[str, Task] = {
        "symmetry": plan.networks.symmetry,
        "dense": plan.runs[Cell("dense", None, None)][0],
        "imp": plan.runs[Cell("imp", 0.9, None)][0],
        "lth": plan.runs[Cell("lth", 0.98, "5ep")][0],
        "permuted": plan.runs[Cell("permuted", 0.98, "5ep", "end")][1],
        "naive": plan.runs[Cell("naive", 0.98, "0ep")][1],
        "random-permutation": plan.runs[Cell("random-permutation", 0.9, "0ep")][0],
        "match": plan.of("matching")["end"][2],
        "barrier": plan.of("barriers")[BarrierCell("dense A to IMP A", True, 0.95)][0],
        "overlap": plan.of("overlap")[0.98][4],
    }
    assert {name: task.key[:12] for name, task in tasks.items()} == PINNED


PINNED: dict[str, str] = {
    "symmetry": "1d228e66b40d",
    "dense": "ff465dcf1eec",
    "imp": "25711c1aa82c",
    "lth": "08919326a23a",
    "permuted": "3eb33ed5bcc7",
    "naive": "6ab6e9a4d5f2",
    "random-permutation": "8a5fe334c679",
    "match": "642d10a6326b",
    "barrier": "e0cfbaa8112f",
    "overlap": "8d07a4c708be",
}


class Twice(nn.Module):
    """Two layers that share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)
        self.two.weight = self.one.weight
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.two(self.one(x)))


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10))


def attention() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(64, 2, 8), nn.Linear(64, 10))


def recurrent() -> nn.Module:
    return nn.GRU(64, 10)


def bilinear() -> nn.Module:
    return nn.Bilinear(64, 64, 10)


def shared() -> nn.Module:
    return Twice()


@pytest.mark.parametrize("model", ["attention", "recurrent", "bilinear", "shared"])
def test_weights_that_earlier_versions_did_not_prune_are_in_the_key_of_a_round(model: str) -> None:
    found = prunable_spec(build_model(f"{__name__}:{model}"), Pruning())
    assert len(found["prunable"]) == 64
    assert prunable_spec(build_model(f"{__name__}:{model}"), Pruning()) == found


def test_what_is_left_out_decides_such_a_key() -> None:
    name = f"{__name__}:attention"
    assert prunable_spec(build_model(name), Pruning()) != prunable_spec(build_model(name), Pruning(exclude=("last",)))


def test_models_of_layers_alone_keep_their_keys() -> None:
    assert prunable_spec(build_model(f"{__name__}:layers"), Pruning()) == {}
    for name in ("resnet20", "vgg11", "conv-small", "vit"):
        assert prunable_spec(build_model(name), Pruning()) == {}, name


def test_the_key_of_a_round_and_what_follows_it_differ_and_others_do_not() -> None:
    config = load_config("digits", (f"model.name={__name__}:attention", "model.params={}"))[1]
    rounds, dense = (Blueprint(config, FACTS).networks.round(("A", 0), number) for number in (1, 0))
    assert "prunable" in rounds.spec
    assert "prunable" not in dense.spec
    assert "prunable" not in digits().networks.round(("A", 0), 1).spec


DYNAMIC: dict[str, str] = {
    "erk+rigl": "f363f195bff4",
    "erk+set(fraction=0.2)": "e872da185c5d",
    "permuted+srigl": "3167316dc962",
    "gradual": "14fbaffe027e",
    "signed(share=0.5)": "a11fa5792af9",
}


def test_keys_of_methods_with_options_and_dynamics_are_pinned() -> None:
    config = load_config("digits", (f"grid.methods={list(DYNAMIC)}",))[1]
    runs = Blueprint(config, FACTS).runs
    keys = {
        cell.method: tasks[0].key[:12] for cell, tasks in runs.items() if (cell.sparsity, cell.rewind) == (0.9, "5ep")
    }
    assert keys == DYNAMIC
