"""`python -m benchmarks.soups`: what the mean of several runs of one ticket is worth, beside one run as long as all.

For each pair of a preset and each method that keeps A's mask: accuracies in percent of the members (mean), of their
soup in the ticket's frame as it is and after REPAIR, of their ensemble, and of **one** run of the pair's own network
from the same start whose sparse training has as many epochs as that of all members together, its schedule stretched
over them; members of other methods than LTH have a start each besides, which that run saves. Members are the first
networks of the preset, so that tickets of different pairs are carried to the same ones. A row that the file has is not
measured again.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.asymmetric import text
from benchmarks.kept import Kept, add_places
from benchmarks.marks import show
from benchmarks.sparse_runs import TABLE_ALONE, SparseRuns, whole
from reticket.analysis import paired_difference
from reticket.tasks.checks.soups import Soup
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.running import run_experiment
from reticket.tickets import Ticket

BEGIN, END = "<!-- soups: written by python -m benchmarks.soups -->", "<!-- end of soups -->"
OUT = Path(__file__).parent / "results" / "soups.json"
FIELDS = {
    "members": "mean_accuracy",
    "soup": "soup_accuracy",
    "with REPAIR": "repaired_accuracy",
    "ensemble": "ensemble_accuracy",
}


@dataclass(frozen=True)
class Case:
    """Tickets of which soups are made.

    Args:
        preset: whose.
        sparsity: of its masks.
        rewind: where sparse training begins.
        members: of each soup.
        methods: whose runs are averaged.
    """

    preset: str
    sparsity: float
    rewind: str
    members: int
    methods: tuple[str, ...]

    @property
    def place(self) -> dict[str, Any]:
        """Where in the table its runs stand."""
        return {"sparsity": self.sparsity, "rewind": self.rewind}


CASES = {
    "digits": Case("digits", 0.98, "5ep", 5, ("lth", "permuted", "signed", "naive")),
    "fashion-conv": Case("ticketbench-fashion-conv-methods", 0.9, "2ep", 3, ("lth", "permuted", "signed")),
}


class Measuring:
    """The soups of a case, and the single runs beside them.

    Args:
        case: which.
        seeds: pairs, each of which gives a ticket.
        store: of results, so that a longer run goes on from a shorter one.
    """

    def __init__(self, case: Case, seeds: int, store: Path) -> None:
        self.case = case
        settings = [f"grid.seeds={seeds}", f"grid.sparsities=[{case.sparsity}]", f'grid.rewinds=["{case.rewind}"]']
        settings += [f"grid.methods={['imp', *case.methods]}", *TABLE_ALONE]
        settings += [f"checks.soup_members={case.members}", f"checks.soup_tickets={seeds}"]
        name, config = load_config(case.preset, settings)
        with tempfile.TemporaryDirectory() as folder:
            whole(run_experiment(config, Path(folder), preset=name, store=store))
            self.results = Results.load(Path(folder), store=store)
        self.runs = SparseRuns(config)

    def row(self, seed: int) -> dict[str, Any]:
        """Return the accuracies of one ticket by method."""
        begun, found = time.process_time(), {}
        for soup in self.results.of(Soup):
            values = {name: getattr(soup, field).values[seed] for name, field in FIELDS.items()}
            found[soup.method] = {**values, "one run": self.single(soup.method, seed)}
        return {**found, "seconds": time.process_time() - begun}

    def single(self, method: str, seed: int) -> float:
        """Return the accuracy of one run of a pair that trains as long as all members of a soup."""
        results, place = self.results, {**self.case.place, "seed": seed}
        role = "A" if method == "lth" else "B"
        mask, weights = results.mask(method=method, **place), self.runs.rewound(role, seed).state_dict()
        if method == "signed":
            pruned = results.weights(method="imp", seed=seed, sparsity=self.case.sparsity)
            carried = results.alignment(method=method, **place).apply(pruned)
            weights = Ticket.of(carried, mask).write_signs(weights)
        return self.runs.accuracy(weights, mask, role, seed, times=self.case.members)


def table(rows_of: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Return the rows as a Markdown table, with paired differences and their 95 % intervals.

    Args:
        rows_of: rows as `Measuring.row` makes them, by case and seed.
    """
    columns = (*FIELDS, "one run")
    lines = [
        f"| network | method | members of one soup | n | {' | '.join(columns)} | with REPAIR - members | "
        "one run - with REPAIR |",
        "|" + "---|" * (4 + len(columns) + 2),
    ]
    for called, case in CASES.items():
        rows = [row for name, row in rows_of.items() if name.startswith(f"{called}, ")]
        for method in case.methods if len(rows) > 1 else ():
            by = {name: [row[method][name] for row in rows] for name in columns}
            means = [f"{sum(values) / len(values):.2f}" for values in by.values()]
            pairs = [("with REPAIR", "members"), ("one run", "with REPAIR")]
            differences = [text(paired_difference(by[one], by[other])) for one, other in pairs]
            lines.append(
                f"| {called} | {method} | {case.members} | {len(rows)} | {' | '.join([*means, *differences])} |"
            )
    return lines


def main() -> None:
    """Measure what the file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", default="digits", choices=CASES)
    parser.add_argument("--seeds", type=int, default=12)
    add_places(parser, Path("runs/soups"), OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept, measuring = Kept(args.out), cache(lambda: Measuring(CASES[args.case], args.seeds, args.store))
    for seed in range(args.seeds):
        kept.row(f"{args.case}, seed {seed}", lambda seed=seed: measuring().row(seed))
    show(table(kept.cases), args.page, BEGIN, END)


if __name__ == "__main__":
    main()
