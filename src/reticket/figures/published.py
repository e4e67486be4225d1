"""The numbers of the paper that this package reproduces, as data: arXiv 2505.05143, ICML 2025.

`published.json` holds its figures; this module looks them up. Means are over `n` runs; what the source does not state
is None and never guessed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

Number = float | int


@dataclass(frozen=True)
class Accuracy:
    """One published cell of test accuracy.

    Args:
        dataset: as `reticket list datasets` names it, "cifar10".
        model: as `reticket list models` names it, "resnet20".
        width: factor on the channels.
        sparsity: nominal fraction pruned; shortcuts are spared, so the true one is lower.
        rewind_epoch: the epoch from which the sparse network is trained; their 0 is the end of the first epoch.
        method: "lth", "naive" or "permuted".
        match_epoch: the epoch of B at which the units were matched; None is the end of its training.
        mean: percent.
        sd: standard deviation in points, None where none is published.
        n: runs, None where the source does not say.
    """

    dataset: str
    model: str
    width: Number
    sparsity: Number
    rewind_epoch: int
    method: str
    match_epoch: int | None
    mean: Number
    sd: Number | None
    n: int | None


@dataclass(frozen=True)
class PublishedEnsemble:
    """Published diversity of an ensemble; accuracies in percent, disagreement a fraction, KL and JS in nats."""

    dataset: str
    model: str
    width: Number
    sparsity: Number
    members: int
    method: str
    protocol: str
    mean_accuracy: Number
    ensemble_accuracy: Number
    disagreement: Number
    kl: Number
    js: Number


@dataclass(frozen=True)
class Share:
    """Published share (percent) of the LTH - naive gap that "permuted" closes, and what it leaves (points).

    Both are means over the sparsities and the rewind points from epoch 10 on.
    """

    dataset: str
    model: str
    width: Number
    share: Number
    left: Number


@dataclass(frozen=True)
class Collapse:
    """Published accuracy barrier (points) between dense A and IMP A, after the first and the last round."""

    pair: str
    repair: bool
    first: Number
    last: Number


@cache
def _data() -> Mapping[str, Any]:
    return json.loads((resources.files("reticket.figures") / "published.json").read_text("utf-8"))


def source() -> str:
    """Return where the numbers come from.

    >>> source()
    'arXiv 2505.05143 (ICML 2025)'
    """
    known = _data()["source"]
    return f"arXiv {known['arxiv']} ({known['venue']})"


@cache
def accuracies() -> tuple[Accuracy, ...]:
    """Return every published cell: those of the tables, then those of early matching."""
    spread = {
        (row["dataset"], row["model"], row["width"], row["sparsity"], row["rewind_epoch"], method): row[method]
        for row in _data()["sd"]
        for method in ("lth", "naive", "permuted")
    }
    return tuple(_tables(spread)) + tuple(_early())


def _tables(spread: Mapping[tuple[Any, ...], float]) -> Iterator[Accuracy]:
    for row in _data()["accuracy"]:
        place = (row["dataset"], row["model"], row["width"], row["sparsity"])
        for method in ("lth", "naive", "permuted"):
            for epoch, mean in zip(row["rewind_epochs"], row.get(method, ()), strict=method in row):
                sd = spread.get((*place, epoch, method))
                yield Accuracy(*place, epoch, method, None, mean, sd, row["n"])


def _early() -> Iterator[Accuracy]:
    for row in _data()["early_matching"]:
        last = next(
            s["epochs"] for s in _data()["settings"] if (s["dataset"], s["model"]) == (row["dataset"], row["model"])
        )
        for epoch, mean in zip(row["match_epochs"], row["permuted"], strict=True):
            if epoch < last:  # the end is the table's own cell
                place = (row["dataset"], row["model"], row["width"], row["sparsity"], row["rewind_epoch"])
                yield Accuracy(*place, "permuted", epoch, mean, None, row["n"])


def find_accuracies(
    dataset: str | None = None,
    model: str | None = None,
    width: Number | None = None,
    sparsity: Number | None = None,
    rewind_epoch: int | None = None,
    method: str | None = None,
    match: int | Literal["end"] | None = None,
) -> tuple[Accuracy, ...]:
    """Return the published cells with these values; None matches every value.

    Args:
        dataset: name of the data set.
        model: name of the model.
        width: factor on the channels.
        sparsity: nominal fraction pruned; equal to 1e-6.
        rewind_epoch: epoch.
        method: "lth", "naive" or "permuted".
        match: epoch of B at which the units were matched, or "end".

    >>> [(cell.mean, cell.sd) for cell in find_accuracies("cifar10", "resnet20", 1, 0.9, 20, match="end")]
    [(91.18, 0.27), (88.83, 0.27), (89.5, 0.27)]
    """
    wanted = {"dataset": dataset, "model": model, "width": width, "rewind_epoch": rewind_epoch, "method": method}
    return tuple(
        cell
        for cell in accuracies()
        if all(value is None or getattr(cell, name) == value for name, value in wanted.items())
        and (sparsity is None or abs(cell.sparsity - sparsity) < 1e-6)
        and (match is None or (cell.match_epoch or "end") == match)
    )


@cache
def ensembles() -> tuple[PublishedEnsemble, ...]:
    """Return the published diversity."""
    return tuple(PublishedEnsemble(**row) for row in _data()["diversity"])


def divergence_words() -> str:
    """Return why KL and JS of the paper do not stand beside those of this package as accuracies do.

    By the definitions of `analysis.diversity`, KL(p|q) + KL(q|p) is a sum of (p - q) log(p / q), which is at least four
    times what KL(p|m) + KL(q|m) is: their second derivatives in p / q = u are as (1 + u)^2 / u >= 4, the least where p
    and q are nearly the same.
    """
    ratios = [one.kl / one.js for one in ensembles()]
    return (
        f"Of the paper's KL and JS the definition is unknown: its ratios KL / JS of {min(ratios):.1f} to "
        f"{max(ratios):.1f} lie below 4, the infimum of KL as the mean of both directions over JS as half the sum of "
        "both divergences from the mean, which are the definitions here. So the two cannot be compared."
    )


@cache
def shares() -> tuple[Share, ...]:
    """Return the published share of the gap closed, one for each data set, model and width."""
    return tuple(Share(**row) for row in _data()["share_closed"])


@cache
def collapses() -> tuple[Collapse, ...]:
    """Return the published barriers between dense A and IMP A, without and with REPAIR."""
    return tuple(Collapse(**row) for row in _data()["barriers"])


def true_sparsity(dataset: str, model: str, width: Number, sparsity: Number) -> float | None:
    """Return the fraction of all prunable and spared weights that is pruned at a nominal sparsity, where it is known.

    >>> true_sparsity("cifar10", "resnet20", 1, 0.9)
    0.829
    """
    place = {"dataset": dataset, "model": model, "width": width}
    for row in _data()["true_sparsity"]:
        if all(row[name] == value for name, value in place.items()) and abs(row["sparsity"] - sparsity) < 1e-6:
            return row["true_sparsity"]
    return None


def settings(dataset: str, model: str) -> Mapping[str, Any] | None:
    """Return how the paper trained a network, or None where the source does not say.

    >>> settings("imagenet", "resnet50")["epochs"], settings("svhn", "resnet20")
    (80, None)
    """
    for row in _data()["settings"]:
        if (row["dataset"], row["model"]) == (dataset, model):
            return {name: value for name, value in row.items() if name not in ("dataset", "model")}
    return None
