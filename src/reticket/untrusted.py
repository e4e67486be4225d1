"""What was read from files that anyone may have written is looked at first.

JSON says `true` where a number belongs, or a number of thousands of digits.
"""

import json
from typing import Any, TypeGuard

MOST_AXES = 64  # of a tensor in numpy and torch
LARGEST = 2**63 - 1  # of what torch counts


def is_shape(value: Any) -> TypeGuard[list[int]]:
    """Whether what was read is the shape of a tensor that could be: a list of sizes.

    >>> is_shape([2, 3]), is_shape([True]), is_shape([2**80]), is_shape([1] * 65)
    (True, False, False, False)
    """
    return isinstance(value, list) and len(value) <= MOST_AXES and all(is_size(size) for size in value)


def is_size(value: Any) -> TypeGuard[int]:
    """Whether what was read counts positions; `true` is no number here."""
    return type(value) is int and 0 <= value <= LARGEST


def parsed(text: str, **options: Any) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: when it is none, nests deeper than Python follows or holds a number of thousands of digits.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def one_line(text: str) -> str:
    """Return a text with what does not print, line ends too, as it is escaped in Python.

    >>> print(one_line("a\\nb"))
    a\\nb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown(value: Any, most: int = 80) -> str:
    """Return a value that was found in a file as one short line.

    >>> print(shown("a\\nb"), shown([1] * 1000, 12))
    'a\\nb' [1, 1, 1,...
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."
