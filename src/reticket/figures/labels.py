"""Where the names of points stand in a chart, such that none lies on a mark or on another name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from reticket.figures.spec import SIZE, Axes

REACH = 5.0  # of a mark from its middle, in points
LETTER = 0.62  # mean width of a bold letter, times the size
Box: TypeAlias = tuple[float, float, float, float]  # left, low, right, high, in points


@dataclass(frozen=True)
class Offset:
    """Where a name stands beside its mark, in points; `ha` says which part of it stands there."""

    dx: float
    dy: float
    ha: Literal["left", "center", "right"]

    def box(self, place: tuple[float, float], width: float) -> Box:
        """Return the box of a name of this width at this mark."""
        left = place[0] + self.dx - {"left": 0.0, "center": width / 2, "right": width}[self.ha]
        return (left, place[1] + self.dy - SIZE / 2, left + width, place[1] + self.dy + SIZE / 2)


_ABOVE_AND_BELOW: tuple[Literal["center", "left", "right"], ...] = ("center", "left", "right")
_AROUND = [  # near ones first: right, left, above, below
    place
    for gap in (0.0, 6.0, 14.0, 24.0)
    for place in (
        Offset(REACH + 2 + gap, 0.0, "left"),
        Offset(-REACH - 2 - gap, 0.0, "right"),
        *(Offset(0.0, sign * (SIZE + 2 + gap), ha) for sign in (1, -1) for ha in _ABOVE_AND_BELOW),
    )
]


def label_offsets(axes: Axes, places: Sequence[tuple[float, float]], names: Sequence[str]) -> list[Offset]:
    """Return where names stand: each at the nearest free place around its mark, or at the least crowded one.

    Args:
        axes: with its limits set.
        places: of all marks, in units of the axes.
        names: of the marks; empty for one that has no name.
    """
    figure = axes.get_figure(root=True)
    part, (left, right), (low, high) = axes.get_position(), axes.get_xlim(), axes.get_ylim()
    whole = (figure.get_figwidth() * 72, figure.get_figheight() * 72) if figure else (310.0, 200.0)
    size = (part.width * whole[0], part.height * whole[1])
    at = [((x - left) / (right - left) * size[0], (y - low) / (high - low) * size[1]) for x, y in places]
    return place_names(at, names, size)


def place_names(marks: Sequence[tuple[float, float]], names: Sequence[str], size: tuple[float, float]) -> list[Offset]:
    """Return where names stand beside marks in a chart of this size, all in points from its lower left corner.

    Args:
        marks: the middle of every mark.
        names: of the marks; empty for one that has no name.
        size: width and height of the chart.

    >>> place_names([(50.0, 50.0), (60.0, 50.0)], ["lth", ""], (200.0, 100.0))[0].ha
    'right'
    """
    taken = [(x - REACH, y - REACH, x + REACH, y + REACH) for x, y in marks]
    found = []
    for mark, name in zip(marks, names, strict=True):
        boxes = [offset.box(mark, len(name) * SIZE * LETTER) for offset in _AROUND]
        crowding = [_crowding(box, taken, size) for box in boxes]
        best = crowding.index(min(crowding))
        found.append(_AROUND[best])
        taken += [boxes[best]] if name else []
    return found


def _crowding(box: Box, taken: Sequence[Box], size: tuple[float, float]) -> float:
    """Return the area shared with what is there, and a price for standing beyond the chart (left are its ticks)."""
    beyond = max(0.0, -box[0], box[2] - size[0] - 10, -box[1], box[3] - size[1] - 8)
    return sum(_shared(box, other) for other in taken) + 20 * beyond


def _shared(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
