"""`python -m benchmarks.pairs`: trained pairs matched by every contender, and several networks merged.

Networks are trained as a preset says, each from a seed of its own, and kept in a folder; pairs share no network. Of
each pair and contender: how alike matched units are in what they respond to, the barriers at the midpoint with and
without REPAIR, and processor seconds and peak memory (MB, beyond what the process had) of the matching, which is done
in a process of one thread. Merges are of sets of 3 and 5 networks that share none, in one common frame and pair by pair
onto the first. A row that the file has is not measured again.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import reticket as rt
from benchmarks.contenders import CONTENDERS, Batches, why_not
from benchmarks.kept import Kept
from benchmarks.matching import resident
from reticket.data import Dataset, load_dataset
from reticket.matching.correlations import activation_similarity
from reticket.rng import generator_for
from reticket.tasks.config import Config
from reticket.tasks.presets import load_config

HERE = Path(__file__).parent
OUT = HERE / "results" / "pairs.json"


@dataclass(frozen=True)
class Case:
    """Networks that are matched.

    Args:
        title: what they are.
        preset: that they are trained by, or a file.
        pairs: of networks that share none.
        sets: of 5 networks to merge, and of their first 3.
        images: to match on, and for REPAIR.
        tested: images that barriers and accuracies are measured on.
        contenders: that are measured.
    """

    title: str
    preset: str
    pairs: int = 5
    sets: int = 0
    images: int = 2000
    tested: int = 2000
    contenders: tuple[str, ...] = tuple(CONTENDERS)


CASES = {
    "digits": Case("MLP 64-128-128-10 on the digits", "digits", sets=5),
    "fashion-conv": Case(
        "conv 16-32-32-64 with BatchNorm on Fashion-MNIST", "fashion-conv", sets=5, images=1000, tested=1000
    ),
    "cifar10-small": Case(
        "ResNet20x1 on CIFAR-10, 8 epochs of 5,000 images", "cifar10-small", sets=1, images=1000, tested=1000
    ),
    "digits-vit": Case("ViT 2 x 32 on the digits", "digits-vit", pairs=2),
    "vit-cifar10": Case(
        "ViT 4 x 96 on CIFAR-10",
        str(HERE / "vit-cifar10.toml"),
        pairs=2,
        contenders=("identity", "activation", "weight", "frank-wolfe", "combined, weights 1", "refine"),
    ),
}
BATCH = 256


class Bench:
    """The networks and images of one case.

    Args:
        name: of the case.
        folder: where trained networks are kept.
        data: folder of the data; None for the default places.
    """

    def __init__(self, name: str, folder: Path, data: Path | None) -> None:
        self.case, self.folder = CASES[name], folder / name
        self.config: Config = load_config(self.case.preset)[1]
        chosen, tested = self.config.data, self.case.tested
        data_set = load_dataset(chosen.name, folder=data, train_size=chosen.train_size)
        self.dataset: Dataset = dataclasses.replace(
            data_set, test_x=data_set.test_x[:tested], test_y=data_set.test_y[:tested]
        )
        self.images = self.dataset.normalise(self.dataset.train_x[: self.case.images])
        self.test = _batched(self.dataset.normalise(self.dataset.test_x), self.dataset.test_y)
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

    def batches(self) -> Batches:
        """Return the images that networks are matched on, with their labels, which few methods look at."""
        return _batched(self.images, self.dataset.train_y[: self.case.images])

    def matched(self, contender: str, pair: int) -> tuple[rt.Alignment, dict[str, float]]:
        """Return the alignment of a pair, and what finding it took in this process."""
        a, b, batches = self.network(2 * pair), self.network(2 * pair + 1), self.batches()
        Path("/proc/self/clear_refs").write_text("5")  # the peak of what was before is forgotten
        before, begun = resident("VmRSS"), time.process_time()
        alignment = CONTENDERS[contender](a, b, self.symmetry, batches)
        seconds = time.process_time() - begun
        return alignment, {"seconds": seconds, "memory": (resident("VmHWM") - before) / 1e6}

    def judged(self, alignment: rt.Alignment, pair: int) -> dict[str, float]:
        """Return how well an alignment fits a pair."""
        a, b = self.network(2 * pair), self.network(2 * pair + 1)
        found = {"correlation": self.correlation(a, b, alignment)}
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

    def merged(self, seeds: Sequence[int]) -> dict[str, float]:
        """Return the accuracy of the merge of networks, after REPAIR, in one frame and pair by pair, in percent."""
        networks = [self.network(seed) for seed in seeds]
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
            "mean of the networks": sum(self.accuracy(one.state_dict()) for one in networks) / len(networks),
        }

    def accuracy(self, weights: Mapping[str, Tensor]) -> float:
        """Return the accuracy of weights on the test images in percent."""
        model = self.build()
        rt.load_into(model, weights)
        return rt.evaluate(model, self.dataset).accuracy


def _batched(inputs: Tensor, labels: Tensor) -> Batches:
    return list(zip(inputs.split(BATCH), labels.split(BATCH), strict=True))


@functools.cache
def bench_of(name: str, folder: Path, data: Path | None) -> Bench:
    """Return the networks and images of a case, opened once in a process."""
    return Bench(name, folder, data)


def row_of(name: str, folder: Path, data: Path | None, contender: str, pair: int) -> dict[str, Any]:
    """Return the row of a pair and contender; why there is none where it cannot match these networks."""
    torch.set_num_threads(1)
    bench = bench_of(name, folder, data)
    try:
        alignment, took = bench.matched(contender, pair)
    except ValueError as error:
        return {"not measured": str(error)}
    return took | bench.judged(alignment, pair)


def measure(name: str, folder: Path, data: Path | None, kept: Kept) -> None:
    """Measure what the file does not have of a case: every contender in a process of its own, and merges."""
    bench, case = bench_of(name, folder, data), CASES[name]
    for seed in range(max(2 * case.pairs, 5 * case.sets)):
        bench.network(seed)
    for first in range(0, 5 * case.sets, 5):
        for count in (3, 5):
            seeds = range(first, first + count)
            kept.row(f"{name}, merge of {count}, set {first // 5}", lambda seeds=seeds: bench.merged(seeds))
    for contender in case.contenders:
        if reason := why_not(contender, bench.build()):
            kept.row(f"{name}, {contender}", lambda reason=reason: {"not measured": reason})
            continue
        with multiprocessing.get_context("fork").Pool(1) as pool:  # which has the images in memory already
            for pair in range(case.pairs):
                one = (name, folder, data, contender, pair)
                kept.row(f"{name}, {contender}, pair {pair}", lambda one=one, pool=pool: pool.apply(row_of, one))


def main() -> None:
    """Measure the cases that were asked for; the figures of the others stay as they are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES), help="all when left out")
    parser.add_argument("--data", type=Path, default=os.environ.get("RETICKET_DATA"), help="folder of the data")
    parser.add_argument("--networks", type=Path, default=Path("runs/bench"), help="where trained networks are kept")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(arguments.out)
    for name in arguments.case or CASES:
        measure(name, arguments.networks, arguments.data, kept)


if __name__ == "__main__":
    main()
