"""Order statistics: sorted values do not depend on the order in which they came; where each came from does."""

from reticket.symmetry.rules.operator import Operator, is_layout, rule, wrap
from reticket.symmetry.rules.reduction import INDEXED, ORDERED, drop, index_is_read
from reticket.symmetry.terms import Fixed, Layout


@rule("aten.sort", "aten.topk", "aten.msort")
def sorted_values(op: Operator) -> Layout | list[Layout]:
    """The k-th result is the k-th smallest (or largest) entry of an axis, in whatever order the entries stand."""
    data = op.layout("self")
    if not data:
        return [() for _ in op.shapes()] if len(op.shapes()) > 1 else ()
    axis = wrap(op.arguments.get("dim", 0), len(data))
    if index_is_read(op):
        op.pin(data[axis], INDEXED)
    if not op.arguments.get("sorted", True):
        op.pin(data[axis], "the largest entries are returned in no particular order")
    data = op.solver.layout(data)
    result = (*data[:axis], Fixed(op.shape[axis]), *data[axis + 1 :])
    op.iterates(data, result)
    return [result for _ in op.shapes()] if len(op.shapes()) > 1 else result


@rule("aten.argsort")
def sorting_index(op: Operator) -> Layout:
    """Where the k-th smallest entry stands."""
    data = op.layout("self")
    if not data:
        return ()
    axis = wrap(op["dim"], len(data))
    op.pin(data[axis], INDEXED)
    others = (*data[:axis], *data[axis + 1 :])
    op.iterates(others)
    return op.solver.layout((*data[:axis], Fixed(op.shape[axis]), *data[axis + 1 :]))


@rule("aten.kthvalue", "aten.mode")
def order_statistic(op: Operator) -> list[Layout]:
    """One entry of an axis, chosen by its rank or by how often it occurs."""
    data = op.layout("self")
    if not data:
        return [(), ()]
    axis = wrap(op["dim"], len(data))
    if index_is_read(op):
        op.pin(data[axis], INDEXED)
    data = op.solver.layout(data)
    result = drop(data, [axis], keep=bool(op["keepdim"]))
    op.iterates(data, result)
    return [result, result]


@rule("aten.quantile", "aten.nanquantile")
def quantile(op: Operator) -> Layout:
    """Values at the fractions q between the sorted entries of an axis, or of all entries; q's axis stands in front."""
    data, levels = op.layout("self"), op.layout("q") if is_layout(op["q"]) else ()
    axes = list(range(len(data))) if op["dim"] is None else [wrap(op["dim"], len(data))]
    result = (*levels, *drop(data, axes, keep=bool(op["keepdim"])))
    op.iterates((*levels, *data), result)
    return result


@rule("aten.aminmax")
def extremes(op: Operator) -> list[Layout]:
    """The smallest and the largest entry of an axis, or of the whole tensor."""
    data = op.layout("self")
    axes = list(range(len(data))) if op["dim"] is None else [wrap(op["dim"], len(data))] if data else []
    result = drop(data, axes, keep=bool(op["keepdim"]))
    op.iterates(data, result)
    return [result, result]


@rule("aten.bucketize", "aten.searchsorted")
def bucket(op: Operator) -> Layout:
    """How many of the sorted boundaries lie below each value; values of one row meet the boundaries of their row."""
    from reticket.symmetry.rules.elementwise import broadcast

    name = "boundaries" if "boundaries" in op.arguments else "sorted_sequence"
    data = op.raw("self") if is_layout(op["self"]) else ()
    tables = [op.layout(other) for other in (name, "sorter") if is_layout(op.arguments.get(other))]
    for table in tables:
        op.pin(table[-1], ORDERED)
    rows = [table[:-1] for table in tables if len(table) > 1]
    if rows:
        data = (*broadcast(op, [data[:-1], *rows], "a row of values meets the boundaries of its row"), *data[-1:])
    op.iterates(data)
    return data
