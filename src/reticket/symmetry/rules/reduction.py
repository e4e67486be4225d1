"""Reductions: the reduced axis drops out, the others pass; an index that is returned addresses its axis."""

from reticket.symmetry.rules.operator import Operator, Refusal, is_layout, rule, wrap
from reticket.symmetry.terms import Fixed, Layout

SYMMETRIC = [
    "sum",
    "mean",
    "var",
    "std",
    "amax",
    "amin",
    "prod",
    "all",
    "any",
    "logsumexp",
    "norm",
    "linalg_vector_norm",
    "var_mean",
    "std_mean",
    "max",
    "min",
    "median",
    "nanmedian",
    "nanmean",
    "nansum",
    "count_nonzero",
]
INDEXED = "an index into this axis is returned"
ORDERED = "the result depends on the order along this axis"


@rule(*(f"aten.{name}" for name in SYMMETRIC))
def reduction(op: Operator) -> Layout | list[Layout]:
    """A symmetric function of the entries along the reduced axes."""
    tensors = [name for name, value in op.arguments.items() if is_layout(value)]
    if len(tensors) != 1:
        from reticket.symmetry.rules.elementwise import elementwise

        return elementwise(op)
    data = op.layout(tensors[0])
    axes = _reduced(op, len(data))
    if index_is_read(op):
        for axis in axes:
            op.pin(data[axis], INDEXED)
    result = drop(data, axes, keep=bool(op.arguments.get("keepdim", False)))
    op.iterates(data, result)
    return result if len(op.shapes()) == 1 else [result for _ in op.shapes()]


@rule("aten.argmax", "aten.argmin")
def index_of_extreme(op: Operator) -> Layout:
    """The index returned addresses the reduced axis."""
    data = op.layout("self")
    axes = _reduced(op, len(data))
    for axis in axes:
        op.pin(data[axis], INDEXED)
    result = drop(data, axes, keep=bool(op["keepdim"]))
    op.iterates(data, result)
    return result


@rule(*(f"aten.{name}" for name in ["cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "flip"]))
def ordered(op: Operator) -> Layout | list[Layout]:
    """Operators that depend on the order along an axis."""
    data = op.layout("self")
    named = op.arguments.get("dim", op.arguments.get("dims"))
    axes = range(len(data)) if named in (None, []) else [named] if isinstance(named, int) else named
    pinned = [wrap(axis, len(data)) for axis in axes]
    for axis in pinned:
        op.pin(data[axis], ORDERED)
    op.iterates(tuple(term for axis, term in enumerate(data) if axis not in pinned))
    results: list[Layout] = [
        tuple(Fixed(shape[i]) if i in pinned else op.solver.resolve(term) for i, term in enumerate(data))
        for shape in op.shapes()
        if shape is not None
    ]
    return results if len(results) > 1 else results[0]


def index_is_read(op: Operator) -> bool:
    """Whether the second result says where the extreme stands, and something uses it."""
    names = [result.name for result in op.node.target._schema.returns]  # pyright: ignore
    return names[1:] == ["indices"] and any(user.args[1] == 1 and user.users for user in op.node.users)


def _reduced(op: Operator, dims: int) -> list[int]:
    named = op.arguments.get("dim")
    if isinstance(named, str) or (isinstance(named, list) and any(isinstance(n, str) for n in named)):
        raise Refusal("named dimensions have no rule")
    if named is None or named == []:
        return list(range(dims))
    return sorted({wrap(axis, dims) for axis in ([named] if isinstance(named, int) else named)})


def drop(data: Layout, axes: list[int], *, keep: bool) -> Layout:
    """Return a layout without some of its axes, or with a single position there."""
    if keep:
        return tuple(Fixed(1) if axis in axes else term for axis, term in enumerate(data))
    return tuple(term for axis, term in enumerate(data) if axis not in axes)
