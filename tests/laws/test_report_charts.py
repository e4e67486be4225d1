"""Laws of the figures: one look per method, colours told apart, labels that do not touch, panels that stand alone."""

import itertools
import re
from collections.abc import Callable, Sequence
from functools import partial
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from reticket.figures.chart import Dot, Series, dots, lines, spread
from reticket.figures.drawing import draw
from reticket.figures.labels import LETTER, REACH, place_names
from reticket.figures.looks import PALETTE, looks
from reticket.figures.spec import SIZE, FigureSpec, Panel, themed
from reticket.records import Stat
from reticket.report.grid import Grid, GridCell, GridColumn
from reticket.tickets.methods import METHODS
from tests.pdfs import whole_pdfs

GROUND = {"light": (255, 255, 255), "dark": (0x12, 0x16, 0x1B)}


def labels_apart(places: Sequence[float], gap: float) -> bool:
    return all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(sorted(places)))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_labels_do_not_touch_and_stay_inside(wanted: list[float]) -> None:
    places = spread(wanted, 5.0, 0.0, 100.0)
    assert labels_apart(places, 5.0)
    assert min(places) >= -1e-6
    assert max(places) <= 100 + 1e-6
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    assert [places[index] for index in order] == sorted(places)


def test_labels_left_where_they_are_would_touch() -> None:
    assert not labels_apart([50.0, 51.0, 90.0], 5.0)


def test_labels_with_room_stay_where_they_point() -> None:
    assert spread([10.0, 60.0, 30.0], 5.0, 0.0, 100.0) == [10.0, 60.0, 30.0]


def test_every_method_of_the_package_has_its_own_look_and_description() -> None:
    known = looks(METHODS)
    assert list(known) == list(looks(reversed(list(METHODS))))
    assert len({(look.colour, look.marker, look.dash) for look in known.values()}) == len(METHODS) == 18
    assert all(look.colour in PALETTE for look in looks(map(str, range(40))).values())


def luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@pytest.mark.parametrize(("scheme", "index"), [("light", 0), ("dark", 1)])
@pytest.mark.parametrize("name", [name for name in PALETTE if name not in ("rule", "grid")])
def test_text_colours_can_be_read_on_their_ground(name: str, scheme: str, index: int) -> None:
    least = 4.0 if name.startswith("control") else 4.5
    assert contrast(rgb(PALETTE[name][index]), GROUND[scheme]) >= least


# Viénot et al. 1999, on linear light: how a reader without one kind of cone sees a colour.
SEES = {
    "deuteranopia": ((0.29275, 0.70725, -0.02234), (0.29275, 0.70725, 0.02234), (-0.02234, 0.02234, 1.0)),
    "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
}


@pytest.mark.parametrize("kind", SEES)
@pytest.mark.parametrize("index", [0, 1])
def test_the_three_key_methods_differ_for_colour_blind_readers(kind: str, index: int) -> None:
    seen = []
    for name in ("lth", "permuted", "naive"):
        linear = [(value / 255) ** 2.2 for value in rgb(PALETTE[name][index])]
        mixed = [sum(m * v for m, v in zip(row, linear, strict=True)) for row in SEES[kind]]
        seen.append([max(0.0, value) ** (1 / 2.2) * 255 for value in mixed])
    for one, other in itertools.combinations(seen, 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 60


def line(places: Sequence[float]) -> Callable[[Axes], None]:
    def drawn(axes: Axes) -> None:
        axes.plot(range(len(places)), list(places), color=PALETTE["lth"][0], marker="o")

    return drawn


@pytest.fixture(scope="module")
def spec() -> FigureSpec:
    return FigureSpec(
        "two", (Panel(line([1, 2]), "first <&>", "unit", "Alt & one."), Panel(line([3, 1]), "second", "u", "Alt two."))
    )


@pytest.mark.slow
def test_equal_specs_give_equal_bytes(spec: FigureSpec) -> None:
    with whole_pdfs():
        one, other = draw(spec), draw(spec)
    assert one == other
    assert one.pdf.startswith(b"%PDF-")
    assert b"dc:date" not in one.svg
    assert b"CreationDate" not in one.pdf


def test_a_changed_number_changes_the_bytes(spec: FigureSpec) -> None:
    other = FigureSpec("two", (Panel(line([1, 2.5]), "first <&>", "unit", "Alt & one."), spec.panels[1]))
    assert draw(other).svg != draw(spec).svg


def test_panels_stand_alone_with_all_they_refer_to(spec: FigureSpec) -> None:
    panels = [ElementTree.fromstring(panel) for panel in draw(spec).panels]
    seen: list[str] = []
    for root in panels:
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        used = re.findall(r"(?:href=\"#|url\(#)([^\")]+)", ElementTree.tostring(root, encoding="unicode"))
        assert set(used) == set(ids)
        seen += [str(name) for name in ids]
    assert len(seen) == len(set(seen))
    assert "first <&>" in [element.text for element in panels[0].iter("text")]
    assert "second" not in [element.text for element in panels[0].iter("text")]
    assert panels[0].get("aria-label") == "Alt & one."


def test_panels_take_the_colours_of_the_page(spec: FigureSpec) -> None:
    panel = draw(spec).panels[0]
    assert "var(--lth)" in panel
    assert not set(re.findall(r"#[0-9a-f]{6}", panel)) & {light for light, _ in PALETTE.values()}
    assert themed("#123456") == "#123456"


def test_every_point_of_a_line_says_what_it_is_where_it_lies() -> None:
    stats = (Stat(n=3, mean=90.0, sd=0.5), Stat(n=3, mean=80.0))
    series = Series(looks(["lth"])["lth"], (0.0, 1.0), stats, (), ("a", "b"))
    draw_line = partial(lines, series=[series], limits=(85.0, 95.0), end=1.0)
    (panel,) = draw(FigureSpec("one", (Panel(draw_line, "title", "unit", "alt"),))).panels
    root = ElementTree.fromstring(panel)
    marks = [element for element in root.iter("circle") if element.get("class") == "mark"]
    assert [(mark.get("data-method"), mark[0].text) for mark in marks] == [
        ("lth", "LTH, a: 90.0 ± 0.5 (n = 3)"),
        ("lth", "LTH, b: 80.0 (n = 3)"),
    ]
    left, top, width, height = map(float, root.get("viewBox", "").split())
    places = [(float(mark.get("cx", "")), float(mark.get("cy", ""))) for mark in marks]
    assert all(left < x < left + width and top < y < top + height for x, y in places)
    assert places[0][1] < places[1][1], "the second lies under the axis and stands on it"
    owned = [element for element in root.iter("g") if element.get("data-method") == "lth"]
    assert len(owned) >= 4  # band, line, the mark under the axis, name


def test_what_lies_outside_a_dot_chart_still_says_its_value() -> None:
    point = Dot(0, 300.0, "#0b5cad", 250.0, 350.0, method="lth")
    drawn = partial(dots, names=["row"], points=[point], limits=(0.0, 100.0))
    (panel,) = draw(FigureSpec("one", (Panel(drawn, "title", "unit", "alt"),))).panels
    assert "<title>LTH, row: 300.0 [250.0, 350.0]</title>" in panel


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 120)), min_size=1, max_size=4))
def test_names_lie_on_no_mark_and_on_no_other_name_while_there_is_room(marks: list[tuple[float, float]]) -> None:
    names, size = ["permuted"] * len(marks), (200.0, 120.0)
    width = len("permuted") * SIZE * LETTER
    placed = [one.box(mark, width) for one, mark in zip(place_names(marks, names, size), marks, strict=True)]
    blocks = [(x - REACH, y - REACH, x + REACH, y + REACH) for x, y in marks]
    for i, box in enumerate(placed):
        for other in (*blocks, *placed[:i]):
            assert min(box[2], other[2]) <= max(box[0], other[0]) or min(box[3], other[3]) <= max(box[1], other[1])


@given(st.floats(0, 200), st.floats(0, 120))
def test_a_name_stands_within_the_chart_and_not_on_the_numbers_at_its_left(x: float, y: float) -> None:
    (offset,) = place_names([(x, y)], ["permuted"], (200.0, 120.0))
    left, low, right, high = offset.box((x, y), len("permuted") * SIZE * LETTER)
    assert left >= 0
    assert right <= 210
    assert low >= 0
    assert high <= 128


def test_a_narrow_table_holds_the_cells_of_its_columns_alone() -> None:
    columns = (GridColumn("90", "", ("0", "5", "10")), GridColumn("98", "", ("0", "5", "10")))
    cells = (GridCell("a", "", 3, 3), GridCell("b", "", 3, 1), GridCell("c", "", 3, 2))
    look = looks(["lth"])["lth"]
    parts = Grid(columns, ((look, cells), (look, (GridCell("d", "", 3, 6),))), 3).parts(2)
    assert [part.columns[0].rewinds for part in parts] == [("0", "5"), ("10",), ("0", "5"), ("10",)]
    assert [[(c.mean, c.span) for c in part.rows[0][1]] for part in parts] == [
        [("a", 2)],
        [("a", 1)],
        [("b", 1), ("c", 1)],
        [("c", 1)],
    ]
    assert [part.rows[1][1][0].span for part in parts] == [2, 1, 2, 1]
