"""What a figure is made of: panels of one size, drawn once, with their legend. Nothing here imports matplotlib."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reticket.figures.looks import PALETTE, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any  # a process that only computes imports a check, which can draw, and never matplotlib

SIZE = 8.5  # of letters, in points


@dataclass(frozen=True)
class Panel:
    """One pair of axes; sizes in points. `unit` names the vertical axis and stands above it, read without turning."""

    draw: Callable[[Axes], None]
    title: str
    unit: str
    alt: str
    height: float = 200.0
    left: float = 32.0
    right: float = 10.0


@dataclass(frozen=True)
class LegendEntry:
    """One entry of a legend."""

    label: str
    colour: str
    marker: str = ""
    dash: tuple[float, ...] = ()
    width: float = 1.5


@dataclass(frozen=True)
class FigureSpec:
    """A figure to draw: panels that belong together, with their legend."""

    name: str
    panels: tuple[Panel, ...]
    legend: tuple[LegendEntry, ...] = ()

    @property
    def columns(self) -> int:
        """Panels side by side on a wide page."""
        return len(self.panels) if len(self.panels) < 3 else 2 if len(self.panels) == 4 else 3

    @property
    def cell(self) -> float:
        """Width of a panel in points."""
        return 270.0 if self.columns == 3 else 310.0


@dataclass(frozen=True)
class Drawn:
    """A figure as files, and its panels as SVG elements for the page."""

    svg: bytes
    pdf: bytes
    panels: tuple[str, ...]


def method_key(look: Look) -> LegendEntry:
    """Return the legend entry of a method."""
    return LegendEntry(look.label, look.hex, look.marker, look.dash, look.width)


def themed(markup: str) -> str:
    """Return markup with every colour of the palette replaced by the page's variable of that name.

    >>> themed('stroke: #1c2430')
    'stroke: var(--ink)'
    """
    names = {light: name for name, (light, _) in PALETTE.items()}
    return re.sub(r"#[0-9a-f]{6}", lambda found: f"var(--{names[found[0]]})" if found[0] in names else found[0], markup)
