"""Values pickle and deep-copy, and show themselves in few lines, a small table, a frame and a chart."""

import copy
import pickle
import sys
from base64 import b64decode
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import reticket as rt
from reticket.errors import InputError

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def net(seed: int, depth: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Sequential(nn.Linear(6 if i == 0 else 8, 8), nn.ReLU()) for i in range(depth)]
    return nn.Sequential(*layers, nn.Linear(8, 3))


DEEP = net(0, 14)
MASK = rt.prune_magnitude(DEEP, 0.5)
TICKET = rt.Ticket.of(DEEP, MASK, {"experiment": "a" * 200, **{f"note {i}": i for i in range(12)}})
CURVE = rt.BarrierCurve((0.0, 0.5, 1.0), (1.0, 3.0, 2.0), (80.0, 50.0, 70.0))


@cache
def symmetry() -> rt.Symmetry:
    return rt.discover(DEEP, X[:2])


@cache
def short() -> rt.Symmetry:
    return rt.discover(net(0, 2), X[:2])


@cache
def matched() -> rt.Alignment:
    return rt.match(net(0, 2), net(1, 2), short(), [X])


@cache
def heads() -> rt.Symmetry:
    torch.manual_seed(0)
    return rt.discover(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8))


@cache
def drawn() -> rt.Alignment:
    return rt.random_alignment(symmetry(), 0)


VALUES: dict[str, Callable[[], Any]] = {
    "symmetry": symmetry,
    "symmetry of heads": heads,
    "alignment": drawn,
    "matched alignment": matched,
    "mask": lambda: MASK,
    "ticket": lambda: TICKET,
    "curve": lambda: CURVE,
}


def same(a: Any, b: Any) -> bool:
    if not isinstance(a, rt.Alignment):
        return a == b
    fields = ("symmetry", "permutations", "quality", "examples", "batches")
    return all(getattr(a, name, None) == getattr(b, name, None) for name in fields)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickled": lambda value: pickle.loads(pickle.dumps(value)),
    "deep copy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.slow_cases("symmetry of heads-pickled", "symmetry-pickled", "symmetry of heads-deep copy")
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", VALUES)
def test_values_pickle_and_copy(name: str, how: str) -> None:
    value = VALUES[name]()
    copied = COPIES[how](value)
    assert type(copied) is type(value)
    assert same(copied, value)
    assert copied is not value
    assert repr(copied) == repr(value)


def test_a_copied_alignment_does_what_the_first_does() -> None:
    copied = pickle.loads(pickle.dumps(VALUES["alignment"]()))
    state = DEEP.state_dict()
    torch.testing.assert_close(dict(copied.apply(state)), dict(VALUES["alignment"]().apply(state)), rtol=0, atol=0)
    with pytest.raises(TypeError):
        copied.permutations["0.0.weight"] = None  # as read-only as the first


@pytest.mark.parametrize("name", VALUES)
def test_values_show_themselves_in_ten_lines(name: str) -> None:
    text = repr(VALUES[name]())
    assert 1 <= len(text.splitlines()) <= 10
    assert max(map(len, text.splitlines())) < 200


def test_what_the_lines_say() -> None:
    assert repr(symmetry()).splitlines() == [
        "Symmetry(30 tensors, 14 groups of units, 10^64.48 permutations, 99.7 % of the weights move)",
        *(f"  {i}.0.weight: 8 units" for i in range(8)),
        "  ... and 6 more",
    ]
    assert "self_attn.in_proj_weight:1: 4 units for each of self_attn.in_proj_weight" in repr(heads())
    first, second, _ = repr(matched()).splitlines()
    assert first.startswith("MatchedAlignment(2 groups, ")
    quality, moved = (
        matched().quality["0.0.weight"],
        (matched().permutations["0.0.weight"].index != torch.arange(8)).sum(),
    )
    assert second == (
        f"  0.0.weight: 8 units, {moved} move, correlation {quality.correlation:.3f}, margin {quality.margin:.3f}"
    )
    assert repr(TICKET).splitlines()[0] == f"Ticket({MASK!r}, signed)"
    assert repr(CURVE) == "BarrierCurve(3 points from 0 to 1, loss barrier 1.5, accuracy barrier 25)"


@pytest.mark.parametrize("name", VALUES)
def test_a_notebook_gets_a_small_table(name: str) -> None:
    html = VALUES[name]()._repr_html_()
    assert html.startswith("<table><caption>")
    assert 2 <= html.count("<tr>") <= 22


def test_a_symmetry_is_drawn_below_its_table() -> None:
    picture = heads()._repr_html_().partition("base64,")[2].partition('"')[0]
    drawing = ElementTree.fromstring(b64decode(picture))
    assert drawing.tag.endswith("svg")
    assert "self_attn.in_proj_weight" in "".join(drawing.itertext())


def test_names_are_escaped_in_a_table() -> None:
    mask = rt.Mask({"<b>": torch.tensor([True, False])})
    assert "&lt;b&gt;" in mask._repr_html_()
    assert "<b>" not in mask._repr_html_()


def test_a_frame_has_a_row_for_every_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", made)
    rows, columns = short().to_frame()
    assert len(rows) == sum(len(layout) for layout in short().layouts.values())
    assert all(list(row) == columns for row in rows)
    weight = next(row for row in rows if (row["tensor"], row["axis"]) == ("1.0.weight", 1))
    assert (weight["size"], weight["groups"], weight["reason"]) == (8, ("0.0.weight",), "")
    head = next(row for row in rows if (row["tensor"], row["axis"]) == ("2.weight", 0))
    assert head["groups"] == ()
    assert "output" in head["reason"]


def test_what_is_not_installed_is_asked_for_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(
        InputError, match=r"^Symmetry.to_frame needs pandas, which is not installed; pip install pandas$"
    ):
        short().to_frame()
    with pytest.raises(InputError, match=r"^BarrierCurve.plot needs matplotlib, which is not installed"):
        CURVE.plot()


def test_charts_are_drawn_on_the_axes_given() -> None:
    axes: Any = Figure().subplots()
    assert CURVE.plot(axes) is axes
    assert [tuple(line.get_ydata()) for line in axes.lines] == [CURVE.loss]
    beside: Any = axes.figure.axes[1]
    assert [tuple(line.get_ydata()) for line in beside.lines] == [CURVE.metric]
    axes = Figure().subplots()
    assert matched().plot(axes) is axes
    assert [bar.get_width() for bar in axes.patches] == [one.correlation for one in matched().quality.values()]
    alone = rt.BarrierCurve((0.0, 1.0), (1.0, 2.0)).plot(Figure().subplots())
    assert len(alone.figure.axes) == 1
    with pytest.raises(InputError, match="this alignment was not found by matching"):
        VALUES["alignment"]().plot(axes)


def test_charts_make_axes_of_their_own() -> None:
    from matplotlib import pyplot

    axes = CURVE.plot()
    assert axes.get_xlabel() == "share of the second network"
    pyplot.close(axes.figure)
