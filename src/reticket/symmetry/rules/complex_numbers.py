"""Complex numbers: one entry for each pair of real ones; the pair stands along a last axis that does not move."""

from reticket.symmetry.rules.elementwise import elementwise
from reticket.symmetry.rules.operator import Operator, rule
from reticket.symmetry.terms import Fixed, Layout

UNARY = ["angle", "real", "imag", "conj", "_conj", "_conj_copy", "_conj_physical", "conj_physical", "resolve_conj"]
UNARY += ["resolve_neg", "_neg_view", "_neg_view_copy", "isreal"]

rule(*(f"aten.{name}" for name in [*UNARY, "complex", "polar"]), pointwise=True)(elementwise)


@rule("aten.view_as_real", "aten.view_as_real_copy", structural=True)
def pairs(op: Operator) -> Layout:
    """Real and imaginary part side by side along a new last axis."""
    return (*op.raw("self"), Fixed(2))


@rule("aten.view_as_complex", "aten.view_as_complex_copy", structural=True)
def numbers(op: Operator) -> Layout:
    """The last axis holds real and imaginary part."""
    data = op.raw("self")
    op.pin(data[-1], "the real and the imaginary part stand along this axis")
    return op.solver.layout(data[:-1])
