"""Operators that rearrange one tensor: views split and merge axes, permutations move them, slices cut them."""

from itertools import accumulate, pairwise
from math import prod
from operator import mul

from torch import fx

from reticket.symmetry import positions
from reticket.symmetry.graph import cause_of
from reticket.symmetry.positions import SLICED, stacked
from reticket.symmetry.rules.operator import Operator, Refusal, rule, wrap
from reticket.symmetry.terms import Fixed, Layout, Product, Sum, Term, Uniform, concat, product

MERGED = "a view splits this axis"


@rule(
    *(
        f"aten.{name}"
        for name in [
            "view",
            "view_as",
            "reshape",
            "reshape_as",
            "_unsafe_view",
            "view_copy",
            "_reshape_copy",
            "flatten",
            "unflatten",
        ]
    ),
    *(f"aten.{name}" for name in ["squeeze", "unsqueeze", "squeeze_copy", "unsqueeze_copy"]),
    structural=True,
)
def view(op: Operator) -> Layout:
    """All axes flattened to one product and cut again."""
    if str(op.node.target) == "aten.view.dtype":
        raise Refusal("a view as another dtype has no rule")
    return regroup(op, op.raw("self"), op.shape)


def regroup(op: Operator, data: Layout, shape: tuple[int, ...]) -> Layout:
    """Give the axes of one tensor another shape, row-major."""
    if 0 in shape:
        return tuple(Fixed(size) for size in shape)
    op.iterates(tuple(factor for term in data for factor in (term.factors if isinstance(term, Product) else (term,))))
    result: list[Term] = []
    rest = list(data)
    for size in shape:
        taken: list[Term] = []
        while rest and _size(taken) < size:
            taken.append(rest.pop(0))
        while rest and rest[0].size == 1:
            rest.pop(0)
        if _size(taken) == size:
            result.append(op.solver.rejoin(product(*taken)))
            continue
        whole = [*taken, *rest]
        if _size(taken) % size == 0 and isinstance(product(*taken), Sum):
            whole = taken  # a part that cannot be cut would pin the axes behind it too
        lead, tail = op.split(op.solver.rejoin(product(*whole)), (size, _size(whole) // size), MERGED)
        result.append(op.solver.rejoin(lead))
        rest = [tail] if whole is not taken else [tail, *rest]
    return op.solver.layout(tuple(result))


def _size(terms: list[Term]) -> int:
    total = 1
    for term in terms:
        total *= term.size
    return total


@rule("aten.as_strided", "aten.as_strided_copy", structural=True)
def strided(op: Operator) -> Layout:
    """A view of memory that holds the entries one after the other, in another shape."""
    source = op.node.args[0]
    assert isinstance(source, fx.Node)
    value, shape = source.meta["val"], op.shape
    steps = [*accumulate(shape[:0:-1], mul, initial=1)][::-1]
    if not value.is_contiguous() or list(op["stride"]) != steps or op["storage_offset"] or value.numel() != prod(shape):
        raise Refusal("a view by strides that leaves out or repeats entries has no rule")
    return regroup(op, op.raw("self"), shape)


@rule("aten.permute", "aten.permute_copy", structural=True)
def permute(op: Operator) -> Layout:
    """Axes in another order."""
    data = op.raw("self")
    return tuple(data[axis] for axis in op["dims"])


@rule("aten.transpose.int", "aten.transpose_copy.int", "aten.swapaxes", "aten.swapdims", structural=True)
def transpose(op: Operator) -> Layout:
    """Two axes exchanged."""
    data = list(op.raw("self"))
    first, second = [value for name, value in op.arguments.items() if name != "self"]
    data[first], data[second] = data[second], data[first]
    return tuple(data)


@rule("aten.t", "aten.numpy_T", "aten.t_copy", structural=True)
def matrix_transpose(op: Operator) -> Layout:
    """The axes in the opposite order."""
    return op.raw("self")[::-1]


@rule("aten.mT", structural=True)
def transpose_of_matrices(op: Operator) -> Layout:
    """The last two axes exchanged."""
    data = op.raw("self")
    return (*data[:-2], data[-1], data[-2])


@rule("aten.movedim.int", "aten.movedim.intlist", structural=True)
def movedim(op: Operator) -> Layout:
    """Some axes moved to new places, the others keep their order."""
    data = op.raw("self")
    pairs = [[op[name]] if isinstance(op[name], int) else list(op[name]) for name in ("source", "destination")]
    source, target = [[wrap(axis, len(data)) for axis in axes] for axes in pairs]
    others = iter([axis for axis in range(len(data)) if axis not in source])
    order = [source[target.index(axis)] if axis in target else next(others) for axis in range(len(data))]
    return tuple(data[axis] for axis in order)


@rule("aten.expand", "aten.expand_as", "aten.expand_copy", "aten.broadcast_to", structural=True)
def expand(op: Operator) -> Layout:
    """A new or widened axis is uniform."""
    data, shape = op.raw("self"), op.shape
    padded = (*(Fixed(1) for _ in range(len(shape) - len(data))), *data)
    return tuple(term if term.size == n else Uniform(n) for term, n in zip(padded, shape, strict=True))


@rule("aten.repeat", structural=True)
def repeat(op: Operator) -> Layout:
    """k copies one after the other."""
    data, shape = op.raw("self"), op.shape
    padded = (*(Fixed(1) for _ in range(len(shape) - len(data))), *data)
    return tuple(product(Uniform(n // t.size), t) if t.size else t for t, n in zip(padded, shape, strict=True))


@rule("aten.repeat_interleave.self_int", structural=True)
def repeat_interleave(op: Operator) -> Layout:
    """Every position k times in a row."""
    data, dim, shape = list(op.raw("self")), op["dim"], op.shape
    if dim is None:
        raise Refusal("repeat_interleave without dim has no rule")
    axis = wrap(dim, len(data))
    data[axis] = product(data[axis], Uniform(shape[axis] // data[axis].size)) if data[axis].size else Fixed(0)
    return tuple(data)


@rule("aten.slice.Tensor", "aten.narrow", "aten.slice_copy.Tensor", structural=True)
def slice_axis(op: Operator) -> Layout:
    """A run of positions; a step other than 1 pins."""
    data = list(op.raw("self"))
    axis = wrap(op["dim"], len(data))
    size = data[axis].size
    if op.arguments.get("step", 1) != 1:
        op.pin(data[axis], "a slice with a step picks single positions")
        data[axis] = Fixed(op.shape[axis])
        return tuple(data)
    start = _clip(op["start"] if op["start"] is not None else 0, size)
    return take(op, tuple(data), axis, start, op.shape[axis])


def _clip(position: int, size: int) -> int:
    return max(0, min(position + size if position < 0 else position, size))


def take(op: Operator, data: Layout, axis: int, start: int, length: int) -> Layout:
    """Take `length` positions from `start` on out of an axis."""
    return positions.take(op.solver, data, axis, start, length, cause_of(op.node, SLICED))


@rule("aten.select.int", "aten.select_copy.int", structural=True)
def select(op: Operator) -> Layout:
    """One position; what stands before and behind it may still move."""
    data = op.raw("self")
    axis = wrap(op["dim"], len(data))
    data = take(op, data, axis, _clip(op["index"], data[axis].size), 1)
    return (*data[:axis], *data[axis + 1 :])


@rule("aten.split.Tensor", "aten.split_with_sizes", "aten.chunk", "aten.unsafe_split", "aten.split", structural=True)
def split(op: Operator) -> list[Layout]:
    """Runs of positions one after the other."""
    data = op.raw("self")
    axis = wrap(op["dim"], len(data))
    starts = list(accumulate((shape[axis] for shape in op.shapes() if shape is not None), initial=0))
    return [take(op, data, axis, start, end - start) for start, end in pairwise(starts)]


@rule("aten.unbind.int", structural=True)
def unbind(op: Operator) -> list[Layout]:
    """Every position on its own."""
    data = op.raw("self")
    axis = wrap(op["dim"], len(data))
    taken = [take(op, data, axis, position, 1) for position in range(data[axis].size)]
    return [(*layout[:axis], *layout[axis + 1 :]) for layout in taken]


@rule("aten.cat", "aten.concat", structural=True)
def cat(op: Operator) -> Layout:
    """Tensors one after the other along an axis; their other axes move together."""
    tensors = [op.solver.layout(layout) for layout in op["tensors"] if layout != (Fixed(0),)]
    axis = wrap(op["dim"], len(op.shape))
    return join_along(op, tensors, axis, concat(*(layout[axis] for layout in tensors)))


def join_along(op: Operator, tensors: list[Layout], axis: int, joined: Term) -> Layout:
    """Unify every axis but one, which becomes `joined`."""
    varying = [op.solver.instantiate((*t[:axis], Fixed(1), *t[axis + 1 :])) for t in tensors]
    for other in varying[1:]:
        for left, right in zip(varying[0], other, strict=True):
            op.equal(left, right, "joined tensors move together along their other axes")
    return op.solver.layout((*varying[0][:axis], joined, *varying[0][axis + 1 :]))


@rule("aten.roll", structural=True)
def roll(op: Operator) -> Layout:
    """The end of an axis before its beginning."""
    data, dims = op.raw("self"), op["dims"]
    if not dims:
        data = regroup(op, data, (_size(list(data)),))
    for shift, dim in zip(op["shifts"], dims or (0,), strict=True):
        axis = wrap(dim, len(data))
        size = max(data[axis].size, 1)
        if not isinstance(op.solver.resolve(data[axis]), Fixed):
            head, tail = op.cut(data[axis], size - shift % size, SLICED)
            rolled = concat(tail, head)
        else:
            rolled = Fixed(data[axis].size)  # in one piece, so that a view can still cut what it is merged with
        data = (*data[:axis], rolled, *data[axis + 1 :])
    return regroup(op, data, op.shape) if not dims else op.solver.layout(data)


@rule("aten.stack", structural=True)
def stack(op: Operator) -> Layout:
    """Tensors side by side along a new axis, which does not move."""
    axis = wrap(op["dim"], len(op.shape))
    tensors = [op.solver.layout(op.solver.instantiate(layout)) for layout in op["tensors"]]
    return stacked(op.solver, tensors, axis, cause_of(op.node, "stacked tensors move together"))


@rule("aten.pad", "aten.constant_pad_nd")
def pad(op: Operator) -> Layout:
    """Constant ends are uniform, circular ones stand at the other end; other modes read neighbours and pin the axis."""
    data = list(op.raw("self"))
    widths = [op["pad"][i : i + 2] for i in range(0, len(op["pad"]), 2)]
    for i, (before, after) in enumerate(widths):
        axis = len(data) - 1 - i
        if before == after == 0:
            continue
        mode = op.arguments.get("mode", "constant")
        if mode == "circular" and min(before, after) >= 0 and not isinstance(op.solver.resolve(data[axis]), Fixed):
            tail = op.cut(data[axis], data[axis].size - before, SLICED)[1]
            head = op.cut(data[axis], after, SLICED)[0]
            data[axis] = concat(tail, op.solver.resolve(data[axis]), head)
        elif mode != "constant" or before < 0 or after < 0:
            op.pin(data[axis], "padding reads neighbouring positions")
            data[axis] = Fixed(op.shape[axis])
        else:
            data[axis] = concat(Uniform(before), data[axis], Uniform(after))
    result = op.solver.layout(tuple(data))
    op.iterates(result)
    return result


@rule("aten.slice_scatter", "aten.select_scatter")
def scatter_run(op: Operator) -> Layout:
    """A run of positions overwritten by another tensor."""
    data, source = list(op.layout("self")), list(op.layout("src"))
    axis = wrap(op["dim"], len(data))
    if op.arguments.get("step", 1) != 1:
        raise Refusal("a scatter with a step has no rule")
    if "index" in op.arguments:
        start, source = _clip(op["index"], data[axis].size), [*source[:axis], Fixed(1), *source[axis:]]
    else:
        start = _clip(op["start"] if op["start"] is not None else 0, data[axis].size)
    length = source[axis].size
    head, _ = op.cut(data[axis], start, SLICED)
    _, tail = op.cut(data[axis], start + length, SLICED)
    joined = concat(head, source[axis], tail)
    result = join_along(op, [tuple(data), tuple(source)], axis, op.solver.resolve(joined))
    op.iterates(result)
    return result


@rule("aten.pixel_shuffle", structural=True)
def pixel_shuffle(op: Operator) -> Layout:
    """(c r r, h, w) to (c, h r, w r): the two factors r end in space, which is fixed."""
    data, r = op.layout("self"), op["upscale_factor"]
    channel, first, second = op.split(data[-3], (data[-3].size // r**2, r, r), "channels become positions in space")
    return (*data[:-3], channel, product(data[-2], first), product(data[-1], second))


@rule("aten.channel_shuffle", "aten.native_channel_shuffle", structural=True)
def channel_shuffle(op: Operator) -> Layout:
    """(g, c) to (c, g)."""
    data, groups = op.layout("self"), op["groups"]
    outer, inner = op.split(data[1], (groups, data[1].size // groups), "channels are shuffled group by group")
    return (data[0], product(inner, outer), *data[2:])


@rule("aten.glu")
def glu(op: Operator) -> Layout:
    """The first half of an axis times the sigmoid of the second."""
    data = list(op.layout("self"))
    axis = wrap(op["dim"], len(data))
    first, second = op.cut(data[axis], data[axis].size // 2, SLICED)
    data[axis] = op.equal(first, second, "the halves gate each other")
    op.iterates(tuple(data))
    return op.solver.layout(tuple(data))


@rule("aten.tril", "aten.triu")
def triangle(op: Operator) -> Layout:
    """One triangle of the last two axes."""
    data = op.layout("self")
    for term in data[-2:]:
        op.pin(term, "a triangle depends on the order along this axis")
    op.iterates(data)
    return op.solver.layout(data)
