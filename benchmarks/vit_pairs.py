"""`python -m benchmarks.vit_pairs`: pairs of small vision transformers on CIFAR-10, matched by several methods.

They are trained as `vit-cifar10.toml` beside this says, each from a seed of its own, and kept in a folder; figures that
are there already are not measured again, so that a run which was stopped goes on.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.pairs import HERE, METHODS, Bench
from reticket.analysis import Stat
from reticket.experiment import ExecutionConfig
from reticket.tasks.running import environment_of

COMPARED = ("identity", "activation", "weight", "frank-wolfe", "combined, weights 1", "refine")
CONFIG = HERE / "vit-cifar10.toml"


class VitBench(Bench):
    """The vision transformers, their images and symmetry.

    Args:
        folder: where trained networks are kept.
        data: folder of CIFAR-10; None for the default places.
    """

    def __init__(self, folder: Path, data: Path | None) -> None:
        super().__init__(str(CONFIG), folder, data)
        self.folder = folder / CONFIG.stem

    def figures(self, pairs: int, part: Path) -> dict[str, list[dict[str, float]]]:
        """Return the figures of every method, one row a pair.

        Args:
            pairs: that share no network.
            part: file of what was measured before; written after each row.
        """
        kept: dict[str, dict[str, Any]] = json.loads(part.read_text("utf-8")) if part.exists() else {}
        for number in range(pairs):
            a, b = self.network(2 * number), self.network(2 * number + 1)
            for name in COMPARED:
                row = kept.setdefault(name, {}).get(str(number)) or self.pair(a, b, METHODS[name])
                kept[name][str(number)] = row
                part.write_text(json.dumps(kept), encoding="utf-8")
                print(number, name, {key: round(value, 3) for key, value in row.items()}, flush=True)
        return {name: [kept[name][str(number)] for number in range(pairs)] for name in COMPARED}


def main() -> None:
    """Train what is not there yet, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vit_pairs", description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=os.environ.get("RETICKET_DATA"), help="folder of the data")
    parser.add_argument("--networks", type=Path, default=Path("runs/bench"), help="where trained networks are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "vit-pairs.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = VitBench(arguments.networks, arguments.data)
    networks = [bench.network(number) for number in range(2 * arguments.pairs)]
    accuracies = [bench.accuracy(one.state_dict()) for one in networks]
    print("accuracy", accuracies, flush=True)
    rows = bench.figures(arguments.pairs, arguments.networks / "vit-pairs.part.json")
    methods = {
        name: {key: Stat.of(row[key] for row in every).as_dict() for key in every[0]} for name, every in rows.items()
    }
    found = {"accuracy": Stat.of(accuracies).as_dict(), "methods": methods}
    found["environment"] = environment_of(ExecutionConfig())
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
