"""Whether a device computes what the CPU does in float64: training, matching, REPAIR; each with its tolerance."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lease.made_up import images
from reticket.connectivity import barrier
from reticket.data import Reading
from reticket.matching import match
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import discover
from reticket.training import Placement, Recipe, train

DATA = images(None, train=160, test=32)
RECIPE = Recipe(epochs=4, batch_size=32, lr=0.02)  # 20 steps
REHEARSED = Recipe(epochs=1, batch_size=80, lr=0.02)


def smoke(device: str, *, tiny: bool = False) -> dict[str, Any]:
    """Return for each check the largest difference, what is allowed, and whether it is kept.

    Args:
        device: what is compared with the CPU.
        tiny: a rehearsal, with fewer steps.
    """
    recipe = REHEARSED if tiny else RECIPE
    steps = f"{recipe.epochs * 160 // recipe.batch_size} steps"
    checks: dict[str, tuple[Callable[[str], float], float]] = {
        f"training, {steps} of ResNet20 (half width) with a mask: weights": (lambda on: _training(on, recipe), 1e-7),
        "training as graphs against operation by operation, float32: weights": (lambda on: _graphs(on, recipe), 0.0),
        "matching: units placed otherwise": (_matching, 0.0),
        "REPAIR: loss along the line": (_repair, 1e-9),
    }
    found = {}
    for name, (check, tolerance) in checks.items():
        try:
            difference = check(device)
            found[name] = {"difference": difference, "tolerance": tolerance, "ok": difference <= tolerance}
        except Exception as error:  # the other checks are worth having
            found[name] = {"error": f"{type(error).__name__}: {str(error).strip()[:1000]}", "ok": False}
    return found


def _training(device: str, recipe: Recipe) -> float:
    model = build_model("resnet20", generator=generator_for("smoke"), width=0.5).double()
    mask = _mask(model)
    here, there = (train(model, DATA, recipe, rng_label=("smoke",), mask=mask, device=one) for one in ("cpu", device))
    return _apart(here.weights, there.weights)


def _graphs(device: str, recipe: Recipe) -> float:
    model = build_model("resnet20", generator=generator_for("smoke"))
    graphs = device != "cpu"
    runs = (
        train(model, DATA, recipe, rng_label=("smoke",), mask=_mask(model), device=Placement(device, graphs=one))
        for one in (graphs, False)
    )
    return _apart(*(run.weights for run in runs))


def _matching(device: str) -> float:
    a, b = _pair()
    symmetry = discover(a, DATA.normalise(DATA.train_x[:2]).double())
    here, there = (
        match(copy.deepcopy(a).to(one), copy.deepcopy(b).to(one), symmetry, _reading(one)) for one in ("cpu", device)
    )
    return float(sum(int((p.index != there.permutations[name].index).sum()) for name, p in here.permutations.items()))


def _repair(device: str) -> float:
    a, b = _pair()
    curves = [
        barrier(
            copy.deepcopy(a).to(one),
            {name: tensor.to(one) for name, tensor in a.state_dict().items()},
            {name: tensor.to(one) for name, tensor in b.state_dict().items()},
            _reading(one),
            (0.0, 0.5, 1.0),
            repair=True,
        )
        for one in ("cpu", device)
    ]
    return max(abs(x - y) for x, y in zip(curves[0].loss, curves[1].loss, strict=True))


def _pair() -> tuple[nn.Module, nn.Module]:
    def trained(seed: int) -> nn.Module:
        model = build_model("conv-small", generator=generator_for("smoke", seed), in_channels=3).double()
        model.load_state_dict(dict(train(model, DATA, REHEARSED, rng_label=("smoke", seed)).weights))
        return model

    return trained(0), trained(1)


def _reading(device: str) -> list[tuple[Tensor, Tensor]]:
    return [(x.double(), y) for x, y in Reading(DATA, "train", 80, device=device)]


def _mask(model: nn.Module) -> dict[str, Tensor]:
    generator = generator_for("smoke", "mask")
    named = [(name, p) for name, p in model.named_parameters() if p.dim() > 1]
    return {name: torch.rand(p.shape, generator=generator) < 0.5 for name, p in named}


def _apart(one: Any, other: Any) -> float:
    return max(float((tensor.double() - other[name].double()).abs().max()) for name, tensor in one.items())
