"""Matching against the published way, layer by layer: processor time, peak memory, the same permutations.

`python -m benchmarks.matching` writes results/matching.json. Two ResNet20s are trained for some steps on the same data
from different initialisations. Every contestant matches them on the same images, in a process of its own and of one
thread, in turns; a ratio is that of one round. `--only memory` compares the memory that matching says it will take with
what a process grows by, in which freed blocks go back to the system at once.
"""

import argparse
import copy
import gc
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import CASES
from benchmarks.layerwise import match_layerwise
from benchmarks.throughput import spread
from reticket.connectivity import barrier
from reticket.data import Dataset
from reticket.experiment import ExecutionConfig
from reticket.experiment.memory import keep_freed_memory
from reticket.matching import match, match_each, matching_memory, memory_options
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover, load_into
from reticket.tasks.running import environment_of
from reticket.training import Recipe, TrainingRun
from reticket.training.snapshot import state_of
from reticket.types import Permutation

OUT = Path(__file__).parent / "results" / "matching.json"
BATCH = 128  # images
SHARE = 0.2  # of units that may be unsettled where matching stops early
POSITIONS = 128  # of an image that one contestant looks at in each feature map
JUDGED = 512  # images that the barrier is measured on
OTHERS = 10  # networks that one is matched to
MEMORY: Mapping[str, tuple[str, Mapping[str, Any], tuple[int, ...]]] = {  # model, its parameters, shape of a batch
    "digits MLP": ("mlp", {}, (20_000, 64)),
    "ResNet20x1": ("resnet20", {"width": 1}, (BATCH, 3, 32, 32)),
    "ResNet20x4": ("resnet20", {"width": 4}, (BATCH, 3, 32, 32)),
    "ViT 2 x 48": ("vit", {}, (1_000, 64)),
}
OWN_BLOCK = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}  # bytes from which glibc gives a block back when it is freed
Permutations = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Pair:
    """What is matched.

    Args:
        width: of the ResNet20s.
        images: to match on.
        steps: of training.
    """

    width: int
    images: int
    steps: int


PAIRS = {"resnet20x1": Pair(1, 2048, 100), "resnet20x4": Pair(4, 256, 8)}


@dataclass(frozen=True, eq=False)
class Setting:
    """Two networks, their symmetry and images."""

    a: nn.Module
    b: nn.Module
    sym: Symmetry
    images: Tensor

    @property
    def batches(self) -> tuple[Tensor, ...]:
        """The images in batches."""
        return self.images.split(BATCH)

    def plain(self) -> Permutations:
        """Match layer by layer; A is permuted on the way."""
        return match_layerwise(self.a, self.b, self.batches)

    def ours(self, stop: float | str = "never", positions: int | None = None) -> Permutations:
        """Match in one pass."""
        held = memory_options("activation", "cpu")
        found = match(self.a, self.b, self.sym, self.batches, stop=stop, positions=positions, **held)
        return {name: one.index.tolist() for name, one in found.permutations.items()}

    def each(self, positions: int | None = None) -> Permutations:
        """Match A to several networks: B, as often."""
        options = {**memory_options("activation", "cpu"), "positions": positions}
        found = match_each(self.a, [copy.deepcopy(self.b) for _ in range(OTHERS)], self.sym, self.batches, **options)
        return {name: one.index.tolist() for name, one in found[-1].permutations.items()}


CONTESTANTS: dict[str, Callable[[Setting], Permutations]] = {
    "layer by layer": Setting.plain,
    "ours": Setting.ours,
    f"ours at {POSITIONS} positions of an image": lambda setting: setting.ours(positions=POSITIONS),
    f"ours until {SHARE:.0%} are unsettled": lambda setting: setting.ours(SHARE),
    f"ours, one A to {OTHERS} Bs": Setting.each,
    f"ours, one A to {OTHERS} Bs at {POSITIONS} positions": lambda setting: setting.each(POSITIONS),
}
PLAIN = next(iter(CONTESTANTS))
TO_EACH = tuple(name for name in CONTESTANTS if f"to {OTHERS} Bs" in name)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("RETICKET_DATA"), help="folder of CIFAR-10")
    parser.add_argument("--only", choices=[*PAIRS, "memory"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(arguments.out.read_text("utf-8")) if arguments.out.exists() else {}
    for name in [arguments.only] if arguments.only else [*PAIRS, "memory"]:
        found[name] = measure_memory() if name == "memory" else measure(PAIRS[name], arguments.data, arguments.rounds)
        found["environment"] = environment_of(ExecutionConfig())
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(pair: Pair, folder: Path | None, rounds: int) -> dict[str, Any]:
    """Return the figures of every contestant, with ratios to the plain ways."""
    data, source = CASES["resnet20"].load(folder)
    states = [_trained(pair, data, name) for name in "AB"]
    images = data.normalise(data.train_x[: pair.images])
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, seen in turns.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seen.append(pool.apply(_turn, (name, pair.width, states, images)))
            print(f"x{pair.width} {name}: {seen[-1]['seconds']:.1f} s, {seen[-1]['peak'] / 1e9:.2f} GB", flush=True)
    rows, barriers = {name: _row(name, turns) for name in CONTESTANTS}, dict[str, float]()
    for name, row in rows.items():  # of equal permutations once
        found = turns[name][0]["permutations"]
        if (key := json.dumps(found)) not in barriers:
            barriers[key] = _barrier(found, states, pair.width, data)
        row["barrier"] = barriers[key]
    return {"width": pair.width, "images": pair.images, "steps": pair.steps, "data": source, "contestants": rows}


def measure_memory() -> dict[str, dict[str, int]]:
    """Return for every model how many bytes matching said it would take, and how many the process grew by."""
    os.environ.update(OWN_BLOCK)
    found: dict[str, dict[str, int]] = {}
    for name in MEMORY:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(_memory_turn, (name,))
        print(name, {what: f"{taken / 1e6:.1f} MB" for what, taken in found[name].items()}, flush=True)
    for variable in OWN_BLOCK:
        del os.environ[variable]
    return found


def _memory_turn(name: str) -> dict[str, int]:
    torch.set_num_threads(1)
    model, params, shape = MEMORY[name]
    a, b = (build_model(model, generator=generator_for("memory", side), **params).eval() for side in "AB")
    batch = torch.randn(shape, generator=generator_for("memory"))
    sym = discover(a, batch[:2], verify=False)
    options = {**memory_options("activation", "cpu"), "stop": "never"}
    match(a, b, sym, [batch[:4]], **options)  # code that runs for the first time is loaded
    told = matching_memory(a, sym, batch, **options)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    match(a, b, sym, [batch, batch], **options)
    return {"told": told, "grown": resident("VmHWM") - before}


def _trained(pair: Pair, data: Dataset, name: str) -> dict[str, Tensor]:
    model = build_model("resnet20", width=pair.width, generator=generator_for("matching", name))
    run = TrainingRun(model, data, Recipe(epochs=100, batch_size=BATCH, lr=0.05), rng_label=("matching", name))
    run.go(pair.steps)
    return dict(state_of(run).weights)


def _turn(name: str, width: int, states: Sequence[Mapping[str, Tensor]], images: Tensor) -> dict[str, Any]:
    torch.set_num_threads(1)
    keep_freed_memory()  # as every process that carries out tasks does
    a, b = (build_model("resnet20", width=width).eval() for _ in states)
    for model, state in zip((a, b), states, strict=True):
        load_into(model, state)
    setting = Setting(a, b, discover(a, images[:2], verify=False), images)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of discovery is forgotten
    before, begun = resident("VmRSS"), time.process_time()
    found = CONTESTANTS[name](setting)
    return {
        "seconds": time.process_time() - begun,
        "before": before,
        "peak": resident("VmHWM"),
        "permutations": {layer: list(index) for layer, index in found.items()},
    }


def resident(what: str) -> int:
    """Return the resident size of this process in bytes, now ("VmRSS") or at its largest ("VmHWM"), as Linux says."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))


def _row(name: str, turns: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the figures of one contestant; its ratio is to as many matchings layer by layer as it made."""
    own, plain = turns[name], turns[PLAIN]
    found, right = own[0]["permutations"], plain[0]["permutations"]
    pairs = [pair for layer, index in right.items() for pair in zip(index, found[layer], strict=True)]
    many = OTHERS if name in TO_EACH else 1
    return {
        "seconds": spread([turn["seconds"] for turn in own]),
        "peak": max(turn["peak"] for turn in own),
        "before": max(turn["before"] for turn in own),
        "same_units": sum(i == j for i, j in pairs) / len(pairs),
        "times_faster": spread([many * p["seconds"] / o["seconds"] for p, o in zip(plain, own, strict=True)]),
    }


def _barrier(found: Permutations, states: Sequence[Mapping[str, Tensor]], width: int, data: Dataset) -> float:
    """Return the barrier of the loss between A as permuted and B, after REPAIR."""
    model = build_model("resnet20", width=width)
    sym = discover(model, torch.zeros(2, *data.input_shape), verify=False)
    alignment = Alignment(sym, {name: Permutation(torch.tensor(index)) for name, index in found.items()})
    test, train = (
        list(zip(data.normalise(x[:JUDGED]).split(BATCH), y[:JUDGED].split(BATCH), strict=True))
        for x, y in ((data.test_x, data.test_y), (data.train_x, data.train_y))
    )
    ends = alignment.apply(dict(states[0])), dict(states[1])
    return barrier(model, *ends, test, (0, 0.5, 1), repair=True, repair_batches=train).loss_barrier


if __name__ == "__main__":
    main()
