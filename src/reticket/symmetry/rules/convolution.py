"""Convolution and pooling: channels move, the kernel and the positions in space do not."""

from reticket.symmetry.rules.operator import Operator, is_layout, rule
from reticket.symmetry.terms import Fixed, Layout, Term, product

CHANNELS = "the channels a convolution reads"
SPACE = "a window slides along this axis"


@rule(*(f"aten.conv{dims}d" for dims in (1, 2, 3)))
def convolution(op: Operator) -> Layout:
    """y[o] = sum_i w[o, i] * x[i] within each group."""
    return _convolve(op, transposed=False)


@rule("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def transposed_convolution(op: Operator) -> Layout:
    """The adjoint: the weight has its input channels on axis 0."""
    return _convolve(op, transposed=True)


@rule("aten.convolution")
def general_convolution(op: Operator) -> Layout:
    """Either of the two, by its flag."""
    return _convolve(op, transposed=bool(op["transposed"]))


def _convolve(op: Operator, *, transposed: bool) -> Layout:
    data, weight = op.layout("input"), op.layout("weight")
    groups, space = op["groups"], len(weight) - 2
    for term in (*data[len(data) - space :], *weight[2:]):
        op.pin(term, SPACE)
    channels = data[len(data) - space - 1]
    if groups == 1:
        source, target = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
        op.equal(channels, source, CHANNELS)
    elif channels.size == groups:
        target = _depthwise(op, channels, weight, transposed=transposed)
    else:
        target = _grouped(op, channels, weight, groups, transposed=transposed)
    batch = data[: len(data) - space - 1]
    op.iterates((*batch, *weight[:2]))
    if is_layout(op["bias"]):
        op.equal(target, op.layout("bias")[0], "one bias for each output channel")
    return (*batch, op.solver.resolve(target), *(Fixed(n) for n in op.shape[len(op.shape) - space :]))


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


POOLING = [
    f"aten.{kind}_pool{dims}d" for dims in (1, 2, 3) for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp")
]
POOLING += [f"aten.max_pool{dims}d_with_indices" for dims in (1, 2, 3)]
POOLING += [f"aten._adaptive_avg_pool{dims}d" for dims in (2, 3)]
RESIZING = [
    f"aten.upsample_{kind}" for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d")
]
RESIZING += ["aten.upsample_trilinear3d"]


@rule(*POOLING)
def pooling(op: Operator) -> Layout | list[Layout]:
    """Windows over the last axes; channels and batch pass."""
    space = int(op.node.target._schema.name.removesuffix("_with_indices")[-2])  # pyright: ignore
    return windows(op, space)


@rule(*RESIZING)
def resizing(op: Operator) -> Layout | list[Layout]:
    """Interpolation over the axes in space."""
    return windows(op, len(op.raw("self" if "self" in op.arguments else "input")) - 2)


def windows(op: Operator, space: int) -> Layout | list[Layout]:
    """Pin the last `space` axes and pass the others."""
    data = op.layout("self" if "self" in op.arguments else "input")
    for term in data[len(data) - space :]:
        op.pin(term, SPACE)
    op.iterates(data[: len(data) - space])
    results: list[Layout] = [
        (*data[: len(data) - space], *(Fixed(n) for n in shape[len(shape) - space :]))
        for shape in op.shapes()
        if shape is not None
    ]
    return results if len(results) > 1 else results[0]
