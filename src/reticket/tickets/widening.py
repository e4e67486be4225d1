"""Carrying a ticket to a wider network of the same architecture, at the same density of every tensor."""

from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from reticket.errors import InputError, MaskError
from reticket.tickets.mask import Mask
from reticket.tickets.ticket import Ticket
from reticket.weights import Weights, state_of

Carried = TypeVar("Carried", Mask, Ticket)


@runtime_checkable
class Widens(Protocol):
    """What says which unit each unit of a wide network stands for; `symmetry.Widening` is one."""

    def apply(self, x: Any, /) -> Any:
        """Return `x`, indexed like the narrow network's weights, with its entries repeated."""
        ...


def widen(ticket: Carried, widening: Widens, weights: Weights | None = None) -> Carried:
    """Return a mask or ticket of a narrow network A carried to a wider B, each tensor as dense as it was.

    `m_B[i, j] = m_A[s(i), s'(j)]`, s and s' being the units of A that B's stand for. A kept connection becomes
    r r' of them where its units stand r and r' times: where widths are whole multiples the density of every tensor
    stays exactly what it was. Elsewhere units stand unequally often, and every tensor is brought to
    `round(kept_A / size_A * size_B)` weights, halves upwards: B's smallest kept ones are pruned, or its largest pruned
    ones are kept, with B's signs.

    Args:
        ticket: of A.
        widening: from A to B, as `matching.match_wider` finds it.
        weights: B's, as they are where its sparse training begins; needed where widths are no whole multiples. Where
            they are given, what is carried has to fit them.

    Raises:
        InputError: when counts have to be brought about and there are no weights, or an argument is of another kind.
        MaskError: when the weights are another model's, or of another width than the widening leads to.

    >>> class Twice:
    ...     def apply(self, x): return x.with_tensors({n: t.repeat_interleave(2, 0) for n, t in x.tensors().items()})
    >>> widen(Mask({"weight": torch.tensor([[True, False, False], [False, True, True]])}), Twice())
    Mask(1 tensor, keeps 6 of 12 weights, density 0.5)
    """
    if not isinstance(ticket, Mask | Ticket):
        raise InputError(f"widen carries a Mask or a Ticket, got {type(ticket).__name__}; give that first")
    if not isinstance(widening, Widens):
        raise InputError(f"widen needs a Widening to carry by, got {type(widening).__name__}; give that second")
    moved: Carried = widening.apply(ticket)
    names = {} if weights is None else _names_in(weights, moved)
    before, tensors = ticket.tensors(), dict(moved.tensors())
    counts = {name: _as_dense(before[name], tensor) for name, tensor in tensors.items()}
    odd = [name for name, tensor in tensors.items() if int((tensor != 0).sum()) != counts[name]]
    if not odd:
        return moved
    if weights is None:
        raise InputError(
            f"the units of '{odd[0]}' stand unequally often, and which of its {int((tensors[odd[0]] != 0).sum())} kept "
            f"weights make {counts[odd[0]]} is told by B's weights; give them as weights="
        )
    state = state_of(weights, "weights")
    tensors |= {name: _brought_to(counts[name], tensors[name], state[names[name]]) for name in odd}
    return moved.with_tensors(tensors)  # pyright: ignore[reportReturnType]


def _names_in(weights: Weights, moved: Mask | Ticket) -> dict[str, str]:
    """Return what each weight that was carried is called in B."""
    mask = moved.mask if isinstance(moved, Ticket) else moved
    state = state_of(weights, "weights")
    for name, kept in mask.items():
        if name in state and state[name].shape != kept.shape:
            raise MaskError(
                f"the widening leads to a network whose '{name}' has shape {tuple(kept.shape)}, but in the weights "
                f"given it has {tuple(state[name].shape)}; give those of the wider network that was matched"
            )
    return mask.names_among(weights)


def _as_dense(before: Tensor, after: Tensor) -> int:
    """Return how many weights `after` keeps at the density of `before`, halves upwards."""
    return (2 * int((before != 0).sum()) * after.numel() + before.numel()) // (2 * before.numel())


def _brought_to(count: int, kept: Tensor, weight: Tensor) -> Tensor:
    """Return what is kept with `count` entries: those that are kept before others, larger weights before smaller."""
    values = weight.detach().cpu().flatten()
    chosen, was = torch.zeros(kept.numel(), dtype=torch.bool, device="cpu"), kept.flatten() != 0
    order = values.abs().argsort(descending=True, stable=True)
    order = order[was[order].to(torch.int8).argsort(descending=True, stable=True)]
    chosen[order[:count]] = True
    chosen = chosen.reshape(kept.shape)
    if kept.dtype == torch.bool:
        return chosen
    own = torch.where(values.reshape(kept.shape) < 0, -1, 1).to(kept.dtype)
    return torch.where(kept != 0, kept, own) * chosen
