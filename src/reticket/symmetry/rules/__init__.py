"""One rule for each operator of the graph. To add one, write a function under `rule("aten.name")` in this package."""

from reticket.symmetry.rules import (
    complex_numbers,
    contraction,
    convolution,
    elementwise,
    experts,
    fourier,
    indexing,
    linalg,
    noise,
    normalisation,
    recurrent,
    reduction,
    shape,
    sorting,
    windows,
)
from reticket.symmetry.rules.operator import RULES, Operator, Refusal, find_rule, rule

__all__ = [
    "RULES",
    "Operator",
    "Refusal",
    "complex_numbers",
    "contraction",
    "convolution",
    "elementwise",
    "experts",
    "find_rule",
    "fourier",
    "indexing",
    "linalg",
    "noise",
    "normalisation",
    "recurrent",
    "reduction",
    "rule",
    "shape",
    "sorting",
    "windows",
]
