"""The published numbers: counts, spot values, and that the tables give the summary that is published beside them."""

from statistics import fmean
from typing import Any

import pytest

from reticket.figures import published
from reticket.figures.published import find_accuracies


def test_counts_of_cells() -> None:
    rows = {(c.dataset, c.model, c.width, c.sparsity, c.rewind_epoch) for c in published.accuracies() if c.n}
    assert len(rows) == 215
    assert len([cell for cell in published.accuracies() if cell.n]) == 3 * 215
    assert len(find_accuracies("svhn")) == 8
    assert len([cell for cell in published.accuracies() if cell.match_epoch]) == 4
    assert len([cell for cell in published.accuracies() if cell.sd]) == 12
    assert len(published.accuracies()) == 3 * 215 + 8 + 4
    assert (len(published.ensembles()), len(published.shares())) == (4, 10)


@pytest.mark.parametrize(
    ("place", "mean", "sd", "n"),
    [
        (("cifar10", "resnet20", 1, 0.8, 20, "lth", "end"), 92.25, 0.14, 3),
        (("cifar10", "resnet20", 1, 0.95, 20, "permuted", "end"), 88.29, 0.52, 3),
        (("cifar10", "resnet20", 1, 0.9, 0, "naive", "end"), 88.47, None, 3),
        (("cifar10", "resnet20", 1, 0.97, 100, "permuted", "end"), 85.95, None, 3),
        (("cifar10", "resnet20", 1, 0.9, 20, "permuted", 5), 89.16, None, None),
        (("cifar10", "resnet20", 1, 0.9, 20, "permuted", 100), 89.31, None, None),
        (("svhn", "resnet20", 1, 0.97, 20, "permuted", "end"), 92.61, None, None),
        (("imagenet", "resnet50", 1, 0.95, 25, "permuted", "end"), 62.77, None, 1),
        (("cifar10", "vgg11", 1, 0.9, 50, "permuted", "end"), 91.01, None, 3),
    ],
)
def test_spot_values(place: tuple[Any, ...], mean: float, sd: float | None, n: int | None) -> None:
    (cell,) = find_accuracies(*place)
    assert (cell.mean, cell.sd, cell.n) == (mean, sd, n)


def test_no_cell_is_published_twice() -> None:
    places = [
        (c.dataset, c.model, c.width, c.sparsity, c.rewind_epoch, c.method, c.match_epoch)
        for c in published.accuracies()
    ]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("share", published.shares(), ids=lambda share: f"{share.dataset}-{share.model}x{share.width}")
def test_the_tables_give_the_published_share_of_the_gap(share: published.Share) -> None:
    """The shares are published on their own: a slip in a table would show here."""
    place = (share.dataset, share.model, share.width, None, None)
    lth, naive, permuted = (
        [cell.mean for cell in find_accuracies(*place, method, "end") if cell.rewind_epoch >= 10]
        for method in ("lth", "naive", "permuted")
    )
    closed = [100 * (p - b) / (a - b) for a, b, p in zip(lth, naive, permuted, strict=True)]
    assert fmean(closed) == pytest.approx(share.share, abs=0.51)
    assert fmean(a - p for a, p in zip(lth, permuted, strict=True)) == pytest.approx(share.left, abs=0.0051)


def test_what_is_not_published_is_not_found() -> None:
    assert find_accuracies("cifar10", "resnet20", 2) == ()
    assert find_accuracies("svhn", method="lth") == ()
    assert published.settings("digits", "mlp") is None
    assert published.true_sparsity("cifar10", "resnet20", 4, 0.9) is None


def test_settings_and_what_stands_beside_the_tables() -> None:
    found = published.settings("cifar10", "resnet20")
    assert found is not None
    assert (found["epochs"], found["batch_size"], found["lr"], found["sparse_lr"], found["round_lr"]) == (
        200, 128, 0.08, 0.02, 0.01,
    )  # fmt: skip
    lth = next(one for one in published.ensembles() if one.method == "lth")
    assert (lth.mean_accuracy, lth.ensemble_accuracy, lth.disagreement, lth.kl, lth.js) == (
        91.15, 91.43, 0.035, 0.038, 0.011,
    )  # fmt: skip
    assert [(one.repair, one.first, one.last) for one in published.collapses()] == [
        (False, 7.5, 30.0),
        (True, 7.5, 7.2),
    ]
