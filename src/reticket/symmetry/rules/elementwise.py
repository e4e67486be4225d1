"""Elementwise operators with broadcasting: axes of equal size move together, size 1 against n says nothing."""

from collections.abc import Sequence

from reticket.symmetry.rules.operator import Operator, fixed, is_layout, rule
from reticket.symmetry.terms import Fixed, Layout, Term, Uniform

UNARY = [
    "relu",
    "relu6",
    "gelu",
    "silu",
    "mish",
    "elu",
    "selu",
    "celu",
    "leaky_relu",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "softplus",
    "sigmoid",
    "tanh",
    "logsigmoid",
    "log_sigmoid",
    "softshrink",
    "hardshrink",
    "threshold",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "abs",
    "neg",
    "sign",
    "sgn",
    "square",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "floor",
    "ceil",
    "round",
    "trunc",
    "frac",
    "clamp",
    "clamp_min",
    "clamp_max",
    "nan_to_num",
    "logit",
    "isnan",
    "isinf",
    "isfinite",
    "logical_not",
    "bitwise_not",
    "clone",
    "detach",
    "alias",
    "lift_fresh_copy",
    "lift_fresh",
    "contiguous",
    "_to_copy",
    "positive",
    "dropout",
    "native_dropout",
    "tanhshrink",
    "softsign",
    "erfinv",
    "lgamma",
    "digamma",
    "deg2rad",
    "rad2deg",
    "sinc",
    "signbit",
    "frexp",
    "polygamma",
    "mvlgamma",
    "i0",
    "special_i0e",
    "special_i1",
    "special_i1e",
    "special_entr",
    "special_erfcx",
    "special_log_ndtr",
    "special_ndtr",
    "special_ndtri",
    "special_airy_ai",
    "special_bessel_j0",
    "special_bessel_j1",
    "special_bessel_y0",
    "special_bessel_y1",
    "special_modified_bessel_i0",
    "special_modified_bessel_i1",
    "special_modified_bessel_k0",
    "special_modified_bessel_k1",
    "special_scaled_modified_bessel_k0",
    "special_scaled_modified_bessel_k1",
    "special_spherical_bessel_j0",
]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "rsub",
    "true_divide",
    "floor_divide",
    "remainder",
    "fmod",
    "pow",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "atan2",
    "hypot",
    "logaddexp",
    "logaddexp2",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "__and__",
    "__or__",
    "__xor__",
    "copysign",
    "where",
    "masked_fill",
    "addcmul",
    "addcdiv",
    "lerp",
    "xlogy",
    "heaviside",
    "igamma",
    "igammac",
    "ldexp",
    "nextafter",
    "gcd",
    "lcm",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "__lshift__",
    "__rshift__",
    "special_xlog1py",
    "special_zeta",
]
CONSTANT = ("ones_like", "zeros_like", "full_like")


def broadcast(op: Operator, layouts: Sequence[Layout], reason: str) -> Layout:
    """Unify layouts aligned at their last axes and return the layout of the result."""
    dims = max((len(layout) for layout in layouts), default=0)
    result: list[Term] = []
    for axis in range(-dims, 0):
        column = [layout[axis] for layout in layouts if len(layout) >= -axis]
        size = max((t.size for t in column), default=1) if all(t.size for t in column) else 0
        result.append(join(op, [term for term in column if term.size == size], reason, size))
    return tuple(result)


def join(op: Operator, terms: Sequence[Term], reason: str, size: int) -> Term:
    """Unify terms of one axis; a uniform tensor asks for nothing, and all uniform stay uniform."""
    varying = [term for term in terms if not isinstance(term, Uniform)]
    if not varying:
        return Uniform(size) if size > 1 else Fixed(size)
    varying = list(op.solver.instantiate(tuple(varying)))
    joined = varying[0]
    for other in varying[1:]:
        joined = op.equal(joined, other, reason)
    return op.solver.resolve(joined)


@rule(*(f"aten.{name}" for name in (*UNARY, *BINARY)), "prims.copy_strided", "prims.clone", pointwise=True)
def elementwise(op: Operator) -> Layout | list[Layout]:
    """Every tensor argument broadcasts against the others; every result has the same layout."""
    layouts = [op.raw(name) for name, value in op.arguments.items() if is_layout(value)]
    layout = broadcast(op, layouts, "elementwise operands move together")
    op.iterates(layout)
    shapes = op.shapes()
    return layout if len(shapes) == 1 else [layout for _ in shapes]


@rule("aten.to", "aten.type_as", structural=True)
def converted(op: Operator) -> Layout:
    """Another dtype or device; what a second tensor says about them is not in its values."""
    return op.raw("self")


@rule("aten.copy", "aten.fill.Tensor")
def copied(op: Operator) -> Layout:
    """The second tensor in the shape of the first, of which no value is read."""
    source, dims = op.raw("src" if "src" in op.arguments else "value"), len(op.shape)
    if not source:  # a part filled with a number, as masks of windows are made: views cut them across such parts
        return fixed(op.shape)
    padded = (*(Fixed(1) for _ in range(dims - len(source))), *source)
    result = tuple(t if t.size == n else Uniform(n) for t, n in zip(padded, op.shape, strict=True))
    op.iterates(result)
    return result


@rule("aten.rrelu")
def random_slope(op: Operator) -> Layout:
    """x or a x, entry by entry; in train mode the slopes a are drawn for each place."""
    data = op.raw("self")
    if op["training"]:
        for term in data:
            op.pin(term, "random numbers are drawn in the order of these positions")
    op.iterates(data)
    return op.solver.layout(data)


@rule("aten.prelu")
def prelu(op: Operator) -> Layout:
    """One slope for all channels, or one for each channel (axis 1)."""
    data, slope = op.layout("self"), op.layout("weight")
    if slope and slope[0].size > 1:
        op.equal(data[1], slope[0], "one slope for each channel")
    op.iterates(data)
    return op.solver.layout(data)


@rule(
    *(
        f"aten.{name}"
        for name in (*CONSTANT, "zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "scalar_tensor")
    ),
    "aten.fill.Scalar",
    "aten.zero",
)
def constant(op: Operator) -> Layout:
    """A tensor of one value."""
    op.iterates(())
    return tuple(Uniform(size) if size > 1 else Fixed(size) for size in op.shape)


@rule(
    *(
        f"aten.{name}"
        for name in ["arange", "linspace", "empty", "new_empty", "empty_like", "tril_indices", "triu_indices"]
    )
)
def varying(op: Operator) -> Layout:
    """A tensor whose values differ from place to place, or are not known."""
    op.iterates(())
    return fixed(op.shape)


@rule(
    *(f"aten.{name}" for name in ["_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_constrain_range"]),
    structural=True,
)
def check(op: Operator) -> None:
    """A check of the traced graph, which computes nothing."""
    del op


@rule("aten.item", "aten._local_scalar_dense")
def number(op: Operator) -> None:
    """One number taken from a tensor of one element: there are no axes."""
    del op
