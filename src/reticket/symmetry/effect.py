"""What has no effect: parts of parameters that a proof cannot speak about, because nothing returned depends on them.

The bias of the keys under a softmax is one: it adds the same to all scores of a query. A permutation that forgot it
would pass every draw, so a symmetry says so.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from reticket.symmetry.terms import Layout, Sum, atoms

NOTHING = 1e-12
CONFIRMED = 16


@dataclass(frozen=True)
class Piece:
    """A stretch of one axis of a parameter.

    Args:
        name: the parameter.
        axis: the axis.
        start: first position.
        stop: position behind the last.
        whole: whether this is the whole axis.
    """

    name: str
    axis: int
    start: int
    stop: int
    whole: bool

    def of(self, tensor: Tensor) -> Tensor:
        """Return this stretch of a tensor of the parameter's shape."""
        return tensor.narrow(self.axis, self.start, self.stop - self.start)

    def __str__(self) -> str:
        return self.name if self.whole else f"{self.name}[{':, ' * self.axis}{self.start}:{self.stop}]"


def pieces(name: str, layout: Layout) -> Iterator[Piece]:
    """Yield the parts of a sum on the first axis that moves, or the whole parameter; nothing where nothing moves."""
    for axis, term in enumerate(layout):
        if not any(True for _ in atoms(term)):
            continue
        start = 0
        for part in term.parts if isinstance(term, Sum) else (term,):
            if any(True for _ in atoms(part)):
                yield Piece(name, axis, start, start + part.size, part.size == term.size)
            start += part.size
        return


def suspects(
    parameters: Mapping[str, Tensor], found: Sequence[Piece], run: Callable[[], Sequence[Tensor]]
) -> list[Piece]:
    """Return the pieces to which no number returned has a gradient.

    Args:
        parameters: parameters by name, each once; those that are frozen are given gradients for the time of the run.
        found: pieces of them.
        run: runs the model with gradients and returns its outputs.
    """
    numbers = {name: p for name, p in parameters.items() if p.is_floating_point() or p.is_complex()}
    with _requiring_gradients(numbers.values()):
        return _without_gradient(numbers, [piece for piece in found if piece.name in numbers], run)


@contextmanager
def _requiring_gradients(parameters: Iterable[Tensor]) -> Iterator[None]:
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _largest(values: Tensor) -> float:
    """Return max |x|."""
    if values.is_complex():
        return float(values.abs().max())
    low, high = torch.aminmax(values)
    return max(-float(low), float(high))


def _without_gradient(
    parameters: Mapping[str, Tensor], found: Sequence[Piece], run: Callable[[], Sequence[Tensor]]
) -> list[Piece]:
    found_out = [torch.view_as_real(x) if x.is_complex() else x for x in run()]
    outputs = [x for x in found_out if x.is_floating_point() and x.requires_grad]
    if not outputs:
        return list(found)
    weights = [torch.linspace(1, 2, x.numel(), dtype=x.dtype, device=x.device).view_as(x) for x in outputs]
    total = sum(((x * w).sum() for x, w in zip(outputs, weights, strict=True)), start=outputs[0].new_zeros(()))
    scale = sum(float(x.detach().abs().sum()) for x in outputs) or 1.0
    strength: dict[str, list[float]] = {}
    by_name = {name: [piece for piece in found if piece.name == name] for name in parameters}

    def note(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            gradient = parameter.grad
            assert gradient is not None
            with torch.no_grad():  # in the gradient's own memory, for a parameter may be most of the model
                product = gradient.mul_(parameter) if gradient.is_contiguous() else gradient * parameter
            strength[name] = [_largest(piece.of(product)) for piece in by_name[name]]
            parameter.grad = None

        return hook

    handles = [parameter.register_post_accumulate_grad_hook(note(name)) for name, parameter in parameters.items()]
    try:
        total.backward()
    finally:
        for handle in handles:
            handle.remove()
    return [
        piece
        for name, own in by_name.items()
        for piece, effect in zip(own, strength.get(name, [0.0] * len(own)), strict=True)
        if effect <= NOTHING * scale
    ]
