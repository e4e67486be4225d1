"""One rule for each operator of the graph. To add one, write a function under `rule("aten.name")` in this package."""

from reticket.symmetry.rules import contraction, convolution, elementwise, normalisation, recurrent, reduction, shape
from reticket.symmetry.rules.operator import RULES, Operator, Refusal, find_rule, rule

__all__ = [
    "RULES",
    "Operator",
    "Refusal",
    "contraction",
    "convolution",
    "elementwise",
    "find_rule",
    "normalisation",
    "recurrent",
    "reduction",
    "rule",
    "shape",
]
