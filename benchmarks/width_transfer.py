"""`python -m benchmarks.width_transfer`: a ticket carried to two and four times the width.

Every pair is a narrow A and a wider B that share nothing, each trained, and pruned for itself, as a preset says. From
B's weights at the rewind point the same sparse training is done with: A's mask carried by `match_wider` and `widen`
("widened"; "widened early" where B was matched at that point), the same in the order in which units happen to stand
("tiled"), that mask shuffled within layers, a random one of Erdős-Rényi-kernel densities, and B's own IMP mask
("imp-b"), pruned to as many weights. Every mask of a pair keeps the same number. A's densities of layers are kept, so
that a wider network, which grows in its inner layers most, has a lower density in all.
Networks are results of experiments in a store; a row that the file has is not measured again.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

import reticket as rt
from benchmarks.asymmetric import text
from benchmarks.kept import Kept, add_places
from benchmarks.marks import show
from benchmarks.sparse_runs import TABLE_ALONE, SparseRuns, initial, whole
from reticket.analysis import paired_difference
from reticket.data import Reading
from reticket.matching import match_wider
from reticket.rng import generator_for
from reticket.symmetry import Widening, load_into
from reticket.tasks.config import Config
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.running import run_experiment
from reticket.tickets import Mask, erk_mask, layer_shuffle, widen

BEGIN, END = "<!-- width-transfer: written by python -m benchmarks.width_transfer -->", "<!-- end of width-transfer -->"
OUT = Path(__file__).parent / "results" / "width-transfer.json"
FACTORS = (2, 4)
OTHER = 1_000  # added to the seed for B, that it shares neither initialisation nor order with A
METHODS = ("imp-b", "widened", "widened early", "tiled", "layer-shuffle", "erk")


@dataclass(frozen=True)
class Case:
    """A family of networks of several widths, and how they are trained and pruned.

    Args:
        preset: how.
        widths: the parameter of the model that says how wide each layer is.
        narrow: its value for A.
        sparsities: of the masks.
        rewind: where sparse training begins.
        prefix: before the names of its rows.
    """

    preset: str
    widths: str
    narrow: tuple[int, ...]
    sparsities: tuple[float, ...]
    rewind: str
    prefix: str = ""

    def config(self, factor: int, seed: int, sparsities: Sequence[float] = ()) -> Config:
        """Return the experiment that trains a network of a width and prunes it for itself.

        Args:
            factor: of its widths to A's.
            seed: decides its initialisation and the order of its examples.
            sparsities: of the masks, where they are others than the case's.
        """
        settings = [f"grid.seeds=[{seed}]", f"grid.sparsities={list(sparsities or self.sparsities)}"]
        settings += [f'grid.rewinds=["{self.rewind}"]', 'grid.match_at=["end"]']
        settings += [
            'grid.methods=["dense", "imp", "lth"]',
            f"model.params.{self.widths}={[factor * width for width in self.narrow]}",
        ]
        return load_config(self.preset, [*settings, *TABLE_ALONE])[1]


CASES = {
    "digits": Case("digits", "hidden", (64, 64), (0.95, 0.98), "5ep"),
    "fashion-conv": Case("ticketbench-fashion-conv", "widths", (8, 16, 16, 32), (0.9,), "2ep", "fashion-conv, "),
}


@dataclass(frozen=True)
class Pruned:
    """A network with the masks that pruning it for itself gives, by the sparsities of its experiment.

    Args:
        network: at the end of dense training.
        masks: by sparsity.
        own: accuracies in percent, of "dense" and of "lth" at each sparsity.
    """

    network: nn.Module
    masks: Mapping[float, Mask]
    own: Mapping[str, Any]

    @classmethod
    def of(cls, config: Config, seed: int, store: Path) -> "Pruned":
        """Return what an experiment of one seed finds, of which a store may hold some already."""
        with tempfile.TemporaryDirectory() as folder:
            whole(run_experiment(config, Path(folder), store=store))
            results, network = Results.load(Path(folder), store=store), initial(config, "A", seed)
            load_into(network, results.weights(method="dense", seed=seed))
            masks = {s: results.mask(method="imp", seed=seed, sparsity=s) for s in config.grid.sparsities}
        rows = [row for row in results.rows if row.metric == "accuracy" and row.method in ("dense", "lth")]
        return cls(
            network,
            masks,
            {row.method if row.method == "dense" else f"{row.method} {row.sparsity:.0%}": row.mean for row in rows},
        )


def measured(case: Case, factor: int, seed: int, store: Path) -> dict[str, Any]:
    """Return the accuracies in percent of one pair by sparsity and method.

    Args:
        case: of the networks.
        factor: of B's width to A's.
        seed: of A; B's is another one.
        store: of results, in which A is there for every factor.
    """
    begun, other = time.process_time(), OTHER + seed
    by_b = SparseRuns(case.config(factor, other))
    of_a, of_b = Pruned.of(case.config(1, seed), seed, store), Pruned.of(by_b.config, other, store)
    narrow, wide = (rt.discover(one.network, torch.zeros(2, *by_b.data.input_shape)) for one in (of_a, of_b))
    tiled = {name: torch.arange(g.size) % narrow.groups[name].size for name, g in wide.groups.items()}
    rewound, images = by_b.rewound("A", other), Reading(by_b.data, "train", 512)
    matched = match_wider(of_a.network, of_b.network, narrow, wide, images)
    early = match_wider(of_a.network, rewound, narrow, wide, images)
    found: dict[str, Any] = {"correlation": dict(matched.correlation), "density": {}}
    carried = {sparsity: widen(of_a.masks[sparsity], matched, rewound) for sparsity in case.sparsities}
    as_many = [1 - mask.density for mask in carried.values()]
    pruned = Pruned.of(case.config(factor, other, as_many), other, store).masks.values()
    for (sparsity, widened), of_its_own in zip(carried.items(), pruned, strict=True):
        source = generator_for("width", factor, seed, f"{sparsity}")
        masks = {
            "imp-b": of_its_own,
            "widened": widened,
            "widened early": widen(of_a.masks[sparsity], early, rewound),
            "tiled": widen(of_a.masks[sparsity], Widening(narrow, wide, tiled), rewound),
            "layer-shuffle": layer_shuffle(widened, source),
            "erk": erk_mask(widened, widened.density, source),
        }
        kept = {method: one.kept for method, one in masks.items()}
        if len(set(kept.values())) > 1:
            raise ValueError(f"masks of different sizes: {kept}")
        found["density"][f"{sparsity:.0%}"] = widened.density
        found[f"{sparsity:.0%}"] = {
            method: by_b.accuracy(rewound.state_dict(), one, "A", other) for method, one in masks.items()
        }
    own = {f"{name} {method}": value for name, one in (("A", of_a), ("B", of_b)) for method, value in one.own.items()}
    return {**found, **own, "seconds": time.process_time() - begun}


def table(rows_of: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Return the rows as a Markdown table, with paired differences and their 95 % intervals."""
    lines = [
        f"| network | B's width | sparsity | n | {' | '.join(METHODS)} | widened - erk | widened - layer-shuffle | "
        "widened - tiled | imp-b - widened |",
        "|" + "---|" * (4 + len(METHODS) + 4),
    ]
    for (called, case), factor in product(CASES.items(), FACTORS):
        rows = [row for name, row in rows_of.items() if name.startswith(f"{case.prefix}x{factor}, ")]
        for sparsity in (f"{s:.0%}" for s in case.sparsities if len(rows) > 1):
            by = {method: [row[sparsity][method] for row in rows] for method in METHODS}
            means = [f"{sum(by[m]) / len(by[m]):.2f}" for m in METHODS]
            pairs = [("widened", m) for m in ("erk", "layer-shuffle", "tiled")] + [("imp-b", "widened")]
            differences = [text(paired_difference(by[one], by[other])) for one, other in pairs]
            lines.append(f"| {called} | x{factor} | {sparsity} | {len(rows)} | {' | '.join([*means, *differences])} |")
    return lines


def main() -> None:
    """Measure what the file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", default="digits", choices=CASES)
    parser.add_argument("--factors", type=int, nargs="+", default=list(FACTORS), choices=FACTORS)
    parser.add_argument("--seeds", type=int, default=12)
    add_places(parser, Path("runs/width-transfer"), OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept, case = Kept(args.out), CASES[args.case]
    for seed, factor in product(range(args.seeds), args.factors):
        name = f"{case.prefix}x{factor}, seed {seed}"
        kept.row(name, lambda pair=(factor, seed): measured(case, *pair, args.store))
    show(table(kept.cases), args.page, BEGIN, END)


if __name__ == "__main__":
    main()
