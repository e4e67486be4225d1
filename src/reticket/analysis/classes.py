"""Accuracy class by class: whether pruning hurts some classes more than others (Hooker et al. 2020)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from reticket.errors import InputError


def check_logits(logits: Float[Tensor, "*members n classes"], labels: Int64[Tensor, " n"]) -> None:
    """Raise unless the logits are finite and every label is one of their classes.

    Raises:
        InputError: saying what was seen.
    """
    if labels.numel() == 0:
        raise InputError("an accuracy needs at least one example, got none")
    if not torch.isfinite(logits).all():
        raise InputError("the logits hold NaN or infinity; leave out the run that failed")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[-1]:
        raise InputError(f"labels reach from {low} to {high}, but the logits have {logits.shape[-1]} classes")


def per_class_accuracy(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> tuple[float | None, ...]:
    """Return the accuracy on the examples of each class.

    Args:
        logits: one row an example.
        labels: true classes.

    Returns:
        For each class its accuracy in percent, or None when it has no example.

    Raises:
        InputError: when logits are not finite or a label is no class.

    >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    >>> per_class_accuracy(logits, torch.tensor([0, 1, 1]))
    (100.0, 50.0, None)
    """
    check_logits(logits, labels)
    classes = logits.shape[-1]
    correct = logits.argmax(-1) == labels
    seen = torch.bincount(labels, minlength=classes).tolist()
    right = torch.bincount(labels[correct], minlength=classes).tolist()
    return tuple(100 * r / n if n else None for r, n in zip(right, seen, strict=True))


def per_class_change(dense: tuple[float | None, ...], sparse: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Return sparse - dense for each class, in points; None where a class has no example.

    Args:
        dense: accuracy of each class in percent, None where the test part has none of it.
        sparse: the same of the other network.

    Raises:
        InputError: when the two have different numbers of classes.
    """
    if len(dense) != len(sparse):
        raise InputError(f"cannot compare {len(dense)} classes with {len(sparse)}")
    return tuple(None if d is None or s is None else s - d for d, s in zip(dense, sparse, strict=True))
