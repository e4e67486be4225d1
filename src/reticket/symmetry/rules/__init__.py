"""One rule for each operator of the graph. To add one, write a function under `rule("aten.name")` in this package."""

from reticket.symmetry.rules import (
    contraction,
    convolution,
    elementwise,
    experts,
    indexing,
    noise,
    normalisation,
    pooling,
    recurrent,
    reduction,
    shape,
    windows,
)
from reticket.symmetry.rules.operator import RULES, Operator, Refusal, find_rule, rule

__all__ = [
    "RULES",
    "Operator",
    "Refusal",
    "contraction",
    "convolution",
    "elementwise",
    "experts",
    "find_rule",
    "indexing",
    "noise",
    "normalisation",
    "pooling",
    "recurrent",
    "reduction",
    "rule",
    "shape",
    "windows",
]
