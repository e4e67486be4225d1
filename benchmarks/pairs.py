"""`python -m benchmarks.pairs`: trained pairs matched by every method, and several networks merged.

Networks are trained as a preset says, each from a seed of its own, and kept in a folder; pairs share no network. Of
each pair and method: how alike matched units are in what they respond to, the barriers at the midpoint with and without
REPAIR, and processor seconds of the matching. Merges are of the first 3 and the first 5 networks, in one common frame
and pair by pair onto the first.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import reticket as rt
from reticket.analysis import Stat
from reticket.data import Dataset, load_dataset
from reticket.experiment import ExecutionConfig
from reticket.matching.correlations import activation_similarity
from reticket.rng import generator_for
from reticket.tasks.config import Config
from reticket.tasks.presets import load_config
from reticket.tasks.running import environment_of

HERE = Path(__file__).parent
SAMPLES, TESTED, BATCH = 2000, 2000, 500
METHODS: Mapping[str, Mapping[str, Any]] = {
    "identity": {"method": "identity"},
    "activation": {"method": "activation"},
    "weight": {"method": "weight"},
    "weight, 5 restarts": {"method": "weight", "restarts": 5},
    "frank-wolfe": {"method": "frank-wolfe"},
    "refine": {"method": "refine"},
    "refine, straight-through": {"method": "refine", "how": "straight-through"},
    "combined, weights 1": {"method": "combined", "weights": 1.0},
    "combined, weights 4": {"method": "combined", "weights": 4.0},
}


class Bench:
    """The networks and images of one preset.

    Args:
        preset: name of the preset.
        folder: where trained networks are kept.
        data: folder of the data; None for the default places.
    """

    def __init__(self, preset: str, folder: Path, data: Path | None) -> None:
        self.preset, self.folder = preset, folder / preset
        self.config: Config = load_config(preset)[1]
        chosen = self.config.data
        self.dataset: Dataset = load_dataset(chosen.name, folder=data, train_size=chosen.train_size)
        self.images, self.labels = (
            self.dataset.normalise(self.dataset.train_x[:SAMPLES]),
            self.dataset.train_y[:SAMPLES],
        )
        test = self.dataset.normalise(self.dataset.test_x[:TESTED])
        self.test = list(zip(test.split(BATCH), self.dataset.test_y[:TESTED].split(BATCH), strict=True))
        self.tested = dataclasses.replace(
            self.dataset, test_x=self.dataset.test_x[:TESTED], test_y=self.dataset.test_y[:TESTED]
        )
        self.symmetry = rt.discover(self.build(), self.images[:2])

    def build(self, seed: int = 0) -> nn.Module:
        """Return the untrained network of a seed."""
        model = self.config.model
        return rt.build_model(model.name, generator=generator_for("bench", seed), **model.params)

    def network(self, seed: int) -> nn.Module:
        """Return the trained network of a seed, trained now where it is not there yet."""
        path, model = self.folder / f"{seed}.safetensors", self.build(seed)
        if not path.exists():
            trained = rt.train(model, self.dataset, self.config.dense, rng_label=("bench", seed))
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(dict(trained.weights), path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        rt.load_into(model, load_file(path))
        return model.eval()

    def batches(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the images that networks are matched on, with their labels, which few methods look at."""
        return list(zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True))

    def pair(self, a: nn.Module, b: nn.Module, method: Mapping[str, Any]) -> dict[str, float]:
        """Return the figures of one pair and method."""
        begun = time.process_time()
        alignment = rt.match(a, b, self.symmetry, self.batches(), **method)
        seconds = time.process_time() - begun
        found = {"seconds": seconds, "correlation": self.correlation(a, b, alignment)}
        ends = (alignment.apply(a.state_dict()), b.state_dict())
        for name, repair in (("", False), (" with REPAIR", True)):
            curve = rt.barrier(
                self.build(), *ends, self.test, (0.0, 0.5, 1.0), repair=repair, repair_batches=[self.images]
            )
            found |= {f"loss barrier{name}": curve.loss_barrier, f"accuracy barrier{name}": curve.accuracy_barrier}
        return found

    def correlation(self, a: nn.Module, b: nn.Module, alignment: rt.Alignment) -> float:
        """Return the mean matched correlation over groups, whatever the alignment was found by."""
        seen = activation_similarity((a,), (b,), self.symmetry, self.batches()).quality(alignment.permutations)
        return sum(one.correlation for one in seen.values()) / len(seen)

    def merges(self, count: int) -> dict[str, float]:
        """Return the accuracy of the merge of the first networks, in one frame and pair by pair."""
        networks = [self.network(seed) for seed in range(count)]
        frame = rt.match_many(networks, self.symmetry, self.batches())
        onto_first = [
            rt.identity_alignment(self.symmetry),
            *(rt.match(other, networks[0], self.symmetry, self.batches()) for other in networks[1:]),
        ]
        ways: dict[str, Any] = {"common frame": frame, "each onto the first": onto_first}
        solved = rt.merge(self.build(), networks, frame, [self.images], how="least-squares")
        return {
            name: self.accuracy(rt.merge(self.build(), networks, alignments, [self.images]))
            for name, alignments in ways.items()
        } | {
            "common frame, least squares": self.accuracy(solved),
            "mean of the networks": sum(self.accuracy(one.state_dict()) for one in networks) / count,
        }

    def accuracy(self, weights: Mapping[str, Tensor]) -> float:
        """Return the accuracy of weights on the test images in percent."""
        model = self.build()
        rt.load_into(model, weights)
        return rt.evaluate(model, self.tested).accuracy


def measure(bench: Bench, pairs: int) -> dict[str, Any]:
    """Return the figures of every method over pairs that share no network, as means with spread."""
    found: dict[str, Any] = {}
    for name, method in METHODS.items():
        rows = [bench.pair(bench.network(2 * i), bench.network(2 * i + 1), method) for i in range(pairs)]
        found[name] = {key: Stat.of(row[key] for row in rows).as_dict() for key in rows[0]}
        print(
            f"{bench.preset:14} {name:20} " + ", ".join(f"{k} {v['mean']:.3f}" for k, v in found[name].items()),
            flush=True,
        )
    return found


def main() -> None:
    """Measure the presets that were asked for; the figures of the others stay as they are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("--preset", action="append", help="one of them; digits and fashion-conv when left out")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--data", type=Path, default=os.environ.get("RETICKET_DATA"), help="folder of the data")
    parser.add_argument("--networks", type=Path, default=Path("runs/bench"), help="where trained networks are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "pairs.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = json.loads(arguments.out.read_text("utf-8")) if arguments.out.exists() else {}
    for preset in arguments.preset or ("digits", "fashion-conv"):
        bench = Bench(preset, arguments.networks, arguments.data)
        methods = measure(bench, arguments.pairs)
        merges = {str(count): bench.merges(count) for count in (3, 5) if count <= 2 * arguments.pairs}
        print(f"{preset:14} merges {merges}", flush=True)
        kept[preset] = {"methods": methods, "merges": merges, "environment": environment_of(ExecutionConfig())}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
