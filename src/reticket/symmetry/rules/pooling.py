"""Pooling and resizing: channels and batch pass, and so do axes in space along which no window slides."""

from collections.abc import Sequence
from typing import Any

from reticket.symmetry.rules.convolution import SPACE
from reticket.symmetry.rules.operator import Operator, rule
from reticket.symmetry.rules.reduction import INDEXED
from reticket.symmetry.terms import Fixed, Layout, Term

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
    """The largest or the mean of every window over the last axes."""
    space = int(op.node.target._schema.name.removesuffix("_with_indices")[-2])  # pyright: ignore
    indexed = any(user.args[1] == 1 and user.users for user in op.node.users) if len(op.shapes()) > 1 else False
    return windows(op, ["index" if indexed else _window(op, axis, space) for axis in range(-space, 0)])


def _window(op: Operator, axis: int, space: int) -> str:
    """Say what the windows do along an axis: one for each position, one over all of them, or else they slide."""
    size, made = _data(op)[axis].size, op.shape[axis]
    if "output_size" in op.arguments:
        return "pass" if made == size else "whole" if made == 1 else "slide"
    kernel, padding = (_one(op.arguments.get(name, 0), axis + space) for name in ("kernel_size", "padding"))
    if padding:
        return "slide"
    return "pass" if kernel == 1 and made == size else "whole" if kernel == size and made == 1 else "slide"


@rule(*(f"aten.upsample_{kind}" for kind in RESIZING), *(f"aten.{kind}" for kind in EXACT))
def resizing(op: Operator) -> Layout | list[Layout]:
    """Interpolation over the axes in space; one that keeps its size and is not scaled passes."""
    dims = len(op.shape)
    return windows(op, ["pass" if _is_kept(op, axis, dims) else "slide" for axis in range(2 - dims, 0)])


def _is_kept(op: Operator, axis: int, dims: int) -> bool:
    given = [value for name, value in op.arguments.items() if name.startswith("scale") and value is not None]
    scales = [_one(value, axis + dims - 2) for value in given]
    return _data(op)[axis].size == op.shape[axis] and all(scale == 1 for scale in scales)


def windows(op: Operator, kinds: Sequence[str]) -> Layout | list[Layout]:
    """Give the last axes what windows of these kinds leave of them, and pass the others."""
    data = _data(op)
    first = len(data) - len(kinds)
    for term, kind in zip(data[first:], kinds, strict=True):
        if kind in ("slide", "index"):
            op.pin(term, SPACE if kind == "slide" else INDEXED)
    kept = [term for term, kind in zip(data[first:], kinds, strict=True) if kind in ("pass", "whole")]
    op.iterates((*data[:first], *kept))
    results: list[Layout] = [
        (*data[:first], *(_made(*one) for one in zip(data[first:], kinds, shape[len(shape) - len(kinds) :], strict=True)))
        for shape in op.shapes()
        if shape is not None
    ]
    return results if len(results) > 1 else results[0]


def _made(term: Term, kind: str, size: int) -> Term:
    return term if kind == "pass" else Fixed(size)


def _data(op: Operator) -> Layout:
    return op.layout("self" if "self" in op.arguments else "input")


def _one(value: Any, axis: int) -> Any:
    return value if not isinstance(value, list | tuple) else value[axis if len(value) > 1 else 0]
