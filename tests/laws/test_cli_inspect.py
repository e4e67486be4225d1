"""`reticket inspect`: the table at any width, JSON that says it all, and the map of lanes behind the drawing."""

import json
from collections.abc import Callable
from io import StringIO
from xml.etree import ElementTree

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from reticket.cli.inspection import Inspection
from reticket.cli.symmetry import describe
from reticket.symmetry import Symmetry
from reticket.symmetry.network_colours import colour_classes
from reticket.symmetry.network_map import COLUMN_LIMIT, MOST_ROWS, ROW_LIMIT, NetworkMap, groups_of, mapped
from reticket.symmetry.network_svg import drawn
from reticket.symmetry.terms import Atom, Fixed, Layout, product
from tests.models_for_symmetry import family, solved

SVG = "{http://www.w3.org/2000/svg}"


def transformer(layers: int, heads: int = 4) -> Symmetry:
    """The symmetry of a pre-norm transformer, written down: residual stream, heads, channels within heads, hidden."""
    stream, inner = Atom("wte.weight", 8 * heads), 8
    layouts: dict[str, Layout] = {"wte.weight": (Fixed(50), stream)}
    for i in range(layers):
        head = Atom(f"h.{i}.q.weight", heads)
        key = Atom(f"h.{i}.q.weight:1", inner, (head.key,))
        value = Atom(f"h.{i}.v.weight:1", inner, (head.key,))
        hidden = Atom(f"h.{i}.up.weight", 16)
        layouts[f"h.{i}.norm.weight"] = (stream,)
        layouts[f"h.{i}.q.weight"] = layouts[f"h.{i}.k.weight"] = (product(head, key), stream)
        layouts[f"h.{i}.v.weight"] = (product(head, value), stream)
        layouts[f"h.{i}.out.weight"] = (stream, product(head, value))
        layouts[f"h.{i}.up.weight"], layouts[f"h.{i}.up.bias"] = (hidden, stream), (hidden,)
        layouts[f"h.{i}.down.weight"] = (stream, hidden)
    layouts["head.weight"] = (Fixed(10), stream)
    return Symmetry(layouts, {name: ("",) * len(layout) for name, layout in layouts.items()})


def chain(length: int) -> Symmetry:
    """A long plain network without blocks."""
    units = [Fixed(3), *(Atom(f"fc{i}.weight", 4) for i in range(length)), Fixed(2)]
    layouts: dict[str, Layout] = {f"fc{i}.weight": (units[i + 1], units[i]) for i in range(length + 1)}
    return Symmetry(layouts, dict.fromkeys(layouts, ("", "")))


def shown(symmetry: Symmetry, width: int | None) -> str:
    file = StringIO()
    console = (
        Console(file=file) if width is None else Console(file=file, width=width, force_terminal=True, no_color=True)
    )
    describe(Inspection("net", symmetry, {"all": 1.25, "tracing": 1.0}), console)
    return file.getvalue()


def plain(text: str) -> list[str]:
    return [line.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "") for line in text.splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("build", [lambda: transformer(4), lambda: transformer(30), lambda: family("resnet20")[2]])
def test_no_line_is_wider_than_the_terminal(width: int, build: Callable[[], Symmetry]) -> None:
    lines = plain(shown(build(), width))
    assert max(map(len, lines)) <= width
    assert any("units" in line for line in lines)


def test_piped_output_is_plain_and_cuts_no_name() -> None:
    symmetry = transformer(4)
    text = shown(symmetry, None)
    assert "\x1b" not in text
    assert all(name in text for name in symmetry.groups)
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert "found in 1.2 s (tracing 1.0 s)" in text


def test_dependent_groups_stand_under_their_parent() -> None:
    lines = plain(shown(transformer(1), 120))
    row = next(i for i, line in enumerate(lines) if line.startswith("h.0.q.weight "))
    assert lines[row + 1].split()[:5] == ["└", "h.0.q.weight:1", "8", "4", "h.0.q.weight"]
    assert lines[row + 2].startswith("└ h.0.v.weight:1")


def test_many_groups_of_equal_blocks_share_rows() -> None:
    lines = plain(shown(transformer(30), 120))
    assert sum(line.startswith(("h.", "└")) for line in lines) == 4
    assert any(line.startswith("h.{0-29}.up.weight ") for line in lines)


def test_reasons_are_counted_by_kind_with_what_frees_them() -> None:
    text = "\n".join(plain(shown(family("resnet20")[2], None)))
    assert "42  a window slides along this axis, aten.conv2d.default (as conv1.weight[2] at resnet.py:" in text
    assert "pass free=['output0:1'] to discover" in text
    assert "2  an axis of the model's output, output0:1 (as fc.weight[0])" in text


def test_a_model_without_freedom_says_so() -> None:
    symmetry = Symmetry({"w": (Fixed(3),)}, {"w": ("a single position",)})
    assert shown(symmetry, None).startswith("net: no axis can be permuted, 3 numbers are pinned")


def test_json_holds_every_group_and_every_pinned_axis() -> None:
    symmetry = family("resnet20")[2]
    data = json.loads(Inspection("resnet20", symmetry, {"all": 2.0}).to_json())
    assert (data["format"], data["version"], data["model"]) == ("reticket-inspection", 1, "resnet20")
    assert data["log10_order"] == pytest.approx(symmetry.log10_order)
    assert [group["name"] for group in data["groups"]] == list(symmetry.groups)
    first = data["groups"][0]
    assert len(first["members"]) == len(symmetry.groups[first["name"]].members)
    assert first["sites"] == [site.name for site in symmetry.sites if first["name"] in site.groups]
    fixed = sum(isinstance(t, Fixed) and t.size > 1 for layout in symmetry.layouts.values() for t in layout)
    assert sum(len(reason["axes"]) for reason in data["pinned"]) == fixed
    assert {reason["kind"] for reason in data["pinned"]} == {"order", "output", "linked"}


def test_every_group_stands_on_its_lane_in_every_row_where_it_is() -> None:
    for symmetry in (family("resnet20")[2], transformer(4), solved("grouped")[1]):
        network = mapped(symmetry)
        lanes = {lane.group: lane for lane in network.lanes}
        assert set(lanes) == set(symmetry.groups)
        for i, row in enumerate(network.rows):
            for group in groups_of(symmetry, row.tensors):
                assert lanes[group].first <= i <= lanes[group].last
        assert sorted(t for row in network.rows for t in row.tensors) == sorted(
            n for n, x in symmetry.layouts.items() if x
        )
        assert_lanes_apart(network)


def assert_lanes_apart(network: NetworkMap) -> None:
    for one in network.lanes:
        for other in network.lanes:
            apart = one.last < other.first or other.last < one.first
            assert one is other or one.column != other.column or apart, (one, other)


def test_heads_hold_their_channels_and_the_stream_runs_through() -> None:
    network = mapped(transformer(4))
    lanes = {lane.group: lane for lane in network.lanes}
    stream = lanes["wte.weight"]
    assert (stream.first, stream.last, stream.column) == (0, len(network.rows) - 1, 0)
    head, key, value = (lanes[f"h.2.{name}"] for name in ("q.weight", "q.weight:1", "v.weight:1"))
    assert key.family == value.family == head.group
    assert head.column < key.column < head.column + head.width
    assert head.first <= key.first
    assert value.last <= head.last


def test_repeated_blocks_are_folded_and_counted() -> None:
    network = mapped(transformer(40))
    assert len(network.rows) <= MOST_ROWS
    fold = next(row for row in network.rows if not row.tensors)
    assert fold.label == "h.1 to h.38: like h.0"
    assert fold.hidden == 38 * 7
    assert sum(max(row.hidden, 1) for row in network.rows) == 40 * 7 + 2


def test_a_block_of_its_own_kind_is_not_folded_away() -> None:
    symmetry = transformer(20)
    layouts = dict(symmetry.layouts)
    layouts["h.9.norm.weight"] = (Fixed(32),)
    odd = Symmetry(layouts, symmetry.reasons)
    labels = [row.label for row in mapped(odd).rows]
    assert "h.9.norm" in labels
    assert {"h.1 to h.7: like h.0", "h.11 to h.18: like h.10"} <= set(labels)


def test_what_has_no_blocks_is_cut_in_its_middle() -> None:
    network = mapped(chain(300))
    assert len(network.rows) == ROW_LIMIT + 1
    assert sum(row.hidden or 1 for row in network.rows) == 301
    assert network.columns <= COLUMN_LIMIT


def test_groups_that_meet_in_a_row_differ_in_colour() -> None:
    for symmetry in (chain(30), transformer(4), family("resnet20")[2], family("vgg11")[2]):
        network = mapped(symmetry)
        colours = colour_classes(network)
        for row in network.rows:
            groups = set(groups_of(symmetry, row.tensors))
            assert len({colours[group] for group in groups}) == len(groups), row.label


@pytest.mark.parametrize("build", [lambda: transformer(40), lambda: chain(300), lambda: solved("concat")[1]])
def test_the_drawing_is_well_formed_and_needs_nothing_else(build: Callable[[], Symmetry]) -> None:
    symmetry = build()
    network = mapped(symmetry)
    text = drawn(network, title="a <model> & more")
    root = ElementTree.fromstring(text)
    width, height = (float(root.attrib[key]) for key in ("width", "height"))
    for element in root.iter():
        assert not {"href", "src"} & {key.rpartition("}")[2] for key in element.attrib}
        assert 0 <= float(element.attrib.get("x", 0)) <= width
        assert 0 <= float(element.attrib.get("y", 0)) <= height
    titles = " ".join(element.text or "" for element in root.iter(f"{SVG}title"))
    assert all(f"{lane.group}: {symmetry.groups[lane.group].size} units" in titles for lane in network.lanes)
    assert "prefers-color-scheme:dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_equal_symmetries_are_drawn_in_equal_bytes() -> None:
    assert drawn(mapped(transformer(4)), "net") == drawn(mapped(transformer(4)), "net")


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        return self.head(torch.relu(self.fc(self.embed(ids)) * scale).mean(1))


def two_inputs() -> nn.Module:
    return TwoInputs()


setattr(two_inputs, "example_input", {"ids": torch.tensor([[1, 2], [3, 4]]), "scale": torch.ones(2, 1, 1)})  # noqa: B010


def no_example() -> nn.Module:
    return TwoInputs()


def ids_only() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
