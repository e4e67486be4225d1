"""Convolution: channels move, the kernel and the positions in space do not, unless the window does not slide."""

from typing import Any

from reticket.symmetry.rules.operator import Operator, is_layout, rule
from reticket.symmetry.terms import Fixed, Layout, Term, product

CHANNELS = "the channels a convolution reads"
CONTRACTED = "a kernel as long as its input moves with it"
SPACE = "a window slides along this axis"


@rule(*(f"aten.conv{dims}d" for dims in (1, 2, 3)), weights=("weight",))
def convolution(op: Operator) -> Layout:
    """y[o] = sum_i w[o, i] * x[i] within each group."""
    return _convolve(op, transposed=False)


@rule("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d", weights=("weight",))
def transposed_convolution(op: Operator) -> Layout:
    """The adjoint: the weight has its input channels on axis 0."""
    return _convolve(op, transposed=True)


@rule("aten.convolution", weights=("weight",))
def general_convolution(op: Operator) -> Layout:
    """Either of the two, by its flag."""
    return _convolve(op, transposed=bool(op["transposed"]))


@rule("aten.conv_tbc", weights=("weight",))
def convolution_in_time(op: Operator) -> Layout:
    """y[t, b, o] = sum_ki x[t + k, b, i] w[k, i, o]."""
    data, weight = op.layout("self"), op.layout("weight")
    op.pin(data[0], SPACE)
    op.pin(weight[0], SPACE)
    op.equal(data[2], weight[1], CHANNELS)
    op.equal(weight[2], op.layout("bias")[0], "one bias for each output channel")
    op.iterates((data[1], *weight[1:]))
    return (Fixed(op.shape[0]), data[1], op.solver.resolve(weight[2]))


def _convolve(op: Operator, *, transposed: bool) -> Layout:
    data, weight = op.layout("input"), op.layout("weight")
    groups, space = op["groups"], len(weight) - 2
    first = len(data) - space
    places = [_place(op, axis, data[first + axis], weight[2 + axis], transposed=transposed) for axis in range(space)]
    channels = data[first - 1]
    if groups == 1:
        source, target = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
        op.equal(channels, source, CHANNELS)
    elif channels.size == groups:
        target = _depthwise(op, channels, weight, transposed=transposed)
    else:
        target = _grouped(op, channels, weight, groups, transposed=transposed)
    batch = data[: first - 1]
    op.iterates((*batch, *weight[:2], *(data[first + axis] for axis, place in enumerate(places) if place is not None)))
    if is_layout(op["bias"]):
        op.equal(target, op.layout("bias")[0], "one bias for each output channel")
    sizes = op.shape[len(op.shape) - space :]
    return (*batch, op.solver.resolve(target), *(place or Fixed(n) for place, n in zip(places, sizes, strict=True)))


def _place(op: Operator, axis: int, data: Term, weight: Term, *, transposed: bool) -> Term | None:
    """Return the term of the result along an axis in space, None where the window slides and pins it.

    A kernel of one place passes every position on by itself, and one as long as its input is a product with it.
    """
    size = op.shape[len(op.shape) - len(op["weight"]) + 2 + axis]
    padded = _one(op["padding"], axis) not in (0, "valid") or bool(_one(op.arguments.get("output_padding", 0), axis))
    if weight.size == 1 and size == data.size and (not padded or op["padding"] == "same"):
        return data
    if weight.size == data.size and size == 1 and not (padded or transposed):
        op.equal(data, weight, CONTRACTED)
        return Fixed(1)
    op.pin(data, SPACE)
    op.pin(weight, SPACE)
    return None


def _one(value: Any, axis: int) -> Any:
    """Return an argument for one axis in space, of which there is one for each or one for all."""
    return value if not isinstance(value, list | tuple) else value[axis if len(value) > 1 else 0]


def _depthwise(op: Operator, channels: Term, weight: Layout, *, transposed: bool) -> Term:
    """One input channel for each group: a channel carries its m outputs with it."""
    multiplier = weight[1].size if transposed else weight[0].size // channels.size
    if transposed:
        op.equal(channels, weight[0], CHANNELS)
        return product(op.solver.resolve(channels), op.solver.resolve(weight[1]))
    group, _ = op.split(weight[0], (channels.size, multiplier), "the outputs of each channel")
    op.equal(channels, group, CHANNELS)
    return weight[0]


def _grouped(op: Operator, channels: Term, weight: Layout, groups: int, *, transposed: bool) -> Term:
    """The input is `Product(g, i over g)`, the output `Product(g, o over g)`; the weight has g and o on one axis."""
    outer, inner = op.split(channels, (groups, channels.size // groups), "channels are read group by group")
    first, second = op.split(weight[0], (groups, weight[0].size // groups), "outputs are made group by group")
    op.equal(outer, first, "whole groups move together")
    if transposed:
        op.equal(inner, second, CHANNELS)
        return product(op.solver.resolve(first), op.solver.resolve(weight[1]))
    op.equal(inner, weight[1], CHANNELS)
    return weight[0]
