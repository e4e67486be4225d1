"""Several MLPs in one process of one thread: one after another, or their weights stacked and multiplied as one batch.

`python -m benchmarks.stacked` writes results/stacked.json. A step is SGD's with momentum and weight decay.
"""

import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.throughput import spread
from reticket.experiment import ExecutionConfig
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.tasks.running import environment_of
from reticket.training.chain import ChainGradient, relu_backward
from reticket.training.flat import FlatParameters
from reticket.training.sgd import SGD

OUT = Path(__file__).parent / "results" / "stacked.json"
NETWORKS = {"64-128-128-10": ((64, 128, 128, 10), 64, 60), "784-512-512-10": ((784, 512, 512, 10), 128, 3)}
MOMENTUM, DECAY, LR, ROUNDS = 0.9, 5e-4, 0.05, 9


def one_after_another(widths: Sequence[int], x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return a function that does a step of each model as `train` does it."""
    models = []
    for _ in x:
        model = build_model("mlp", in_features=widths[0], hidden=tuple(widths[1:-1]), classes=widths[-1])
        flat = FlatParameters(model, None, channels_last=False)
        models.append((SGD(flat, MOMENTUM, DECAY), ChainGradient(model.relu_chain())))  # type: ignore[operator]

    def step() -> None:
        for (sgd, add_gradient), inputs, labels in zip(models, x, y, strict=True):
            sgd.before_backward()
            add_gradient(inputs, labels, len(labels))
            sgd.after_backward(LR)

    return step


def stacked(widths: Sequence[int], x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return a function that does a step of all models at once, in the same closed form."""
    k, n = y.shape
    shapes = [shape for fan_in, out in pairwise(widths) for shape in ((k, out, fan_in), (k, 1, out))]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    weights, velocity = 0.03 * torch.randn(sum(sizes), generator=generator_for("stacked")), torch.zeros(sum(sizes))
    w, v = ([p.view(s) for p, s in zip(flat.split(sizes), shapes, strict=True)] for flat in (weights, velocity))
    onehot = torch.eye(widths[-1])

    @torch.no_grad()
    def step() -> None:
        velocity.mul_(MOMENTUM).add_(weights, alpha=DECAY)
        inputs = [x]
        for weight, bias in zip(w[:-2:2], w[1:-2:2], strict=True):
            inputs.append(torch.baddbmm(bias, inputs[-1], weight.mT).relu_())
        d = torch.log_softmax(torch.baddbmm(w[-1], inputs[-1], w[-2].mT), 2)
        d = d.exp_().sub_(onehot[y]).mul_(1 / n)
        for i in range(len(inputs) - 1, -1, -1):
            v[2 * i].baddbmm_(d.mT, inputs[i])
            v[2 * i + 1].add_(d.sum(1, keepdim=True))
            if i:
                d = relu_backward(torch.bmm(d, w[2 * i]), inputs[i], 0)
        weights.add_(velocity, alpha=-LR)

    return step


def measure(widths: Sequence[int], batch_size: int, k: int, steps: int) -> dict[str, Any]:
    """Return milliseconds of processor time a step and model in both ways, in turns, and their ratio."""
    generator = generator_for("stacked", "data")
    x = torch.randn(k, batch_size, widths[0], generator=generator)
    y = torch.randint(widths[-1], (k, batch_size), generator=generator)
    ways = {"one after another": one_after_another(widths, x, y), "stacked": stacked(widths, x, y)}
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, step in ways.items():
            begun = time.process_time()
            for _ in range(steps):
                step()
            if number:
                seen[name].append((time.process_time() - begun) / steps / k * 1e3)
    ratio = [one / other for one, other in zip(*seen.values(), strict=True)]
    return {"models": k, "ratio": spread(ratio), **{name: spread(values) for name, values in seen.items()}}


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "unit": "ms of processor time a step and model",
        "environment": environment_of(ExecutionConfig()),
    }
    for name, (widths, batch_size, steps) in NETWORKS.items():
        found[name] = [measure(widths, batch_size, k, steps) for k in (2, 4, 8, 16)]
        for row in found[name]:
            print(f"{name}, {row['models']} models: stacked is {row['ratio']['median']:.2f} times as fast")
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
