"""Pooling and resizing: channels and batch pass, and so do axes in space where windows do not overlap."""

from collections.abc import Sequence
from typing import Any

from reticket.symmetry.rules.convolution import SPACE
from reticket.symmetry.rules.operator import Operator, rule
from reticket.symmetry.rules.reduction import INDEXED
from reticket.symmetry.terms import Fixed, Layout, Term, Uniform, product

POOLING = [
    f"aten.{kind}_pool{dims}d" for dims in (1, 2, 3) for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp")
]
POOLING += [f"aten.max_pool{dims}d_with_indices" for dims in (1, 2, 3)]
POOLING += [f"aten._adaptive_avg_pool{dims}d" for dims in (2, 3)]
RESIZING = ["nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d", "trilinear3d"]
EXACT = [f"_upsample_nearest_exact{dims}d" for dims in (1, 2, 3)] + [
    f"_upsample_{kind}2d_aa" for kind in ("bilinear", "bicubic", "lanczos")
]


@rule(*POOLING)
def pooling(op: Operator) -> Layout | list[Layout]:
    """The largest or the mean of every window over the last axes.

    Where windows lie side by side, each of them passes, and the order within it does not matter.
    """
    data = _data(op)
    space = int(op.node.target._schema.name.removesuffix("_with_indices")[-2])  # pyright: ignore
    if len(op.shapes()) > 1 and any(user.args[1] == 1 and user.users for user in op.node.users):
        for term in data[-space:]:
            op.pin(term, INDEXED)
    passing: list[Term | None] = []
    inside: list[Term] = []
    for axis in range(-space, 0):
        if _tiles(op, axis, space):
            sizes = op.shape[axis], data[axis].size // op.shape[axis]
            outer, inner = op.split(data[axis], sizes, "windows lie side by side")
            inside.append(inner)
            passing.append(outer)
        else:
            op.pin(data[axis], SPACE)
            passing.append(None)
    return windows(op, passing, inside)


def _tiles(op: Operator, axis: int, space: int) -> bool:
    """Whether the windows along an axis lie side by side, without gaps, overlaps and padding."""
    size, made = _data(op)[axis].size, op.shape[axis]
    if "output_size" in op.arguments:
        return made > 0 and size % made == 0
    kernel, padding, dilation = (
        _one(op.arguments.get(name, default), axis + space)
        for name, default in (("kernel_size", 0), ("padding", 0), ("dilation", 1))
    )
    stride = _one(op["stride"], axis + space) if op["stride"] else kernel
    beside = made == 1 or stride == kernel
    return beside and not padding and (dilation == 1 or kernel == 1) and kernel * made == size


@rule(*(f"aten.upsample_{kind}" for kind in RESIZING), *(f"aten.{kind}" for kind in EXACT))
def resizing(op: Operator) -> Layout | list[Layout]:
    """Interpolation over the axes in space; an axis that keeps its size or is repeated passes."""
    data, dims = _data(op), len(op.shape)
    return windows(op, [_resized(op, axis, data[axis], dims) for axis in range(2 - dims, 0)], ())


def _resized(op: Operator, axis: int, term: Term, dims: int) -> Term | None:
    """Return the term of the result along an axis in space, None where positions are mixed."""
    factor, rest = divmod(op.shape[axis], term.size)
    given = [value for name, value in op.arguments.items() if name.startswith("scale") and value is not None]
    exact = not rest and all(_one(value, axis + dims - 2) == factor for value in given)
    if exact and (factor == 1 or "nearest" in str(op.node.target)):
        return product(term, Uniform(factor)) if factor > 1 else term
    op.pin(term, SPACE)
    return None


def windows(op: Operator, passing: Sequence[Term | None], inside: Sequence[Term]) -> Layout | list[Layout]:
    """Give the last axes the terms that pass, and what windows slide over none; pass the axes before them.

    Args:
        op: the operator.
        passing: for each of the last axes its term in the result, None where the positions have their order.
        inside: what is reduced within the windows.
    """
    before = _data(op)[: -len(passing)]
    op.iterates((*before, *(term for term in passing if term is not None), *inside))
    results: list[Layout] = []
    for shape in op.shapes():
        if shape is not None:
            sizes = shape[len(shape) - len(passing) :]
            results.append((*before, *(term or Fixed(n) for term, n in zip(passing, sizes, strict=True))))
    return results if len(results) > 1 else results[0]


def _data(op: Operator) -> Layout:
    return op.layout("self" if "self" in op.arguments else "input")


def _one(value: Any, axis: int) -> Any:
    return value if not isinstance(value, list | tuple) else value[axis if len(value) > 1 else 0]
