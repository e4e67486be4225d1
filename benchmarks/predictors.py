"""`python -m benchmarks.predictors RUN... --store STORE`: which quality of a matching predicts its ticket.

The runs are of one experiment with different matchers (see `results/digits-matchers.json` for those that were made).
Of every pair of networks and matcher: mean correlation and margin of matched units, the share of units that keep their
partner on half of the data, the share of kept weights at which trained A and B have the same sign, and at which A has
the sign that B begins with, the loss barrier with REPAIR, and how much of the moved mask the largest weights of trained
B share. Spearman's correlation of each with the accuracy of the permuted ticket is taken over pairs within a matcher,
and over matchers within a pair; intervals are Student's, over pairs, of the jackknife's pseudo-values.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import reticket as rt
from benchmarks.kept import Kept, Row
from reticket.analysis import mean_interval, overlap
from reticket.data import load_dataset
from reticket.experiment import FolderStore, Result
from reticket.tasks.inputs import checkpoints_in, required_mask, symmetry_in, thawed
from reticket.tasks.matchers import given_to_matcher
from reticket.tasks.tensors import WEIGHTS, alignment_in, stripped

RESULTS = Path(__file__).parent / "results"
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "matching-predictors.svg"
BATCH, HALVES = 128, 2
QUALITIES = {
    "correlation": "matched correlation",
    "margin": "margin",
    "stability": "units that keep their partner",
    "signs": "signs of trained A and B alike",
    "signs at rewind": "signs of A and of B's start alike",
    "barrier": "loss barrier with REPAIR",
    "overlap": "overlap with B's largest weights",
}


class Stored:
    """The networks of a run, and the data they were trained on.

    Args:
        run: folder of the run, which has one cell of permuted tickets.
        store: where its results are.
    """

    def __init__(self, run: Path, store: Path) -> None:
        self.store, self.run = FolderStore(store), rt.Results.load(run, store=store)
        (self.cell,) = [row for row in self.run.rows if (row.method, row.metric) == ("permuted", "accuracy")]
        self.data = load_dataset(self.run.experiment.data["name"])
        self.images = self.data.normalise(self.data.train_x)
        self.test = [(self.data.normalise(self.data.test_x), self.data.test_y)]

    def row(self, seed: int) -> Row:
        """Return the qualities of the matching of one pair, and the accuracy of its ticket in percent."""
        ticket = self.run.result(method="permuted", sparsity=self.cell.sparsity, seed=seed)
        matching = self.store.get(ticket.provenance["task"]["inputs"]["alignment"])
        inputs = self._inputs(matching)
        alignment = alignment_in(matching, symmetry_in(inputs))
        (a,), (b,) = ([self._network(matching, one) for one in checkpoints_in(inputs, side)] for side in "ab")
        of_ticket = self._inputs(ticket)
        mask, start = required_mask(of_ticket["ticket"]), stripped(of_ticket["rewound_b"].tensors, WEIGHTS)
        spec = matching.provenance["task"]["spec"]
        given = given_to_matcher(spec, inputs, "cpu")
        found = rt.assess(
            alignment, a, b, self.images.split(BATCH), spec["method"], resamples=HALVES, mask=mask, **given
        )
        return {
            "accuracy": ticket.values["accuracy"],
            "correlation": _mean([one.correlation for one in found.groups]),
            "margin": _mean([one.margin for one in found.groups]),
            "stability": 1 - found.changed,
            "signs": _alike(alignment, mask, a.state_dict(), b.state_dict()),
            "signs at rewind": _alike(alignment, mask, a.state_dict(), start),
            "barrier": self._barrier(alignment, a, b),
            "overlap": overlap(alignment.apply(mask), rt.prune_magnitude(b, density=mask.density)).total.share,
        }

    def _inputs(self, result: Result) -> dict[str, Result]:
        return {name: self.store.get(key) for name, key in result.provenance["task"]["inputs"].items()}

    def _network(self, matching: Result, result: Result) -> nn.Module:
        model = matching.provenance["task"]["spec"]["model"]
        built = rt.build_model(model["name"], **thawed(model["params"]))
        rt.load_into(built, stripped(result.tensors, WEIGHTS))
        return built.eval()

    def _barrier(self, alignment: rt.Alignment, a: nn.Module, b: nn.Module) -> float:
        ends = alignment.apply(a.state_dict()), b.state_dict()
        curve = rt.barrier(a, *ends, self.test, (0.0, 0.5, 1.0), repair=True, repair_batches=[self.images])
        return curve.loss_barrier


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def _alike(
    alignment: rt.Alignment, mask: Mapping[str, Tensor], of_a: Mapping[str, Tensor], of_b: Mapping[str, Tensor]
) -> float:
    """Return the share of all kept weights at which A, carried to B's order, has B's sign."""
    kept = {name: alignment.tensor(name, one) for name, one in mask.items()}
    alike = [(alignment.tensor(name, of_a[name]).sign() == of_b[name].sign())[there] for name, there in kept.items()]
    return float(torch.cat(alike).double().mean())


def within_matchers(values: np.ndarray, accuracy: np.ndarray) -> float:
    """Return Spearman's correlation over pairs, a mean over matchers; of arrays with a row for each matcher."""
    return _rank_correlation(values, accuracy)


def within_pairs(values: np.ndarray, accuracy: np.ndarray) -> float:
    """Return Spearman's correlation over matchers, a mean over pairs."""
    return _rank_correlation(values.T, accuracy.T)


def _rank_correlation(values: np.ndarray, accuracy: np.ndarray) -> float:
    """Return the mean over rows."""
    each = [_spearman(v, a) for v, a in zip(values, accuracy, strict=True)]
    return sum(each) / len(each)


def _spearman(values: np.ndarray, accuracy: np.ndarray) -> float:
    """Return the rank correlation; 0 where one of the two is constant, so that there is nothing to order."""
    if np.ptp(values) == 0 or np.ptp(accuracy) == 0:
        return 0.0
    return float(spearmanr(values, accuracy).statistic)  # pyright: ignore[reportAttributeAccessIssue] (no stubs of it)


def jackknifed(
    statistic: Callable[[np.ndarray, np.ndarray], float], values: np.ndarray, accuracy: np.ndarray
) -> dict[str, Any]:
    """Return a statistic with the Student interval of its pseudo-values over pairs, which are the columns.

    Args:
        statistic: of values and accuracy.
        values, accuracy: a row for each matcher.
    """
    whole, count = statistic(values, accuracy), values.shape[1]
    without = [statistic(np.delete(values, i, 1), np.delete(accuracy, i, 1)) for i in range(count)]
    low, high = mean_interval([count * whole - (count - 1) * one for one in without])
    return {"mean": whole, "low": low, "high": high, "n": count}


def answers(rows: Mapping[str, Row], runs: Sequence[str], seeds: int) -> dict[str, Any]:
    """Return by quality how well it predicts, over pairs within a matcher and over matchers within a pair."""

    def grid(field: str) -> np.ndarray:
        return np.array([[rows[f"{run}, pair {seed}"][field] for seed in range(seeds)] for run in runs])

    accuracy = grid("accuracy")
    return {
        quality: {
            "over pairs": jackknifed(within_matchers, grid(quality), accuracy),
            "over matchers": jackknifed(within_pairs, grid(quality), accuracy),
        }
        for quality in QUALITIES
    }


def draw(found: Mapping[str, Any], image: Path) -> None:
    """Draw the rank correlations with their intervals."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8.6, 2.8), sharey=True, layout="constrained")
    names = [QUALITIES[quality] for quality in found]
    for panel, which in zip(panels, ("over pairs", "over matchers"), strict=True):
        rows = [row[which] for row in found.values()]
        left, right = ([abs(row[end] - row["mean"]) for row in rows] for end in ("low", "high"))
        panel.errorbar(
            [row["mean"] for row in rows],
            range(len(names)),
            xerr=np.array([left, right]),
            fmt="D",
            color="#c0440e",
            ms=4,
        )
        panel.axvline(0, color="#888", linewidth=0.8)
        panel.set_xlim(-1, 1)
        panel.set_xlabel(f"rank correlation with accuracy, {which}", fontsize=8)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].invert_yaxis()
    figure.savefig(image, metadata={"Date": None})


def main() -> None:
    """Measure what the file does not have, then answer and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predictors", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs that differ in the matcher alone")
    parser.add_argument("--store", type=Path, required=True, help="where their results are")
    parser.add_argument("--out", type=Path, default=RESULTS / "predictors.json")
    parser.add_argument("--image", type=Path, default=IMAGE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(arguments.out)
    counts = []
    for folder in arguments.runs:
        stored = Stored(folder, arguments.store)
        counts.append(stored.cell.n)
        for seed in range(counts[-1]):
            kept.row(f"{folder.name}, pair {seed}", lambda stored=stored, seed=seed: stored.row(seed))
    found = answers(kept.cases, [folder.name for folder in arguments.runs], min(counts))
    kept.write(answers=found)
    for quality, row in found.items():
        print(
            f"{quality:16}",
            {which: [round(one[key], 2) for key in ("mean", "low", "high")] for which, one in row.items()},
        )
    draw(found, arguments.image)


if __name__ == "__main__":
    main()
