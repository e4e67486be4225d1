"""Two processes that train together, for tests: `launch(world, ...)` starts this file once for each rank."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reticket.data import Dataset
from reticket.models import build_model
from reticket.ranks import joined
from reticket.rng import generator_for
from reticket.training import Callback, Placement, Recipe, Resume, Span, TrainingRun, train
from reticket.training.resume import Checkpoints
from reticket.training.state import write_checkpoint

ORDER = ("together", 0)
DIES = "RETICKET_TEST_DIES"  # names the rank that is killed at its first checkpoint


class Convolutions(nn.Module):
    """A small network without BatchNorm and with dropout that can be turned off."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = generator_for("convolutions")
        self.conv, self.fc, self.dropout = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), nn.Dropout(dropout)
        for p in self.parameters():
            p.data = 0.3 * torch.randn(p.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc(self.dropout(torch.relu(self.conv(x)).mean((2, 3))))


def data(n: int = 53) -> Dataset:
    """Return images; of 53 in batches of 16 the last has 5."""
    x = torch.randint(256, (n, 3, 8, 8), generator=generator_for("together"), dtype=torch.uint8)
    y = torch.arange(n) % 4
    return Dataset("noise", x, y, x[:8], y[:8], tuple("abcd"), (0.5,) * 3, (0.25,) * 3, augmentation="flip-crop")


CASES = {
    "convolutions": (lambda: Convolutions(), RECIPE := Recipe(epochs=5, batch_size=16, lr=0.05)),
    "changing": (lambda: Convolutions(), RECIPE),
    "dropout": (lambda: Convolutions(0.3), RECIPE),
    "batchnorm": (lambda: build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4), RECIPE),
    "interpolated": (
        lambda: build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4),
        replace(RECIPE, interpolate_norms=True),
    ),
    "mlp": (lambda: build_model("mlp", in_features=192, hidden=(24,), classes=4), RECIPE),
    "adamw": (lambda: Convolutions(), replace(RECIPE, lr=0.01, optimizer="adamw", clip_norm=0.5, accumulate=3)),
    "long": (lambda: Convolutions(0.3), replace(RECIPE, epochs=60)),
}


def mask_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a mask that keeps about half of the weights."""
    named = model.named_parameters()
    return {n: torch.rand(p.shape, generator=generator_for(n)) < 0.5 for n, p in named if p.dim() > 1}


class RigL(Callback):
    """Every few steps drops the smallest weights of each layer and grows as many where the dense gradient is largest.

    Args:
        every: steps between two changes.
        share: of the kept weights that are dropped.
    """

    def __init__(self, every: int = 3, share: float = 0.3) -> None:
        self.every, self.share = every, share

    def after_step(self, run: TrainingRun) -> None:
        """Change the mask when it is time to."""
        if run.step % self.every == 0:
            weights, gradient = dict(run.model.named_parameters()), run.dense_gradient()
            run.set_mask(
                {name: self._moved(kept, weights[name].detach(), gradient[name]) for name, kept in run.mask.items()}
            )

    def _moved(self, kept: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        n = int(self.share * int(kept.sum()))
        smallest = weight.abs().masked_fill(~kept, torch.inf).flatten().topk(n, largest=False).indices
        largest = gradient.abs().masked_fill(kept, -1).flatten().topk(n).indices
        moved = kept.flatten().clone()
        moved[smallest], moved[largest] = False, True
        return moved.view(kept.shape)


def callbacks_of(name: str) -> list[Callback]:
    """Return what happens around the steps of a case."""
    return [RigL()] if name == "changing" else []


def launch(world: int, *arguments: str | Path) -> list[subprocess.Popen[str]]:
    """Start this file as `world` processes that find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ranks", *map(str, arguments)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def dies_at_its_first_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be killed as soon as the first one has all it needs for a checkpoint."""
    save = Checkpoints._save

    def saved(checkpoints: Checkpoints, run: TrainingRun) -> None:
        save(checkpoints, run)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Checkpoints, "_save", saved)


def main(orders: list[str], seconds: float) -> None:
    """Train one case after another, each from the checkpoint in its folder, and keep every process's state there.

    Args:
        orders: `case:folder`, or `case:folder:step` to stop at.
        seconds: between checkpoints.
    """
    torch.set_num_threads(1)
    with joined("cpu") as (ranks, device):
        if os.environ.get(DIES) == str(ranks.rank):
            dies_at_its_first_checkpoint(pytest.MonkeyPatch())
        for name, place, *stop in (order.split(":") for order in orders):
            (build, recipe), folder = CASES[name], Path(place)
            model = build()
            result = train(
                model,
                data(),
                recipe,
                rng_label=ORDER,
                mask=mask_of(model),
                span=Span(stop=int(stop[0]) if stop else None),
                resume=Resume(folder / f"{name}.checkpoint", seconds),
                callbacks=callbacks_of(name),
                device=Placement(device, ranks),
            )
            write_checkpoint(folder / f"{name}.rank{ranks.rank}", result.state, name)


if __name__ == "__main__":
    main(sys.argv[2:], float(sys.argv[1]))
