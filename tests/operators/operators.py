"""All operators of the table."""

from tests.operators import pointwise, products, reductions, shapes, windows

OPERATORS = [
    *pointwise.OPERATORS,
    *reductions.OPERATORS,
    *products.OPERATORS,
    *shapes.OPERATORS,
    *windows.OPERATORS,
]
