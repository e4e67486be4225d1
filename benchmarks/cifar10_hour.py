"""`python -m benchmarks.cifar10_hour`: ResNet20 on all of CIFAR-10, a twentieth of the paper's epochs, beside its row.

The preset `cifar10-hour`, one pair of networks after the other, so that a session that ends leaves whole pairs behind
and the next one goes on: in the middle of a pair from the store. A row that the file has is not measured again.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.asymmetric import text
from benchmarks.kept import Kept, add_places
from benchmarks.marks import show
from benchmarks.sparse_runs import whole
from reticket.analysis import paired_difference
from reticket.experiment import ExecutionConfig
from reticket.figures.published import Accuracy, find_accuracies
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.running import run_experiment

BEGIN, END = "<!-- cifar10-hour: written by python -m benchmarks.cifar10_hour -->", "<!-- end of cifar10-hour -->"
OUT = Path(__file__).parent / "results" / "cifar10-hour.json"
PRESET = "cifar10-hour"
METHODS = ("dense", "lth", "permuted", "naive")
PAIRS = (("lth", "permuted"), ("permuted", "naive"), ("lth", "naive"))


def measured(seed: int, precision: str, store: Path, data: Path | None) -> dict[str, Any]:
    """Return accuracies in percent by method of one pair, how well its units are matched, and what it took.

    Args:
        seed: of the pair.
        precision: that networks are trained in.
        store: of results, so that what was interrupted goes on.
        data: folder of CIFAR-10.
    """
    name, config = load_config(PRESET, [f"grid.seeds=[{seed}]", f"dense.precision={precision}"])
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        whole(
            run_experiment(
                config,
                Path(folder),
                preset=name,
                store=store,
                execution=ExecutionConfig(data=str(data) if data else None),
            )
        )
        results = Results.load(Path(folder), store=store)
        found = {row.method: row.values[0] for row in results.rows if row.metric == "accuracy"}
    matched = [one["correlation"]["mean"] for one in results.records("matching")]
    trained = sum(cost.seconds or 0.0 for cost in results.cost)
    took = {"seconds of its tasks": trained, "seconds": time.process_time() - begun}
    return {**found, "correlation": sum(matched) / len(matched), "precision": precision, **took}


def published(method: str) -> Accuracy | None:
    """Return the paper's cell of a method: from its k = 20 of 200 epochs, B matched there."""
    at: int | Literal["end"] = 20 if method == "permuted" else "end"
    found = find_accuracies("cifar10", "resnet20", 1, 0.9, 20, method, at)
    return found[0] if found else None


def table(rows: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Return the pairs as a Markdown table beside the paper's row, and the differences by pair.

    Args:
        rows: as `measured` makes them.
    """
    lines = [f"| | n = {len(rows)}, T = 10, k = 2 | the paper, T = 200, k = 20 |", "|---|---|---|"]
    cells = {method: published(method) for method in METHODS}
    for method, cell in cells.items():
        values = torch.tensor([row[method] for row in rows], dtype=torch.float64, device="cpu")
        spread = f" ± {float(values.std()):.2f}" if len(rows) > 1 else ""
        beside = "" if cell is None else f"{cell.mean}" if cell.sd is None else f"{cell.mean} ± {cell.sd}"
        lines.append(f"| {method} | {float(values.mean()):.2f}{spread} | {beside} |")
    for one, other in PAIRS if len(rows) > 1 else ():
        difference = paired_difference([row[one] for row in rows], [row[other] for row in rows])
        first, second = cells[one], cells[other]
        beside = f"{first.mean - second.mean:+.2f}" if first and second else ""
        lines.append(f"| {one} - {other} | {text(difference)} | {beside} |")
    return lines


def main() -> None:
    """Measure the pairs that the file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10")
    add_places(parser, Path("runs/cifar10-hour"), OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(args.out)
    for seed in args.seeds:
        kept.row(
            f"{args.precision}, seed {seed}", lambda seed=seed: measured(seed, args.precision, args.store, args.data)
        )
    rows = [row for name, row in kept.cases.items() if name.startswith(f"{args.precision}, ")]
    show(table(rows), args.page, BEGIN, END)


if __name__ == "__main__":
    main()
