"""Drawing a figure: its panels drawn once, saved whole as SVG and PDF, and cut into themed SVG panels for the page.

The page must be read at 400 px too, where a row of three panels would shrink to nothing. Each panel is therefore a
picture of its own in the HTML, cut out of the same drawing that the files hold, and the page arranges them.
"""

import copy
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D

from reticket.figures.looks import GRID, INK, RULE, SOFT
from reticket.figures.marks import method_of, told
from reticket.figures.spec import SIZE, Drawn, FigureSpec, LegendEntry, Panel, themed

FONTS = ("Arial", "Liberation Sans", "DejaVu Sans")
GUTTER = 16.0
HEAD = 34.0
FOOT = 30.0
LEGEND_ROW = 16.0
MARGIN = 6.0
REACH = 7.0  # of a point that is pointed at
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


def draw(spec: FigureSpec) -> Drawn:
    """Draw a figure; equal specs give equal bytes."""
    with _style(), warnings.catch_warnings():
        # A class or layer name in a script the font lacks must not end a report; the browser has its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure, boxes = _figure(spec)
        methods = _name_methods(figure)
        svg, pdf = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    text = re.sub(
        r"font-family: [^;\"]+", f"font-family: {', '.join(_quoted(FONTS))}, sans-serif", svg.getvalue().decode()
    )
    text = re.sub(r" *<metadata>.*?</metadata>\n", "", text, flags=re.DOTALL)
    text = re.sub(r"<!DOCTYPE.*?>\n", "", text, flags=re.DOTALL)
    marks = [_marks(figure, axes) for axes in figure.axes]
    return Drawn(text.encode(), pdf.getvalue(), tuple(_cut(text, spec, boxes, methods, marks)))


def _name_methods(figure: Figure) -> dict[str, str]:
    """Give every artist that belongs to a method an id in the SVG; return the methods by id."""
    owned = [artist for axes in figure.axes for artist in axes.get_children() if method_of(artist)]
    names = {f"method-{number}": artist for number, artist in enumerate(owned, start=1)}
    for name, artist in names.items():
        artist.set_gid(name)
    return {name: method_of(artist) for name, artist in names.items()}


def _marks(figure: Figure, axes: Axes) -> list[ElementTree.Element]:
    """Return an invisible circle with a title for every point that says something, in points from the top left."""
    height, found = figure.get_figheight() * 72, []
    for mark in told(axes):
        x, y = axes.transData.transform((mark.x, mark.y)) * (72 / figure.dpi)
        at = {"cx": f"{x:.1f}", "cy": f"{height - y:.1f}", "r": f"{REACH:g}", "class": "mark"}
        circle = ElementTree.Element("circle", at | ({"data-method": mark.method} if mark.method else {}))
        ElementTree.SubElement(circle, "title").text = mark.text
        found.append(circle)
    return found


@cache
def _font() -> str:
    known = set(fontManager.get_font_names())
    return next((name for name in FONTS if name in known), "DejaVu Sans")


def _quoted(names: Iterable[str]) -> list[str]:
    return [f"'{name}'" if " " in name else name for name in names]


@contextmanager
def _style() -> Iterator[None]:
    settings: dict[Any, Any] = {
        "font.family": [_font(), "DejaVu Sans"] if _font() != "DejaVu Sans" else ["DejaVu Sans"],
        "font.size": SIZE,
        "svg.hashsalt": "reticket",
        "text.parse_math": False,  # names of classes may hold dollars
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "axes.unicode_minus": True,
        "axes.axisbelow": True,
        "path.simplify": False,
    }
    with matplotlib.rc_context(settings):
        yield


def _figure(spec: FigureSpec) -> tuple[Figure, list[tuple[float, float, float, float]]]:
    """Return the figure and each panel's box (left, top, width, height) in points from the top left."""
    columns, cell = spec.columns, spec.cell
    rows = [spec.panels[start : start + columns] for start in range(0, len(spec.panels), columns)]
    heights = [max(panel.height for panel in row) + HEAD + FOOT for row in rows]
    width = columns * cell + (columns - 1) * GUTTER + 2 * MARGIN
    legend = _legend_rows(spec, width)
    total = sum(heights) + GUTTER * (len(rows) - 1) + LEGEND_ROW * legend + 2 * MARGIN
    figure = Figure(figsize=(width / 72, total / 72), facecolor="white")
    FigureCanvasAgg(figure)
    boxes: list[tuple[float, float, float, float]] = []
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            left = MARGIN + column * (cell + GUTTER)
            boxes.append((left, top, cell, panel.height + HEAD + FOOT))
            _axes(figure, panel, left, top, cell)
        top += height + GUTTER
    if legend:
        _legend(figure, spec, width)
    return figure, boxes


def _axes(figure: Figure, panel: Panel, left: float, top: float, cell: float) -> None:
    width, height = figure.get_figwidth() * 72, figure.get_figheight() * 72
    inner = cell - panel.left - panel.right
    box = (
        (left + panel.left) / width,
        1 - (top + HEAD + panel.height) / height,
        inner / width,
        panel.height / height,
    )
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=RULE, linewidth=0.8)
    axes.tick_params(colors=SOFT, labelsize=SIZE, length=3, width=0.8, color=RULE)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    panel.draw(axes)
    axes.xaxis.label.set(color=SOFT, size=SIZE)
    axes.xaxis.labelpad = 3
    at = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(panel.title, (0, 1), (-panel.left, 23), color=INK, size=SIZE + 1, weight="bold", **at)
    axes.annotate(panel.unit, (0, 1), (-panel.left, 11), color=SOFT, size=SIZE, **at)


def _legend_rows(spec: FigureSpec, width: float) -> int:
    return -(-len(spec.legend) // _legend_columns(spec, width)) if spec.legend else 0


def _legend_columns(spec: FigureSpec, width: float) -> int:
    longest = max(len(key.label) for key in spec.legend)
    return max(1, min(len(spec.legend), int(width // (longest * SIZE * 0.55 + 46))))


def _legend(figure: Figure, spec: FigureSpec, width: float) -> None:
    handles = [handle(key) for key in spec.legend]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(MARGIN / width, MARGIN / (72 * figure.get_figheight())),
        ncols=_legend_columns(spec, width),
        frameon=False,
        fontsize=SIZE,
        labelcolor=INK,
        borderaxespad=0,
        handlelength=2.6,
    )


def handle(key: LegendEntry) -> Line2D:
    """Return the line that stands for a legend entry."""
    style = (0, key.dash) if key.dash else "-"
    line = Line2D([], [], color=key.colour, linewidth=key.width, linestyle=style, label=key.label)
    if key.marker:
        line.set_marker(key.marker)
        line.set_markersize(4.5)
    return line


def _cut(
    text: str,
    spec: FigureSpec,
    boxes: list[tuple[float, float, float, float]],
    methods: Mapping[str, str],
    marks: Sequence[list[ElementTree.Element]],
) -> Iterator[str]:
    """Yield each pair of axes as an SVG element of its own, holding all that it refers to and what its points say."""
    root = ElementTree.fromstring(text)
    named = {element.get("id", ""): element for element in root.iter() if element.get("id")}
    for count, (panel, box) in enumerate(zip(spec.panels, boxes, strict=True), start=1):
        group = copy.deepcopy(named[f"axes_{count}"])
        for element in group.iter():
            if element.get("id") in methods:
                element.set("data-method", methods[element.get("id", "")])
        group.extend(marks[count - 1])
        yield _standalone(group, named, f"{spec.name}-{count}", panel.alt, box)


def _standalone(
    group: ElementTree.Element,
    named: Mapping[str, ElementTree.Element],
    prefix: str,
    alt: str,
    box: tuple[float, float, float, float],
) -> str:
    for parent in list(group.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}defs":
                parent.remove(child)
    body = ElementTree.tostring(group, encoding="unicode")
    wanted = list(dict.fromkeys(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", body)))
    svg = ElementTree.Element(
        "svg",
        {"viewBox": " ".join(f"{value:g}" for value in box), "role": "img", "aria-label": alt, "class": "panel"},
    )
    definitions = ElementTree.SubElement(svg, "defs")
    for name in wanted:
        definition = copy.deepcopy(named[name])
        definition.set("id", name)
        definitions.append(definition)
    svg.append(group)
    for element in svg.iter():
        _plain(element, prefix, wanted)
    if not wanted:
        svg.remove(definitions)
    return themed(ElementTree.tostring(svg, encoding="unicode"))


def _plain(element: ElementTree.Element, prefix: str, wanted: list[str]) -> None:
    """Drop name spaces and unused ids, and make the ids that are used unique on the page."""
    element.tag = element.tag.removeprefix(_SVG)
    name = element.get("id")
    if name in wanted:
        element.set("id", f"{prefix}-{wanted.index(name)}")
    elif name is not None:
        del element.attrib["id"]
    link = element.attrib.pop(_LINK, None)
    if link is not None:
        element.set("href", f"#{prefix}-{wanted.index(link[1:])}")
    clip = element.get("clip-path")
    if clip is not None:
        element.set("clip-path", f"url(#{prefix}-{wanted.index(clip[5:-1])})")
    if element.get("d"):
        element.set("d", " ".join(element.get("d", "").split()))
    if element.get("style"):
        element.set("style", re.sub(r"font-family: [^;]+;? ?", "", element.get("style", "")))
    element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
