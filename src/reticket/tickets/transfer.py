"""Carrying a ticket from one network to another: its mask moves with the units, where these have a partner."""

from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from reticket.errors import InputError
from reticket.tickets.mask import Mask
from reticket.tickets.ticket import Ticket
from reticket.weights import Weights, state_of

Carried = TypeVar("Carried", Mask, Ticket)


@runtime_checkable
class Carries(Protocol):
    """What a method needs of an alignment; `symmetry.Alignment` is one."""

    def apply(self, x: Any, /) -> Any:
        """Return `x`, indexed like the weights, with its units moved."""
        ...

    def inverse(self) -> "Carries":
        """Return what undoes it."""
        ...


@runtime_checkable
class LeavesOut(Carries, Protocol):
    """An alignment that may leave units out; `symmetry.Alignment` is one."""

    def left_out_in(self, name: str) -> Tensor | None:
        """Return which entries of a parameter belong to units that are left out; None where none do."""
        ...

    def whole(self) -> Carries:
        """Return the same with no unit left out."""
        ...


def transfer(ticket: Carried, alignment: Carries, weights: Weights | None = None) -> Carried:
    """Return a mask or ticket of A carried to B: `alignment.apply(ticket)`, but for units that are left out.

    Of the connections of a left-out unit the pattern of A says nothing. Among all entries of a tensor that belong to
    such units as many are kept as the moved mask keeps of them, those where B's weights are largest, with B's signs:
    every tensor keeps as many weights as before.

    Args:
        ticket: of A.
        alignment: carries A's units to B's order.
        weights: B's, as they are where its sparse training begins; needed where units are left out.

    Raises:
        InputError: when units are left out and there are no weights, or an argument is of another kind.
        MaskError: when the weights are another model's.

    >>> mask = Mask({"0.weight": torch.tensor([[True, False], [True, False], [False, False]])})
    >>> class LeavesOutTheLast:
    ...     def apply(self, x): return x
    ...     def inverse(self): return self
    ...     def whole(self): return self
    ...     def left_out_in(self, name): return torch.tensor([[False, False], [True, True], [True, True]])
    >>> b = {"0.weight": torch.tensor([[0.1, 0.2], [0.3, 0.4], [-0.9, 0.5]])}
    >>> transfer(mask, LeavesOutTheLast(), b)["0.weight"].tolist()
    [[True, False], [False, False], [True, False]]
    """
    _check_kinds(ticket, alignment, weights)
    moved: Carried = whole(alignment).apply(ticket)
    names = list(moved.tensors())
    touched = {name: alignment.left_out_in(name) for name in names} if isinstance(alignment, LeavesOut) else {}
    chosen = {name: entries for name, entries in touched.items() if entries is not None}
    if not chosen:
        return moved
    if weights is None:
        raise InputError(
            "the alignment leaves units out, and what is kept of their connections is told by B's weights; give them "
            "as weights="
        )
    mask = moved.mask if isinstance(moved, Ticket) else moved
    state, own = state_of(weights, "weights"), mask.names_among(weights)
    tensors = {
        name: _largest_instead(one, chosen[name], state[own[name]]) if name in chosen else one
        for name, one in moved.tensors().items()
    }
    return moved.with_tensors(tensors)  # pyright: ignore[reportReturnType]


def whole(alignment: Carries) -> Carries:
    """Return an alignment with no unit left out.

    Args:
        alignment: that may leave units out.
    """
    return alignment.whole() if isinstance(alignment, LeavesOut) else alignment


def _check_kinds(ticket: object, alignment: object, weights: Any) -> None:
    """Refuse arguments of another kind, such as those of another order."""
    if not isinstance(ticket, Mask | Ticket):
        raise InputError(f"transfer carries a Mask or a Ticket, got {type(ticket).__name__}; give that first")
    if not isinstance(alignment, Carries):
        raise InputError(f"transfer needs an Alignment to carry by, got {type(alignment).__name__}; give that second")
    if weights is not None:
        state_of(weights, "weights")  # refuses any other kind


def _largest_instead(kept: Tensor, entries: Tensor, weight: Tensor) -> Tensor:
    """Return what is kept with the largest weights among some entries in the place of those that were, as many."""
    values = weight.detach().cpu()[entries]
    count = int((kept[entries] != 0).sum())
    largest = torch.zeros(len(values), dtype=torch.bool, device="cpu")
    largest[values.abs().argsort(descending=True, stable=True)[:count]] = True
    new = kept.clone()
    new[entries] = largest if kept.dtype == torch.bool else torch.where(values < 0, -1, 1).to(kept.dtype) * largest
    return new
