"""What makes training fast must not change it: nothing is read within an epoch, and bfloat16 is a choice of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from reticket.errors import ConfigError
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.tasks.presets import load_config
from reticket.training import Placement, Recipe, TrainingRun, train
from reticket.training.snapshot import state_of
from tests.ranks import Convolutions, data

ORDER = ("speed", 0)
READING = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "nonzero", "equal"}


class Reads(TorchFunctionMode):
    """Counts what makes the host wait for a device, by where it happens."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = getattr(func, "__name__", "")
        if name in READING or (name == "to" and "cpu" in map(str, args[1:2])):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


class Scalars(TorchDispatchMode):
    """Counts values that become Python numbers, however they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[tuple[Reads, Scalars]]:
    with Reads() as reads, Scalars() as scalars:
        yield reads, scalars


class Curious(Convolutions):
    """Looks at a value of each batch."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum().item() > 1e9:
            raise ValueError
        return super().forward(x)


def reads_of(model: nn.Module, n: int, batch_size: int) -> tuple[int, int, int]:
    """Return the steps of one epoch and what was read in it, its end included."""
    run = TrainingRun(model, data(n), Recipe(1, batch_size, 0.05), rng_label=ORDER)
    with counted() as (reads, scalars):
        run.go(run.total)
    return run.total, len(reads.seen), scalars.seen


MODELS = {
    "convolutions": Convolutions,
    "batchnorm": lambda: build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4),
    "mlp": lambda: build_model("mlp", in_features=192, hidden=(24,), classes=4),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_host_reads_nothing_within_an_epoch(name: str) -> None:
    """An epoch of many steps reads as often as one of few: at its end alone."""
    few, many = (reads_of(MODELS[name](), n, 4) for n in (8, 64))
    assert (few[0], many[0]) == (2, 16)
    assert few[1:] == many[1:]
    assert many[2] <= 4


def test_a_model_that_reads_would_be_seen() -> None:
    few, many = (reads_of(Curious(), n, 4) for n in (8, 64))
    assert many[1] - few[1] == 14
    assert many[2] - few[2] == 14


RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05, augment=False)


def test_bfloat16_is_torchs_autocast_with_weights_in_float32() -> None:
    images, recipe = data(), replace(RECIPE, precision="bfloat16")
    result = train(Convolutions(), images, recipe, rng_label=ORDER)
    model = Convolutions()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for epoch in range(3):
        for i in torch.randperm(53, generator=generator_for(*ORDER, "epoch", epoch)).split(16):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(images.normalise(images.train_x[i])).float(), images.train_y[i])
            loss.backward()
            optimizer.step()
            scheduler.step()
    assert {tensor.dtype for tensor in result.weights.values()} == {torch.float32}
    assert_close(dict(result.weights), dict(model.state_dict()), rtol=0, atol=2e-3)
    exact = train(Convolutions(), images, RECIPE, rng_label=ORDER)
    assert any(not torch.equal(exact.weights[name], weight) for name, weight in result.weights.items())


def test_bfloat16_is_in_the_key_and_float32_leaves_older_keys_alone() -> None:
    old, new = (load_config("digits", [f"dense.precision={p}"])[1].dense.decisive() for p in ("float32", "bfloat16"))
    assert "precision" not in old
    assert new == old | {"precision": "bfloat16"}
    assert load_config("digits")[1].dense.decisive() == old


def recorder(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
    """Warm up as a CUDA graph does, and replay by doing the work again."""
    for _ in range(2):
        work()
        undo()
    return work


@pytest.mark.parametrize("name", MODELS)
def test_a_recorded_step_is_the_step(name: str) -> None:
    """With two sizes of batch, a falling learning rate, a mask and BatchNorm; warming up leaves no trace."""
    weights, losses = [], []
    for record in (None, recorder):
        model = MODELS[name]()
        mask = {key: p.detach() > 0 for key, p in model.named_parameters() if p.dim() > 1}
        run = TrainingRun(model, data(), RECIPE, rng_label=ORDER, mask=mask, record=record)
        run.go(run.total)
        weights.append(dict(state_of(run).weights))
        losses.append([epoch.loss for epoch in run.history])
    assert_close(weights[1], weights[0], rtol=1e-6, atol=1e-6)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_graphs_are_for_a_gpu() -> None:
    with pytest.raises(
        ConfigError, match="graphs need one process on a GPU and data in memory, not 1 on 'cpu' with 'noise'; leave"
    ):
        train(Convolutions(), data(), RECIPE, rng_label=ORDER, device=Placement(graphs=True))
