"""What one section of the report shows: the figure, what it says, and how it was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from reticket.figures.spec import FigureSpec

MOST_PANELS = 6


@dataclass(frozen=True)
class Finding:
    """A figure with its words: `says` tells the reader what it shows, from the data; `caption` tells how to read it.

    `title` replaces the section's own where the data make it another figure. Without a figure the section's tables are
    what is shown.
    """

    figure: FigureSpec | None
    says: tuple[str, ...]
    caption: str
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """One picture of a contact sheet as the page holds it, without any file beside it.

    Args:
        source: its bytes as a `data:` address.
        told: what stands under it, as (name, value).
        alt: what it shows, in words.
        stable: whether its frame is whole.
    """

    source: str
    told: tuple[tuple[str, str], ...]
    alt: str
    stable: bool


@dataclass(frozen=True)
class ContactSheet:
    """Pictures side by side; `caption` tells how to read them, or why there are none."""

    pictures: tuple[Picture, ...]
    caption: str


def some(values: Sequence[float], most: int = MOST_PANELS) -> list[float]:
    """Return at most `most` of sorted values, evenly chosen, both ends included.

    >>> some([1.0, 2.0, 3.0, 4.0, 5.0], 3)
    [1.0, 3.0, 5.0]
    """
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]


def left_out(shown: int, total: int, what: str, table: str) -> str:
    """Return a note for the caption when not everything is drawn."""
    return f" {shown} of {total} {what} are drawn; tables/{table}.csv holds all." if shown < total else ""
