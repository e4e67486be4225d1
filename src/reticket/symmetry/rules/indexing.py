"""Reading and writing by index tensors: an axis that indices address is pinned, the other axes pass.

An entry may come from any position of an addressed axis, so the iteration space that counts is that of the other axes
alone: no atom can depend on an addressed position.
"""

import math
from collections.abc import Sequence

import torch
from torch import fx

from reticket.symmetry.rules.elementwise import broadcast, join
from reticket.symmetry.rules.operator import Operator, Refusal, is_layout, rule, wrap
from reticket.symmetry.rules.shape import regroup
from reticket.symmetry.terms import Fixed, Layout, Term, Uniform

ADDRESSED = "positions of this axis are addressed by indices"
WRITTEN = "which of these entries is written where depends on their order"
TOGETHER = "entries and what they are read or written with move together"


@rule("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(op: Operator) -> Layout:
    """y = x[i, j, ...]: the broadcast axes of the indices take the place of the axes that they address."""
    data = op.raw("self")
    before, address, after = _addressed(op, data)
    op.iterates((*before, *address, *after), (*before, *after))
    return (*before, *address, *after)


@rule("aten.index_put", "aten._unsafe_index_put")
def index_put(op: Operator) -> Layout:
    """x[i, j, ...] = v or += v: the other axes of x move with those of v."""
    data = op.raw("self")
    if _masks(op):
        return _masked_write(op, data)
    before, address, after = _addressed(op, data)
    values = op.raw("values")
    if not op["accumulate"]:
        for term in address:
            op.pin(term, WRITTEN)
        for term in values[max(0, len(values) - len(address) - len(after)) : len(values) - len(after)]:
            op.pin(term, WRITTEN)
        address = tuple(Fixed(t.size) for t in address)
    region = broadcast(op, [(*before, *address, *after), values], TOGETHER)
    others = (*region[: len(before)], *region[len(before) + len(address) :])
    op.iterates(region if op["accumulate"] else others)
    rest = iter(others)
    chosen = [axis for axis, layout in enumerate(op["indices"]) if layout is not None]
    return tuple(Fixed(term.size) if axis in chosen else next(rest) for axis, term in enumerate(data))


def _addressed(op: Operator, data: Layout) -> tuple[Layout, Layout, Layout]:
    """Pin what the indices address; return the axes before those of the indices, these, and the axes after them."""
    if _masks(op):
        raise Refusal("an index that is a mask has no rule; write torch.where or masked_fill")
    chosen = [axis for axis, layout in enumerate(op["indices"]) if layout is not None]
    for axis in chosen:
        op.pin(data[axis], ADDRESSED)
    address = broadcast(op, [op.solver.layout(op["indices"][axis]) for axis in chosen], "indices move together")
    adjacent = chosen == list(range(chosen[0], chosen[-1] + 1))
    first = chosen[0] if adjacent else 0
    data = op.solver.layout(data)
    return data[:first], address, tuple(t for axis, t in enumerate(data) if axis >= first and axis not in chosen)


def _masks(op: Operator) -> list[int]:
    """Return which of the indices are masks, which address as many axes as they have."""
    indices = op.node.args[1]
    assert isinstance(indices, Sequence)
    nodes = [(i, node) for i, node in enumerate(indices) if isinstance(node, fx.Node)]
    return [i for i, node in nodes if node.meta["val"].dtype in (torch.bool, torch.uint8)]


def _masked_write(op: Operator, data: Layout) -> Layout:
    """x[mask] = v: a mask moves with the axes that it covers, unless each entry is given a value of its own."""
    given = [(i, layout) for i, layout in enumerate(op["indices"]) if layout is not None]
    if len(given) > 1:
        raise Refusal("writing where several indices say of which one is a mask has no rule; write torch.where")
    first, mask = given[0]
    behind = first + len(mask)
    values = op.raw("values")
    values = (*(Fixed(1) for _ in range(len(data) - len(mask) + 1 - len(values))), *values)
    covered = broadcast(op, [data[first:behind], op.solver.layout(mask)], "a mask moves with what it covers")
    if values[first].size > 1:
        for term in (*covered, values[first]):
            op.pin(term, WRITTEN)
        covered = tuple(Fixed(term.size) for term in covered)
    before = broadcast(op, [data[:first], values[:first]], TOGETHER)
    after = broadcast(op, [data[behind:], values[first + 1 :]], TOGETHER)
    result = op.solver.layout((*before, *covered, *after))
    op.iterates(result)
    return result


@rule("aten.masked_scatter")
def masked_scatter(op: Operator) -> Layout:
    """y = x but where the mask is true the next entry of v: last axes that a mask does not tell apart move with v's."""
    shape, source = op.shape, op.raw("source")
    data, mask = (_widened(op.raw(name), shape) for name in ("self", "mask"))
    inner, size = len(shape), 1
    while inner and isinstance(mask[inner - 1], Uniform) and _numel(source) % (size * shape[inner - 1]) == 0:
        inner, size = inner - 1, size * shape[inner - 1]
    entries = regroup(op, source, (_numel(source) // size, *shape[inner:]))
    for term in (*data[:inner], *mask[:inner], entries[0]):
        op.pin(term, WRITTEN)
    after = broadcast(op, [data[inner:], entries[1:]], TOGETHER)
    op.spaces[:] = [after]
    return (*(Fixed(n) for n in shape[:inner]), *after)


def _widened(layout: Layout, shape: Sequence[int]) -> Layout:
    """Return the layout of a tensor broadcast to a shape."""
    padded = (*(Fixed(1) for _ in range(len(shape) - len(layout))), *layout)
    return tuple(term if term.size == n else Uniform(n) for term, n in zip(padded, shape, strict=True))


def _numel(layout: Layout) -> int:
    return math.prod(term.size for term in layout)


@rule("aten.index_select")
def index_select(op: Operator) -> Layout:
    """y = x[:, i]: the axis of the index takes the place of the one that it addresses."""
    data, address = op.raw("self"), op.raw("index")
    axis = wrap(op["dim"], len(data))
    if not data:
        return ()
    op.pin(data[axis], ADDRESSED)
    result = op.solver.layout((*data[:axis], *(address or (Fixed(1),)), *data[axis + 1 :]))
    op.iterates(result, (*result[:axis], *result[axis + 1 :]))
    return result


@rule("aten.gather")
def gather(op: Operator) -> Layout:
    """y[i, j] = x[index[i, j], j]: along the other axes an entry moves with its index."""
    data, address = op.raw("self"), op.raw("index")
    if not data or not address:
        for term in (*data, *address):
            op.pin(term, ADDRESSED)
        return tuple(Fixed(n) for n in op.shape)
    axis = wrap(op["dim"], len(data))
    op.pin(data[axis], ADDRESSED)
    others = _others(op, axis, [data, address])
    return op.solver.layout((*others[:axis], address[axis], *others[axis:]))


@rule("aten.scatter", "aten.scatter_add", "aten.scatter_reduce")
def scatter(op: Operator) -> Layout:
    """y = x but y[index[i, j], j] = or += v[i, j]: along the other axes an entry moves with its index."""
    written = [name for name in ("index", "src") if is_layout(op.arguments.get(name))]
    tensors = [op.layout(name) if name in written else op.raw(name) for name in ("self", *written)]
    if not all(tensors):
        raise Refusal("a scatter into or from a scalar has no rule")
    axis = wrap(op["dim"], len(op.shape))
    op.pin(tensors[0][axis], ADDRESSED)
    single = written == ["index"] and "reduce" not in op.arguments
    summed = _written(op, [layout[axis] for layout in tensors[1:]], single or _adds(op))
    others = _others(op, axis, tensors, summed)
    return (*others[:axis], Fixed(op.shape[axis]), *others[axis:])


@rule("aten.index_add", "aten.index_copy", "aten.index_reduce")
def index_add(op: Operator) -> Layout:
    """x[:, i] += v: the other axes of x move with those of v."""
    data, index, source = op.raw("self"), op.layout("index"), op.layout("source")
    if not data or not source:
        raise Refusal("a write into or from a scalar has no rule")
    axis = wrap(op["dim"], len(data))
    op.pin(data[axis], ADDRESSED)
    summed = _written(op, [*index, source[axis]], _adds(op))
    others = _others(op, axis, [data, source], summed)
    return (*others[:axis], Fixed(op.shape[axis]), *others[axis:])


def _adds(op: Operator) -> bool:
    """Whether several entries written to one place are combined, so that it does not matter which comes first."""
    name = op.node.target._schema.name  # pyright: ignore
    return name in ("aten::scatter_add", "aten::index_add", "aten::index_reduce", "aten::scatter_reduce") or bool(
        op.arguments.get("reduce")
    )


def _written(op: Operator, terms: Sequence[Term], any_order: bool) -> Layout:
    """Let entries move with the places that they are written to, or pin both where the last of them counts."""
    if not any_order or len({term.size for term in terms}) > 1:
        for term in terms:
            op.pin(term, WRITTEN)
        return ()
    for term in terms[1:]:
        op.equal(terms[0], term, TOGETHER)
    return tuple(terms[:1])


def _others(op: Operator, axis: int, layouts: Sequence[Layout], summed: Layout = ()) -> Layout:
    """Unify every axis but one of tensors that are worked on position by position along them."""
    others = tuple(_beside(op, other, layouts) for other in range(len(op.shape)) if other != axis)
    op.iterates((*others, *summed))
    return others


def _beside(op: Operator, axis: int, layouts: Sequence[Layout]) -> Term:
    """Unify an axis of several tensors; where only the first positions of one are used, it is pinned."""
    terms, size = [layout[axis] for layout in layouts], op.shape[axis]
    if all(term.size == size for term in terms):
        return join(op, terms, TOGETHER, size)
    for term in terms:
        op.pin(term, "only the first positions of this axis are used")
    return Fixed(size)


@rule("aten.diff")
def difference(op: Operator) -> Layout:
    """y[i] = x[i + 1] - x[i] along an axis, whose order counts; the others pass."""
    tensors = [op.raw(name) for name in ("self", "prepend", "append") if is_layout(op.arguments.get(name))]
    axis = wrap(op["dim"], len(tensors[0]))
    for layout in tensors:
        op.pin(layout[axis], "the result depends on the order along this axis")
    others = _others(op, axis, tensors)
    return (*others[:axis], Fixed(op.shape[axis]), *others[axis:])


@rule("aten.histc")
def histogram(op: Operator) -> Layout:
    """Counts of the values, in whatever order they stand; the bins do not move."""
    op.iterates(op.layout("self"))
    return tuple(Fixed(n) for n in op.shape)
