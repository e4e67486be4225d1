"""Threads that train side by side share torch's global generators, and must not notice."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from reticket.errors import TrainingError
from reticket.forward import call
from reticket.models import build_model
from reticket.rng import generator_for, shared_by_threads
from reticket.training import Recipe, TrainResult, train
from tests.ranks import Convolutions, data

T = TypeVar("T")
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05)


class Late(Convolutions):
    """Draws nothing in its first step, and something in every later one."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return super().forward(x + 1e-3 * torch.rand(()) if self.steps > 1 else x)


def side_by_side(work: Callable[[int], T], many: int = 6) -> list[T]:
    with shared_by_threads(), ThreadPoolExecutor(many) as pool:
        return list(pool.map(work, range(many)))


def trained(model: nn.Module, seed: int, recipe: Recipe = RECIPE) -> TrainResult:
    return train(model, data(), recipe, rng_label=("threads", seed))


def noisy() -> Callable[[Tensor], Tensor]:
    """Return a transform that draws from the global generator."""
    return lambda image: image ^ (torch.rand(image.shape) < 0.1).to(torch.uint8)


@pytest.mark.parametrize("augment", [True, f"{__name__}:noisy"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_draws_what_it_draws_alone(dropout: float, augment: bool | str) -> None:
    model, recipe = Convolutions(dropout), replace(RECIPE, augment=augment)
    outside = torch.get_rng_state()
    alone = [trained(model, seed, recipe) for seed in range(6)]
    together = side_by_side(lambda seed: trained(model, seed, recipe))
    for one, other in zip(alone, together, strict=True):
        assert_close(one.state.tensors(), other.state.tensors(), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), outside)
    assert not torch.equal(alone[0].weights["conv.weight"], alone[1].weights["conv.weight"])


def test_models_are_initialised_as_alone() -> None:
    def built(seed: int) -> Tensor:
        return build_model("mlp", generator=generator_for("threads", seed)).get_parameter("layers.0.weight").detach()

    alone = [built(seed) for seed in range(24)]
    assert all(torch.equal(one, other) for one, other in zip(alone, side_by_side(built, 24), strict=True))


def test_who_draws_late_is_found_out() -> None:
    with pytest.raises(TrainingError, match=r"drew none in its first step; .* use --executor processes"):
        side_by_side(lambda seed: trained(Late(), seed), 1)
    assert trained(Late(), 0).history, "alone it may draw when it likes"


class Meeting(nn.Module):
    """From its second run on, waits in each until another model is in one too."""

    def __init__(self, meet: threading.Barrier) -> None:
        super().__init__()
        self.scale, self.runs, self.meet = nn.Parameter(torch.ones(())), 0, [meet]

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        if self.runs > 1:
            self.meet[0].wait(900)
        return x * self.scale


def test_models_that_draw_nothing_run_at_once() -> None:
    meet = threading.Barrier(2)
    models = [Meeting(meet), Meeting(meet)]

    def run_thrice(number: int) -> int:
        for _ in range(3):
            call(models[number], torch.ones(2))
        return models[number].runs

    assert side_by_side(run_thrice, 2) == [3, 3]
