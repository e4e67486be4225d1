"""The inputs on which a symmetry is proven: the example's own, new ones like them, and ones of other sizes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten

from reticket.dense import dense, is_dense
from reticket.rng import generator_for
from reticket.symmetry.exact import is_number, widened
from reticket.symmetry.graph import Inputs
from reticket.symmetry.terms import Layout, is_keyed

Resize = Mapping[int, int]


@dataclass(frozen=True, eq=False)
class Trial:
    """Inputs to prove on.

    Args:
        values: leaves of the arguments, tensors and others.
        spec: how they make up `(args, kwargs)`.
        seed: seed of the random numbers that the model itself may draw.
    """

    values: tuple[Any, ...]
    spec: TreeSpec
    seed: int

    @classmethod
    def example(cls, inputs: Inputs, wide: torch.dtype) -> "Trial":
        """Return the example's own inputs; all zeros are given some noise."""
        values, spec = tree_flatten((inputs.args, dict(inputs.kwargs)))
        generator = generator_for("verify", "inputs", 0)
        return cls(tuple(_widened(value, wide, generator) for value in values), spec, 0)

    def redrawn(self, seed: int, batch: Resize, others: Resize) -> "Trial":
        """Return new inputs of other sizes: normal numbers of the same scale, integers from the example's own values.

        Args:
            seed: decides the values.
            batch: new size of axis 0 by its old size.
            others: new size of the other axes by their old size.
        """
        generator = generator_for("verify", "inputs", seed)
        values = []
        for value in self.values:
            if isinstance(value, Tensor):
                for axis, size in enumerate(value.shape) if is_dense(value) else ():
                    new = (others if axis else batch).get(size, size)
                    value = (
                        value.index_select(axis, (torch.arange(new, device="cpu") % size).to(value.device))
                        if size
                        else value
                    )
                value = _fresh(value, generator)
            values.append(value)
        return Trial(tuple(values), self.spec, seed)

    @property
    def numbers(self) -> int:
        """How many numbers the tensors hold."""
        return sum(value.numel() for value in self.values if isinstance(value, Tensor))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the tensors."""
        return tuple(tuple(value.shape) for value in self.values if isinstance(value, Tensor))


def _widened(value: Any, wide: torch.dtype, generator: torch.Generator) -> Any:
    if not isinstance(value, Tensor) or not is_number(value):
        return value
    value = value.detach().to(widened(value.dtype, wide))
    return value if bool(dense(value).any()) else value + 0.1 * _normal(value, generator)


def _normal(value: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu").to(
        value.device, value.dtype
    )


def _fresh(value: Tensor, generator: torch.Generator) -> Tensor:
    if not is_dense(value):
        return value
    if value.is_floating_point():
        scale = float(value.std(correction=0)) if value.numel() else 0.0
        return _normal(value, generator) * (scale or 1.0)
    if value.dtype == torch.bool or value.is_complex() or value.numel() < 2:
        return value
    order = torch.randperm(value.numel(), generator=generator, device="cpu").to(value.device)
    return value.flatten()[order].reshape(value.shape)


def resized_trials(example: Trial, layouts: Sequence[Layout], fits: Callable[[Trial], bool]) -> list[Trial]:
    """Return new inputs of smaller sizes and of larger ones, of a longer and a shorter batch, where the model runs.

    Args:
        example: the example's own inputs.
        layouts: layouts of the tensors, or nothing; a size that an axis with atoms or fixed parents has is kept.
        fits: whether the model runs on a trial as it does on the example.
    """
    batches = list(other_batches(example, layouts))
    fewer, more = (batches[0], batches[-1]) if batches else ({}, {})
    found: list[Trial] = []
    small, used, trial = _resized(example, other_sizes(example, layouts), 1, (more, {}), fits)
    if trial is None and batches and fits(longest := example.redrawn(1, more, {})):
        used, trial = more, longest
    found += [] if trial is None else [trial]
    left = [batch for batch in (fewer, more) if batch and batch != used]
    _, _, trial = _resized(example, longer_sizes(example, layouts, small), 2, (*left, {}), fits)
    if trial is None:
        trial = next((t for batch in left if fits(t := example.redrawn(2, batch, small))), None)
    return [*found, *([] if trial is None else [trial])]


def _resized(
    example: Trial,
    tries: Iterable[Resize],
    seed: int,
    batches: Iterable[Resize],
    fits: Callable[[Trial], bool],
) -> tuple[Resize, Resize, Trial | None]:
    """Return one trial in which as many sizes change as the model runs with, each as it did first.

    The first batch with which any size may change is used. Also returned are the sizes and the batch that changed.
    """
    wanted = list(tries)
    for batch in batches:
        found: dict[int, int] = {}
        best: Trial | None = None
        for size in wanted:
            if found.keys().isdisjoint(size):
                trial = example.redrawn(seed, batch, found | dict(size))
                if fits(trial):
                    best, found = trial, found | dict(size)
        if best is not None:
            return found, batch, best
    return {}, {}, None


def other_sizes(trial: Trial, layouts: Sequence[Layout], tries: int = 3) -> Iterator[Resize]:
    """Yield smaller sizes for the axes behind the first, largest axes first; axes of one size change together.

    Args:
        trial: the example.
        layouts: layouts of the tensors, or nothing; a size that an axis with atoms or fixed parents has is kept.
        tries: how many to yield.
    """
    for size in _sizes(trial, layouts)[:tries]:
        yield {size: smaller(size)}


def longer_sizes(trial: Trial, layouts: Sequence[Layout], known: Resize, tries: int = 3) -> Iterator[Resize]:
    """Yield larger sizes for the axes behind the first, as `other_sizes` yields smaller ones.

    Args:
        trial: the example.
        layouts: layouts of the tensors, or nothing; a size that an axis with atoms or fixed parents has is kept.
        known: the other size on which the model runs; its axes are then the only ones to change.
        tries: for how many sizes.
    """
    for size in known or _sizes(trial, layouts)[:tries]:
        yield from ({size: new} for new in larger(size))


def roomier_sizes(trial: Trial, layouts: Sequence[Layout], tries: int = 3, most: int = 64) -> Iterator[Resize]:
    """Yield twice the size for the axes behind the first, where this is not much.

    Args:
        trial: the example.
        layouts: layouts of the tensors, or nothing; a size that an axis with atoms or fixed parents has is kept.
        tries: how many to yield.
        most: the largest size to double.
    """
    for size in _sizes(trial, layouts)[:tries]:
        if size <= most:
            yield {size: 2 * size}


def _sizes(trial: Trial, layouts: Sequence[Layout]) -> list[int]:
    moving = {term.size for layout in layouts for term in layout if is_keyed(term)}
    return sorted({size for shape in trial.shapes for size in shape[1:] if size > 1} - moving, reverse=True)


def larger(size: int) -> tuple[int, ...]:
    """Return larger sizes of the same kind, the best to try first; a table may end soon behind the example's size.

    A small size is doubled and made odd, for groups that an axis is cut into may fit into a multiple of it by chance.

    >>> larger(224), larger(32), larger(5)
    ((256,), (48, 33), (11, 10, 7, 6))
    """
    if size >= 128:
        return (size + 32,)
    more = size * 3 // 2
    found = (more - more % 8, size + 1) if size >= 16 else (2 * size + 1, 2 * size, more, size + 1)
    return tuple(dict.fromkeys(new for new in found if new > size))


def smaller(size: int) -> int:
    """Return a smaller size of the same kind: networks for images halve their sizes up to five times.

    >>> smaller(224), smaller(64), smaller(7)
    (96, 48, 5)
    """
    if size >= 128:
        return size // 2 - size // 2 % 32
    less = max(1, size * 3 // 4)
    return less - less % 8 if less >= 16 else less


def other_batches(trial: Trial, layouts: Sequence[Layout]) -> Iterator[Resize]:
    """Yield other sizes for the first axis of the tensors: one less, or one more."""
    moving = {layout[0].size for layout in layouts if layout and is_keyed(layout[0])}
    sizes = [shape[0] for shape in trial.shapes if shape and shape[0] > 0]
    if sizes and sizes[0] not in moving:
        if sizes[0] > 1:
            yield {sizes[0]: sizes[0] - 1}
        yield {sizes[0]: sizes[0] + 1}
