"""Normalisation: statistics and affine parameters move with the axis that they describe."""

from collections.abc import Sequence

from reticket.symmetry.rules.operator import Operator, Refusal, is_layout, rule, wrap
from reticket.symmetry.terms import Fixed, Layout, product

PER_CHANNEL = "statistics and affine parameters are one for each channel"
CHANNEL_TENSORS = ("weight", "bias", "running_mean", "running_var")


@rule(
    "aten._native_batch_norm_legit_no_training",
    "aten._native_batch_norm_legit_functional",
    "aten._native_batch_norm_legit",
    "aten.native_batch_norm",
    "aten.batch_norm",
    "aten._native_batch_norm_legit.no_stats",
    "aten.instance_norm",
)
def batch_norm(op: Operator) -> Layout | list[Layout]:
    """y = (x - mean) / sqrt(var + eps) * weight + bias for each channel (axis 1)."""
    data = op.layout("input")
    for name in CHANNEL_TENSORS:
        if is_layout(op.arguments.get(name)):
            op.equal(data[1], op.layout(name)[0], PER_CHANNEL)
    op.iterates(data, data[1:2])
    channel = op.solver.resolve(data[1])
    results: list[Layout] = [
        data if len(shape) == len(data) else ((channel,) if shape[:1] == (channel.size,) else _empty(shape))
        for shape in op.shapes()
        if shape is not None
    ]
    return results if len(op.shapes()) > 1 else results[0]


def _empty(shape: Sequence[int]) -> Layout:
    if 0 not in shape:
        raise Refusal(f"a statistic of shape {tuple(shape)} is not one for each channel")
    return tuple(Fixed(size) for size in shape)


@rule("aten.layer_norm", "aten.native_layer_norm", "aten.rms_norm", "aten._fused_rms_norm")
def layer_norm(op: Operator) -> Layout | list[Layout]:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, statistics over the last axes."""
    data = op.layout("input")
    count = len(op["normalized_shape"])
    for name in ("weight", "bias"):
        if is_layout(op.arguments.get(name)):
            for own, other in zip(data[-count:], op.layout(name), strict=True):
                op.equal(own, other, "affine parameters move with the axes normalised over")
    statistics = (*data[:-count], *(Fixed(1) for _ in range(count)))
    op.iterates(data, statistics)
    if len(op.shapes()) == 1:
        return data
    return [data, *(statistics for _ in op.shapes()[1:])]


@rule("aten.group_norm", "aten.native_group_norm")
def group_norm(op: Operator) -> Layout | list[Layout]:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, statistics over space and the channels of each group."""
    data = op.layout("input")
    groups = op.arguments.get("num_groups", op.arguments.get("group"))
    assert isinstance(groups, int)
    for name in ("weight", "bias"):
        if is_layout(op.arguments.get(name)):
            op.equal(data[1], op.layout(name)[0], PER_CHANNEL)
    group, inner = op.split(data[1], (groups, data[1].size // groups), "channels are normalised group by group")
    joined = op.equal(data[1], product(group, inner), "channels are normalised group by group")
    statistics = (data[0], group)
    op.iterates((data[0], joined, *data[2:]), statistics)
    result = (data[0], joined, *data[2:])
    return result if len(op.shapes()) == 1 else [result, *(statistics for _ in op.shapes()[1:])]


@rule("aten.softmax", "aten.log_softmax", "aten._softmax", "aten._log_softmax", "aten._safe_softmax")
def softmax(op: Operator) -> Layout:
    """exp(x) / sum exp(x): every permutation of the axis passes through."""
    data = op.layout("self")
    axis = wrap(op["dim"], len(data))
    op.iterates(data, (*data[:axis], *data[axis + 1 :]))
    return data


@rule("aten._weight_norm_interface", "aten._weight_norm")
def weight_norm(op: Operator) -> Layout | list[Layout]:
    """w = g v / |v|, the norm over every axis but one, or over all where torch is given -1 for it."""
    direction, scale = op.layout("v"), op.layout("g")
    axis = op.arguments.get("dim", 0)
    if axis == -1:
        op.iterates(direction, ())
    else:
        op.equal(direction[axis], scale[axis if len(scale) == len(direction) else 0], "one scale for each norm")
        op.iterates(direction, (direction[axis],))
    return direction if len(op.shapes()) == 1 else [direction, scale]
