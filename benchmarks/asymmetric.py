"""`python -m benchmarks.asymmetric`: is a mask moved as it is once initialisations share a frame, and at what price?

For each frame (`models.Frame`) the pairs (A, B) of one case: dense accuracy, LTH, `naive`, `permuted` (matched as if
there were no frame), the share of units that this matching leaves in place, and how often the retrained A and the
retrained B that has its mask choose different classes. All differences are paired by seed with the same case without
a frame or among methods of one pair. A row that the file has is not measured again.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.kept import Kept, add_places
from benchmarks.marks import show
from benchmarks.sparse_runs import TABLE_ALONE, whole
from reticket.analysis import PairedDifference, paired_difference
from reticket.tasks.config import Config
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.running import run_experiment

BEGIN, END = "<!-- asymmetric: written by python -m benchmarks.asymmetric -->", "<!-- end of asymmetric -->"
OUT = Path(__file__).parent / "results" / "asymmetric.json"
METHODS = ("dense", "lth", "permuted", "naive")
CASES = {"digits": ("digits", 0.98, "5ep"), "fashion-conv": ("ticketbench-fashion-conv-methods", 0.9, "2ep")}
"""What is measured: a preset, and the sparsity and rewind point of it."""
ORDINARY = "ordinary"
FRAMES: Mapping[str, Mapping[str, Any]] = {
    "share 0.05": {"share": 0.05},
    "share 0.1": {"share": 0.1},
    "share 0.1, scale 2": {"share": 0.1, "scale": 2.0},
    "share 0.25": {"share": 0.25},
    "share 0.25, scale 2": {"share": 0.25, "scale": 2.0},
    "share 0.5": {"share": 0.5},
    "share 0.5, scale 2": {"share": 0.5, "scale": 2.0},
    "share 0.1, scale 4": {"share": 0.1, "scale": 4.0},
    "share 0.25, scale 4": {"share": 0.25, "scale": 4.0},
    "share 0.75": {"share": 0.75},
    "share 0.5, scale 0.01": {"share": 0.5, "scale": 0.01},
    "share 0.75, scale 0.01": {"share": 0.75, "scale": 0.01},
    "share 0.9, scale 0.01": {"share": 0.9, "scale": 0.01},
    "share 0.25, scale 4, trained": {"share": 0.25, "scale": 4.0, "frozen": False},
    "share 0.5, scale 2, trained": {"share": 0.5, "scale": 2.0, "frozen": False},
    "share 0.25, trained": {"share": 0.25, "frozen": False},
    "share 0.5, trained": {"share": 0.5, "frozen": False},
    "share 0.75, trained": {"share": 0.75, "frozen": False},
    "share 0.9, trained": {"share": 0.9, "frozen": False},
}


def config_of(case: str, frame: Mapping[str, Any] | None, seeds: int) -> tuple[str, Config]:
    """Return the name and the experiment of a case with a frame.

    Args:
        case: one of `CASES`.
        frame: that all its networks share; None for none.
        seeds: pairs.
    """
    preset, sparsity, rewind = CASES[case]
    settings = [f"grid.seeds={seeds}", f"grid.sparsities=[{sparsity}]", f'grid.rewinds=["{rewind}"]']
    settings += [f"grid.methods={list(METHODS)}", *TABLE_ALONE]
    settings += [f"model.params.asymmetric.{key}={str(value).lower()}" for key, value in (frame or {}).items()]
    return load_config(preset, settings)


def measured(case: str, frame: Mapping[str, Any] | None, seeds: int, store: Path) -> dict[str, Any]:
    """Return accuracies in percent by method and seed, and what the matching and the predictions say.

    Args:
        case: whose networks, at one sparsity and rewind point.
        frame: that they share; None for none.
        seeds: pairs.
        store: of results, so that a longer run goes on from a shorter one.
    """
    sparsity, rewind = CASES[case][1:]
    name, config = config_of(case, frame, seeds)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        whole(run_experiment(config, Path(folder), preset=name, store=store))
        results = Results.load(Path(folder), store=store)
        found: dict[str, Any] = {r.method: list(r.values) for r in results.rows if r.metric == "accuracy"}
        place = {"sparsity": sparsity, "rewind": rewind}
        stays, differ = [], {name: [] for name in ("permuted", "naive")}
        for seed in range(seeds):
            moved = results.alignment(method="permuted", seed=seed, **place).permutations.values()
            kept = [int((p.index == torch.arange(len(p.index))).sum()) for p in moved]
            stays.append(sum(kept) / sum(len(p.index) for p in moved))
            chosen = {
                method: results.result(method=method, seed=seed, **place).tensors["logits"].argmax(1)
                for method in ("lth", *differ)
            }
            for method, values in differ.items():
                values.append(100 * float((chosen[method] != chosen["lth"]).float().mean()))
    return {**found, "in place": stays, "differ": differ, "seconds": time.process_time() - begun}


def text(found: PairedDifference) -> str:
    """Return a mean difference with its interval."""
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def table(cases: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Return the table as Markdown: a row a frame, each difference with its 95 % interval.

    Args:
        cases: rows as `measured` makes them, by case and frame; those of a case need the ordinary one.
    """
    lines = [
        "| network | frame | n | dense | dense less ordinary | LTH | naive | LTH - naive | naive - permuted of "
        "ordinary | units in place | naive differs from LTH |",
        "|" + "---|" * 11,
    ]
    for called, row in cases.items():
        case, frame = called.split(", ", 1)
        ordinary = cases.get(f"{case}, {ORDINARY}")
        if ordinary is None:  # not measured yet
            continue
        n = min(len(row["dense"]), len(ordinary["dense"]))
        mean = {method: sum(row[method][:n]) / n for method in METHODS}
        less, gap, against = (
            text(paired_difference(one[:n], other[:n]))
            for one, other in (
                (row["dense"], ordinary["dense"]),
                (row["lth"], row["naive"]),
                (row["naive"], ordinary["permuted"]),
            )
        )
        own = "" if row is ordinary else less
        lines.append(
            f"| {case} | {frame} | {n} | {mean['dense']:.2f} | {own} | {mean['lth']:.2f} | "
            f"{mean['naive']:.2f} | {gap} | {against} | {100 * sum(row['in place'][:n]) / n:.0f} % | "
            f"{sum(row['differ']['naive'][:n]) / n:.1f} % |"
        )
    return lines


def main() -> None:
    """Measure what the file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--frames", nargs="*", default=[ORDINARY, *FRAMES], choices=[ORDINARY, *FRAMES])
    parser.add_argument("--seeds", type=int, default=12)
    add_places(parser, Path("runs/asymmetric"), OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(args.out)
    for name in args.frames:
        kept.row(
            f"{args.case}, {name}",
            lambda name=name: measured(args.case, FRAMES.get(name), args.seeds, args.store),
        )
    show(table(kept.cases), args.page, BEGIN, END)


if __name__ == "__main__":
    main()
