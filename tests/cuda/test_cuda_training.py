"""Training on a GPU: what the CPU gives in float64, the same bits by graph and eagerly, whole and in parts."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket import sparse
from reticket.tickets import Mask
from reticket.training import Progress, Recipe, ReportProgress, Resume, Span, TrainState, evaluate, train
from tests.cuda.cases import (
    KILLED_AFTER,
    MODELS,
    ORDER,
    RECIPE,
    TOTAL,
    images,
    killed_run,
    same_bits,
    trained,
    zeros_kept,
)
from tests.ranks import mask_of

pytestmark = pytest.mark.cuda

ARCHITECTURES = ("resnet20", "conv-small", "mlp")
TWENTY = Recipe(epochs=5, batch_size=16, lr=0.02)  # of 4 steps each on 64 images


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_equals_the_cpu_in_float64(name: str, graphs: bool, device: str) -> None:
    """With every gradient off by 1e-13 the weights are off by 6e-14 after these 20 steps, the velocities by 3e-13."""
    model, data = MODELS[name]().double(), images(n=64)
    mask = mask_of(model)
    here = trained(model, device, TWENTY, graphs=graphs, data=data, mask=mask)
    there = train(model, data, TWENTY, rng_label=ORDER, mask=mask)
    assert here.steps == 20
    assert_close(dict(here.weights), dict(there.weights), rtol=1e-9, atol=1e-10)
    assert_close(dict(here.state.momentum), dict(there.state.momentum), rtol=1e-9, atol=1e-10)
    assert [epoch.loss for epoch in here.history] == pytest.approx([epoch.loss for epoch in there.history], rel=1e-9)
    zeros_kept(here.weights, mask)
    if name == "mlp" and not graphs:
        other = train(model, data, replace(TWENTY, lr=0.02 + 1e-7), rng_label=ORDER, mask=mask)
        with pytest.raises(AssertionError, match="not close"):
            assert_close(dict(here.weights), dict(other.weights), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_graph_gives_the_bits_of_single_operations(name: str, start: int, precision: str, device: str) -> None:
    """With two sizes of batch, several epochs, a mask, a falling rate; from the beginning and from within an epoch."""
    model, recipe = MODELS[name](), replace(RECIPE, precision=precision)
    mask = mask_of(model)
    recorded, eager, again = (
        trained(model, device, recipe, graphs=graphs, mask=mask, span=Span(start)) for graphs in (True, False, False)
    )
    same_bits(recorded, eager)
    same_bits(again, eager)
    assert len(recorded.history) == len(range(start, TOTAL, 4))
    zeros_kept(recorded.weights, mask)
    if name == "mlp" and start:
        other = trained(model, device, recipe, graphs=True, mask=mask, span=Span(start), rng_label=("other",))
        with pytest.raises(AssertionError, match="not equal"):
            same_bits(other, eager)


@pytest.mark.parametrize("name", ["conv-small", "dropout", "mlp"])
def test_a_run_cut_within_an_epoch_goes_on_to_the_same_bits(name: str, device: str) -> None:
    model = MODELS[name]()
    mask = mask_of(model)
    whole = trained(model, device, graphs=True, mask=mask)
    state = None
    for cut in (3, 6, 13):
        part = trained(model, device, graphs=True, mask=mask, span=Span(stop=cut), resume=Resume(state=state))
        state = TrainState.from_tensors(part.state.tensors(), part.state.metadata())
    same_bits(trained(model, device, graphs=True, mask=mask, resume=Resume(state=state)), whole)
    assert state is not None
    lost = replace(state, momentum={key: torch.zeros_like(v) for key, v in state.momentum.items()})
    with pytest.raises(AssertionError, match="not equal"):
        same_bits(trained(model, device, graphs=True, mask=mask, resume=Resume(state=lost)), whole)


class InterruptionError(Exception):
    """Stands for anything that ends a run."""


def test_a_checkpoint_goes_on_to_the_same_bits(tmp_path: Path, device: str) -> None:
    model, path, seen = MODELS["dropout"](), tmp_path / "run.safetensors", []

    def interrupt(at: Progress) -> None:
        seen.append(at.step)
        if at.step in (2, 6, 11) and at.step not in seen[:-1]:
            raise InterruptionError

    whole = trained(model, device, graphs=True)
    options: dict[str, Any] = {"resume": Resume(path, 0.0), "callbacks": [ReportProgress(interrupt, 0.0)]}
    for _ in range(3):
        with pytest.raises(InterruptionError):
            trained(model, device, graphs=True, **options)
    same_bits(trained(model, device, graphs=True, **options), whole)
    assert seen.count(3) == 1, "the later calls began where the earlier ones had stopped"


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, device: str) -> None:
    """Killed when it says that it has done a step of its second epoch, whatever it does just then."""
    checkpoint = tmp_path / "run.safetensors"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cuda.cases", str(checkpoint), device],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert said == f"step {KILLED_AFTER}\n"
    assert process.returncode == -9
    told: list[int] = []
    resumed = killed_run(checkpoint, device, lambda at: told.append(at.step))
    whole = killed_run(checkpoint, device, lambda at: None, keep=False)
    assert told[0] >= KILLED_AFTER
    same_bits(resumed, whole)


@pytest.mark.parametrize("name", ["resnet20", "mlp"])
def test_masks_are_exact_in_bfloat16_at_every_step(name: str, device: str) -> None:
    model, recipe = MODELS[name](), replace(RECIPE, precision="bfloat16", lr=0.2)
    mask, state = mask_of(model), None
    for stop in range(1, 7):
        part: dict[str, Any] = {"span": Span(stop=stop), "resume": Resume(state=state)}
        state = trained(model, device, recipe, graphs=True, mask=mask, **part).state
        for tensors in (state.weights, state.momentum):
            zeros_kept(tensors, mask)
            assert not any(torch.signbit(tensors[key][~kept]).any() for key, kept in mask.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masks_are_exact_in_a_loop_of_ones_own_with_amp(dtype: torch.dtype, device: str) -> None:
    """At every step, one that the scaler skips for an infinite gradient included."""
    model, data = MODELS["resnet20"]().to(device), images()
    mask = Mask(mask_of(copy.deepcopy(model).cpu()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**8)
    x, y = data.normalise(data.train_x).to(device), data.train_y.to(device)
    scales: list[float] = []
    before = copy.deepcopy(model.state_dict())
    with sparse(model, mask, optimizer):
        for step in range(6):
            _amp_step(model, optimizer, scaler, x[:16], y[:16], dtype, infinite=step == 3)
            zeros_kept(model.state_dict(), mask)
            scales.append(scaler.get_scale())
    assert [scale == scales[0] for scale in scales] == [True] * 3 + [False] * 3, "the fourth step was skipped"
    assert not torch.equal(before["fc.weight"], model.state_dict()["fc.weight"])
    _amp_step(model, optimizer, scaler, x[:16], y[:16], dtype)
    with pytest.raises(AssertionError):
        zeros_kept(model.state_dict(), mask)  # without the block they come back


def _amp_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    x: Tensor,
    y: Tensor,
    dtype: torch.dtype,
    *,
    infinite: bool = False,
) -> None:
    optimizer.zero_grad()
    with torch.autocast(x.device.type, dtype):
        loss = F.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    if infinite:
        gradient = model.get_parameter("fc.weight").grad
        assert gradient is not None
        gradient.fill_(float("inf"))
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_evaluation_equals_the_cpu_in_float64(name: str, device: str) -> None:
    model, data = MODELS[name]().double(), images()
    weights = train(model, data, replace(RECIPE, epochs=2), rng_label=ORDER).weights
    here, there = (evaluate(model, data, weights=weights, batch_size=10, device=place) for place in (device, "cpu"))
    assert_close(here.logits, there.logits, rtol=2e-7, atol=1e-9)  # which are handed out in float32
    assert here.loss == pytest.approx(there.loss, rel=1e-7)
    assert here.accuracy == there.accuracy
    assert evaluate(model, data, batch_size=10, device=device).loss != pytest.approx(there.loss, rel=1e-7)
