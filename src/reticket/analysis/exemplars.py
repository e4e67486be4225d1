"""Pruning-identified exemplars: examples that pruning makes a population of networks see differently (Hooker et al.).

Hooker et al. 2019, "What Do Compressed Deep Neural Networks Forget?": an example is an exemplar when the modal
prediction over dense networks differs from the modal prediction over sparse ones. Deviation: where a mode is tied the
example is undecided and no exemplar, instead of being settled by the order of the classes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from reticket.errors import InputError


@dataclass(frozen=True)
class Modes:
    """The modal prediction over a population of networks.

    Args:
        mode: the most predicted class of each example; the lowest of them where several are.
        votes: how many networks predict it.
        margin: votes less those of the next class; 0 is a tie.
        networks: size of the population.
    """

    mode: Int64[Tensor, " n"]
    votes: Int64[Tensor, " n"]
    margin: Int64[Tensor, " n"]
    networks: int


def modal_prediction(predictions: Int64[Tensor, "networks n"], classes: int) -> Modes:
    """Return the class that most networks predict, for each example.

    Args:
        predictions: of each network for each example, in 0 .. classes - 1.
        classes: number of classes.

    Raises:
        InputError: when there is no network or a prediction is no class.

    >>> modal_prediction(torch.tensor([[0, 1], [0, 2], [1, 0]]), 3)
    Modes(mode=tensor([0, 0]), votes=tensor([2, 1]), margin=tensor([1, 0]), networks=3)
    """
    if predictions.numel() == 0:
        raise InputError("a modal prediction needs at least one network and one example, got none")
    low, high = int(predictions.min()), int(predictions.max())
    if low < 0 or high >= classes:
        raise InputError(f"predictions reach from {low} to {high}, but there are {classes} classes")
    counts = torch.zeros(classes, predictions.shape[1], dtype=torch.int64, device="cpu")
    counts.scatter_add_(0, predictions, torch.ones_like(predictions))
    votes, mode = counts.max(0)
    counts.scatter_(0, mode[None], -1)
    return Modes(mode, votes, votes - counts.amax(0).clamp(min=0), len(predictions))


@dataclass(frozen=True)
class Exemplars:
    """Which examples are exemplars, and how sure that is.

    Args:
        found: True for each exemplar.
        undecided: True where either mode is tied.
        stable: True for exemplars that stay so whichever single network of either population is left out.
        dense: modes over the dense networks.
        sparse: modes over the sparse networks.
    """

    found: Bool[Tensor, " n"]
    undecided: Bool[Tensor, " n"]
    stable: Bool[Tensor, " n"]
    dense: Modes
    sparse: Modes


def exemplars(
    dense: Int64[Tensor, "dense_networks n"], sparse: Int64[Tensor, "sparse_networks n"], classes: int
) -> Exemplars:
    """Return the pruning-identified exemplars: mode over dense networks != mode over sparse networks.

    Leaving one network out takes at most one vote from the mode, so a mode stays what it is without any one of its
    networks exactly when its margin is at least 2.

    Args:
        dense: predictions of each dense network for each example.
        sparse: predictions of each sparse network, same examples.
        classes: number of classes.

    Raises:
        InputError: when a population is empty or a prediction is no class.

    >>> dense, sparse = torch.tensor([[0, 1], [0, 1], [0, 2]]), torch.tensor([[1, 1], [1, 1], [1, 1]])
    >>> found = exemplars(dense, sparse, 3)
    >>> found.found.tolist(), found.stable.tolist()
    ([True, False], [True, False])
    """
    before, after = modal_prediction(dense, classes), modal_prediction(sparse, classes)
    undecided = (before.margin == 0) | (after.margin == 0)
    found = (before.mode != after.mode) & ~undecided
    return Exemplars(found, undecided, found & (before.margin >= 2) & (after.margin >= 2), before, after)


def accuracy_on(
    predictions: Int64[Tensor, "networks n"], labels: Int64[Tensor, " n"], where: Bool[Tensor, " n"]
) -> tuple[float, ...]:
    """Return each network's accuracy (percent) on the examples of `where`; nothing when there are none.

    Args:
        predictions: class that each network gives each example.
        labels: their classes.
        where: the examples that count.

    >>> accuracy_on(torch.tensor([[0, 1], [1, 1]]), torch.tensor([0, 1]), torch.tensor([True, False]))
    (100.0, 0.0)
    """
    if not bool(where.any()):
        return ()
    right = (predictions == labels)[:, where].double().mean(1)
    return tuple((100 * right).tolist())
