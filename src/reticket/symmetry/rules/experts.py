"""Products with stacked experts: rows are dealt out to the experts in their order."""

from reticket.symmetry.rules.contraction import CONTRACTED
from reticket.symmetry.rules.operator import Operator, Refusal, is_layout, rule
from reticket.symmetry.terms import Layout

DEALT = "rows are dealt out to the experts in this order"


@rule("aten._grouped_mm", "transformers.grouped_mm_fallback", weights=("mat2", "weight"))
def grouped_matmul(op: Operator) -> Layout:
    """y[s] = x[s] W[e(s)], where row s belongs to the first expert e whose offset lies beyond it."""
    rows, experts, *others = [value for value in op.arguments.values() if is_layout(value)]
    rows, experts = (op.solver.layout(op.solver.instantiate(layout)) for layout in (rows, experts))
    if len(rows) != 2 or len(experts) != 3 or len(others) != 1:
        raise Refusal("a grouped product other than of rows with stacked experts has no rule")
    for term in (rows[0], experts[0], *others[0]):
        op.pin(term, DEALT)
    op.equal(rows[1], experts[1], CONTRACTED)
    op.iterates(experts[1:])
    return op.solver.layout((rows[0], experts[2]))
