"""Random numbers: drawn position by position, so that no axis of the result may move."""

from reticket.symmetry.rules.operator import Operator, fixed, is_layout, rule
from reticket.symmetry.terms import Layout

BY_SHAPE = ["rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"]
IN_PLACE = ["bernoulli.p", "uniform", "exponential", "geometric", "cauchy", "log_normal", "random"]


@rule(*(f"aten.{name}" for name in (*BY_SHAPE, *IN_PLACE)), "aten.normal_functional")
def noise(op: Operator) -> Layout:
    """Numbers that depend on the place alone; the values of a tensor given for its shape are not read."""
    op.iterates(())
    return fixed(op.shape)


@rule("aten.bernoulli", "aten.bernoulli.Tensor", "aten.normal", "aten.poisson")
def noise_about(op: Operator) -> Layout:
    """Numbers drawn for each place by the values there: with equal seeds a moved value meets another number."""
    for name, value in op.arguments.items():
        for term in op.layout(name) if is_layout(value) else ():
            op.pin(term, "random numbers are drawn in the order of these positions")
    op.iterates(())
    return fixed(op.shape)
