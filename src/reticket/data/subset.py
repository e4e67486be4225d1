"""Choosing inputs by class, decided by a seed alone."""

import torch
from jaxtyping import Int64
from torch import Tensor

from reticket.errors import DataError
from reticket.rng import generator_for


def balanced_indices(labels: Int64[Tensor, " n"], size: int, *labels_of_seed: str | int) -> Int64[Tensor, " size"]:
    """Return `size` indices in ascending order with as equal a number of each class as `size` allows.

    When `size` is no multiple of the number of classes, the classes that get one more are drawn too.

    Args:
        labels: the class of every input.
        size: how many to choose, at least 1.
        labels_of_seed: what the choice is for; they decide it (`generator_for`).

    Raises:
        DataError: when `size` is not positive or a class has too few inputs.

    >>> balanced_indices(torch.tensor([0, 0, 0, 1, 1, 1]), 4, "example").tolist()
    [1, 2, 4, 5]
    """
    generator = generator_for(*labels_of_seed)
    counts = torch.bincount(labels)
    classes = torch.nonzero(counts).flatten()
    wanted = torch.full((len(classes),), size // len(classes), device="cpu")
    wanted[torch.randperm(len(classes), generator=generator, device="cpu")[: size % len(classes)]] += 1
    if size < 1 or bool((wanted > counts[classes]).any()):
        rarest = int(counts[classes].min())
        raise DataError(
            f"a class-balanced choice of {size} inputs from {len(labels)} is not possible: the rarest of "
            f"{len(classes)} classes has {rarest}; choose from 1 to {rarest * len(classes)}"
        )
    chosen = []
    for label, count in zip(classes.tolist(), wanted.tolist(), strict=True):
        members = torch.nonzero(labels == label).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator, device="cpu")[:count]])
    return torch.cat(chosen).sort().values


def drawn_indices(n: int, count: int | None, *labels_of_seed: str | int) -> Int64[Tensor, " k"] | None:
    """Return `count` of `n` indices in random order, none twice; None, which stands for all in order, without a count.

    Files may lie sorted by class: the first so many would be one class only.

    Args:
        n: how many there are.
        count: how many to draw; all of them, in random order, where it is above `n`.
        labels_of_seed: what the draw is for; they decide it (`generator_for`).

    >>> drawn_indices(1000, 3, "example").tolist()
    [558, 612, 262]
    """
    return None if count is None else torch.randperm(n, generator=generator_for(*labels_of_seed), device="cpu")[:count]
