"""What a reader of the page may ask of a chart: what a mark says, and which method an artist belongs to.

A chart tells both while it is drawn; the drawing then knows where on the picture each mark came to lie. Nothing here
imports matplotlib, and nothing here changes what is drawn.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from reticket.figures.spec import Axes
from reticket.figures.text import number


@dataclass(frozen=True)
class Mark:
    """A point of a chart that answers when it is pointed at.

    Args:
        x: on the horizontal axis, in its units.
        y: on the vertical axis, in its units.
        text: what it says.
        method: whose it is; empty where it is no method's.
    """

    x: float
    y: float
    text: str
    method: str = ""


_marks: WeakKeyDictionary[Any, list[Mark]] = WeakKeyDictionary()
_methods: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def tell(axes: Axes, marks: Iterable[Mark]) -> None:
    """Note what points of a chart say.

    Args:
        axes: where they are.
        marks: the points.
    """
    _marks.setdefault(axes, []).extend(marks)


def tell_line(axes: Axes, x: Sequence[float], y: Sequence[float], name: str, digits: int = 1) -> None:
    """Note what the points of a line say: its name and the value.

    Args:
        axes: where the line is.
        x: horizontal places.
        y: values.
        name: of the line.
        digits: decimals of a value.
    """
    tell(axes, [Mark(a, b, f"{name}: {number(float(b), digits)}") for a, b in zip(x, y, strict=True)])


def told(axes: Axes) -> list[Mark]:
    """Return what points of a chart say."""
    return _marks.get(axes, [])


def belongs(method: str, *artists: Any) -> None:
    """Note that artists of a chart are a method's, which the reader may hide.

    Args:
        method: its name; nothing is noted for an empty one.
        artists: lines, bands, texts of matplotlib.
    """
    for artist in artists if method else ():
        _methods[artist] = method


def method_of(artist: Any) -> str:
    """Return the method an artist belongs to, empty for none."""
    return _methods.get(artist, "")
