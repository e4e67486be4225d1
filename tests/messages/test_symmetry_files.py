"""Symmetry files and specifications: exact round trips, and one sentence with the place for every slip."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reticket.errors import AlignmentError, SymmetryError, VerificationError
from reticket.matching import match
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover, random_alignment, verify
from reticket.symmetry.terms import Atom, Fixed, Layout
from tests.models_for_symmetry import features, image, mlp, solved


@pytest.fixture(scope="module")
def symmetry() -> Symmetry:
    return solved("residual-batchnorm")[1]


@pytest.mark.parametrize("name", ["residual-batchnorm", "concat", "grouped", "pad-shortcut", "attention"])
def test_a_file_gives_back_the_same_symmetry(name: str, tmp_path: Path) -> None:
    original = solved(name)[1]
    original.save(tmp_path / "s.json")
    loaded = Symmetry.load(tmp_path / "s.json")
    assert loaded == original
    assert loaded.to_json() == original.to_json()
    assert dict(loaded.groups) == dict(original.groups)


def test_a_file_has_one_line_for_each_tensor(symmetry: Symmetry) -> None:
    assert '    "stem.weight": ["stem.weight", 3, 1, 1],' in symmetry.to_json().splitlines()
    assert '    "stem.weight": [5, 3, 1, 1],' in symmetry.to_json().splitlines()


def nested(depth: int) -> Any:
    return {"sum": [nested(depth - 1)]} if depth else 4


Change = Callable[[dict[str, Any]], object]
SLIPS: dict[str, tuple[Change, str]] = {
    "other format": (lambda d: d.update(format="other"), "s.json: is not a symmetry, expected a JSON object"),
    "other version": (
        lambda d: d.update(version=99),
        "s.json: has format version 99, expected 1; discover and save it",
    ),
    "no layouts": (lambda d: d.pop("layouts"), "s.json: 'layouts': is missing, expected an object"),
    "groups as a list": (lambda d: d.update(groups=[]), "s.json: 'groups': is a list, expected an object"),
    "unknown group": (
        lambda d: d["layouts"].update({"fc.bias": ["stem.wieght"]}),
        "s.json: 'layouts', 'fc.bias', axis 0: names group 'stem.wieght', which 'groups' does not list, did you mean "
        "'stem.weight'?; list it there, or write the size of the axis to pin it",
    ),
    "no term": (
        lambda d: d["layouts"].update({"fc.bias": [{"power": [2]}]}),
        "s.json: 'layouts', 'fc.bias', axis 0: {'power': [2]} is no term, expected a size, a group's name,",
    ),
    "too many axes": (
        lambda d: d["layouts"].update({"fc.bias": [4, 4]}),
        "s.json: 'layouts', 'fc.bias': has 2 terms, expected one for each axis of shape [4]",
    ),
    "wrong size of an axis": (
        lambda d: d["layouts"].update({"fc.bias": [5]}),
        "s.json: 'layouts', 'fc.bias', axis 0: 5 has 5 positions, expected 4 as in 'shapes'; correct the term",
    ),
    "wrong size of a group": (
        lambda d: d["groups"]["conv1.weight"].update(size=8),
        "s.json: 'layouts', 'conv1.weight', axis 0: conv1.weight[8] has 8 positions, expected 7 as in 'shapes'",
    ),
    "size that is no number": (
        lambda d: d["groups"]["conv1.weight"].update(size="seven"),
        "s.json: 'groups', 'conv1.weight': {'size': 'seven', 'over': []} was found, expected",
    ),
    "missing parent": (
        lambda d: d["groups"]["conv1.weight"].update(over=["stem"]),
        "s.json: 'groups', 'conv1.weight': depends on 'stem', which 'groups' does not list",
    ),
    "parents as a text": (
        lambda d: d["groups"]["conv1.weight"].update(over="stem.weight"),
        "s.json: 'groups', 'conv1.weight', 'over': 'stem.weight' was found, expected a list of texts",
    ),
    "unknown tensor": (
        lambda d: d["layouts"].update({"fc.bais": d["layouts"].pop("fc.bias")}),
        "s.json: 'shapes', 'fc.bias': 'layouts' has no such tensor, did you mean 'fc.bais'?",
    ),
    "tensor too many": (
        lambda d: d["layouts"].update({"fc9.bias": [4]}),
        "s.json: 'layouts', 'fc9.bias': 'shapes' has no such tensor, did you mean 'fc.bias'?",
    ),
    "reasons": (
        lambda d: d["reasons"].update({"fc.bias": ["a", "b"]}),
        "s.json: 'reasons', 'fc.bias': has 2 texts, expected one for each of 1 axes",
    ),
    "site": (
        lambda d: d["sites"].update({"stem": {"module": "stem"}}),
        "s.json: 'sites', 'stem': {'module': 'stem'} was found, expected module, operator, call and layout",
    ),
    "a truth for a version": (lambda d: d.update(version=True), "s.json: has format version True, expected 1;"),
    "a truth for a size": (
        lambda d: d["shapes"].update({"fc.bias": [True]}),
        "s.json: 'shapes', 'fc.bias': [True] was found, expected a list of sizes",
    ),
    "a truth in a term": (
        lambda d: d["layouts"].update({"fc.bias": [{"product": [True, 4]}]}),
        "s.json: 'layouts', 'fc.bias', axis 0: {'product': [True, 4]} is no term, expected a size",
    ),
    "a text for factors": (
        lambda d: d["layouts"].update({"fc.bias": [{"product": "ab"}]}),
        "s.json: 'layouts', 'fc.bias', axis 0: {'product': 'ab'} is no term, expected a size",
    ),
    "many axes": (
        lambda d: d["layouts"].update({"fc.bias": [1] * 100_000}),
        "s.json: 'layouts', 'fc.bias': [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "
        "1... was found, expected a list with one term for each axis, at most 64",
    ),
    "a huge tensor": (
        lambda d: (d["layouts"].update({"fc.bias": [2**62, 4]}), d.update(shapes={})),
        "s.json: 'layouts', 'fc.bias': is a tensor of more than 2^63 numbers; correct its terms",
    ),
    "a huge group": (
        lambda d: d["groups"]["conv1.weight"].update(size=10**40),
        f"s.json: 'groups', 'conv1.weight': {{'size': {10**40}, 'over': []}} was found, expected",
    ),
    "deep terms": (
        lambda d: d["layouts"].update({"fc.bias": [nested(60)]}),
        "s.json: 'layouts', 'fc.bias', axis 0: {'sum': [{'sum': [{'sum': [",
    ),
    "a parent of itself": (
        lambda d: d["groups"]["conv1.weight"].update(over=["conv1.weight"]),
        "s.json: 'groups', 'conv1.weight', 'over': lists 'conv1.weight', but what a group depends on stands there "
        "once, with all that it depends on in turn, and without the group itself",
    ),
    "parents in a circle": (
        lambda d: (
            d["groups"]["conv1.weight"].update(over=["stem.weight"]),
            d["groups"]["stem.weight"].update(over=["conv1.weight"]),
        ),
        "'over': lists '",
    ),
    "endless call": (
        lambda d: d["sites"]["stem"].update(call=float("inf")),
        "s.json: 'sites', 'stem': {'module': 'stem', 'operator': ",
    ),
    "line end in a name": (
        lambda d: d["groups"].update({"a\nb": {"size": 0}}),
        "s.json: 'groups', 'a\\nb': {'size': 0} was found, expected",
    ),
    "notes": (lambda d: d.update(notes="none"), "s.json: 'notes': 'none' was found, expected a list of texts"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_in_a_file_is_one_sentence_with_its_place(name: str, symmetry: Symmetry, tmp_path: Path) -> None:
    change, message = SLIPS[name]
    data = json.loads(symmetry.to_json())
    change(data)
    (tmp_path / "s.json").write_text(json.dumps(data))
    with pytest.raises(SymmetryError, match=re.escape(message)) as caught:
        Symmetry.load(tmp_path / "s.json")
    assert "\n" not in str(caught.value)


def experts() -> Symmetry:
    """Three routed experts: the experts do not move, the hidden units of each have an order of their own."""
    expert, hidden = Fixed(3, "up"), Atom("up:1", 5, ("up",))
    layouts: dict[str, Layout] = {
        "up": (expert, hidden, Fixed(4)),
        "down": (expert, Fixed(4), hidden),
        "gate": (Fixed(3),),
    }
    return Symmetry(layouts, {"up": ("routed", "", "x"), "down": ("routed", "x", ""), "gate": ("routed",)})


def test_places_are_kept_explained_and_checked(tmp_path: Path) -> None:
    symmetry = experts()
    symmetry.save(tmp_path / "s.json")
    loaded = Symmetry.load(tmp_path / "s.json")
    assert loaded == symmetry
    assert (dict(loaded.fixed_parents), loaded.groups["up:1"].copies) == ({"up": 3}, 3)
    assert "each position has an order of its own for up:1" in loaded.explain("up")
    assert "group up:1: 5 units, in an order of its own for each of 3 positions of up" in loaded.explain("up:1")
    text = symmetry.to_json()
    with pytest.raises(SymmetryError, match="'groups', 'up:1': depends on 'up', which 'groups' does not list"):
        Symmetry.from_json(text.replace('"up": {"size": 3}', "").replace('["up", ', "[3, "))
    with pytest.raises(
        SymmetryError, match="group 'up:1' depends on 'up', which does not stand beside it exactly once"
    ):
        Symmetry.from_json(text.replace('"down": ["up", ', '"down": [3, '))
    with pytest.raises(SymmetryError, match=r"'up' axis 1 moves by up:1\[5 over up\], which one group for"):
        symmetry.to_axes()


def test_files_that_are_none(symmetry: Symmetry, tmp_path: Path) -> None:
    with pytest.raises(SymmetryError, match=r"the symmetry '.*none\.json' cannot be read \(No such file"):
        Symmetry.load(tmp_path / "none.json")
    with pytest.raises(SymmetryError, match="the symmetry: is not JSON"):
        Symmetry.from_json("{")
    with pytest.raises(SymmetryError, match="is not JSON \\('size' stands twice in one object\\)"):
        Symmetry.from_json('{"size": 1, "size": 2}')
    with pytest.raises(SymmetryError, match=r"the symmetry '.*' cannot be written \(.*\); choose a folder"):
        symmetry.save(tmp_path / "no folder" / "s.json")


def test_a_group_may_be_pinned_by_hand(symmetry: Symmetry) -> None:
    data = json.loads(symmetry.to_json())
    data["layouts"] = json.loads(
        json.dumps(data["layouts"]).replace('"conv1.weight", ', "7, ").replace('["conv1.weight"]', "[7]")
    )
    data["layouts"]["conv1.weight"][0] = 7
    edited = Symmetry.from_json(json.dumps(data).replace('"conv1.weight", 3, 3', "7, 3, 3"))
    assert list(edited.groups) == ["stem.weight"]
    assert all(set(site.groups) == {"stem.weight"} for site in edited.sites)
    assert "pinned: no reason given" in edited.explain("conv1.weight")
    verify(edited, solved("residual-batchnorm")[0], image(), draws=2)


def test_a_symmetry_of_another_model_changes_nothing() -> None:
    model, other = mlp(6, 8, 4), mlp(6, 9, 4)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    found = discover(model, features(), verify=False)
    with pytest.raises(AlignmentError, match=r"'0\.weight' has shape \(9, 6\), expected \(8, 6\) as in the symmetry"):
        random_alignment(found, generator_for("other")).apply(other.state_dict())
    with pytest.raises(AlignmentError, match=r"model_a is not of this symmetry: '0\.weight' has shape"):
        match(other, other, found, [features()])
    torch.testing.assert_close(dict(other.state_dict()), before, rtol=0, atol=0)


SPEC: dict[str, Any] = {"0.weight": ("P", None), "0.bias": ("P",), "2.weight": (None, "P")}


def test_a_specification_is_read_proven_and_written_back() -> None:
    model = mlp(6, 8, 4)
    claimed = Symmetry.from_axes(SPEC, model)
    found = discover(model, features(), verify=False)
    assert claimed.log10_order == pytest.approx(found.log10_order)
    assert claimed.to_axes() == {**SPEC, "2.bias": (None,)}
    assert claimed.reasons["2.bias"] == ("not listed in the specification",)
    assert claimed.reasons["2.weight"] == ("fixed in the specification", "")
    assert Symmetry.from_axes(claimed.to_axes(), model.state_dict()).layouts == claimed.layouts
    assert Symmetry.from_json(claimed.to_json()) == claimed
    verify(claimed, model, features(), draws=4)


def test_a_wrong_specification_does_not_pass_the_proof() -> None:
    wrong = Symmetry.from_axes({"0.weight": ("P", None), "2.weight": (None, "P")}, mlp(6, 8, 4))
    with pytest.raises(VerificationError, match="permuting P changes the function"):
        verify(wrong, mlp(6, 8, 4), features())


def test_a_specification_gets_sites_from_a_discovered_symmetry() -> None:
    model, batches = mlp(6, 8, 4), torch.randn(64, 6, generator=generator_for("sites")).split(16)
    claimed = Symmetry.from_axes(SPEC, model)
    with pytest.raises(AlignmentError, match=r"with_sites\(discover"):
        match(model, model, claimed, batches)
    sited = claimed.with_sites(discover(model, features(), verify=False))
    shuffle = random_alignment(sited, generator_for("shuffle"))
    twin = mlp(6, 8, 4)
    twin.load_state_dict(shuffle.apply(model.state_dict()))
    assert match(model, twin, sited, batches).permutations["P"] == shuffle.permutations["P"]


def test_groups_may_be_tied_or_fixed_but_not_set_free() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    found = discover(model, features(), verify=False)
    full = {
        "0.weight": ("P", None),
        "0.bias": ("P",),
        "2.weight": ("P", "P"),
        "2.bias": ("P",),
        "4.weight": (None, "P"),
    }
    tied = Symmetry.from_axes(full, model).with_sites(found)
    assert {site.groups for site in tied.sites} == {("P",)}
    half = Symmetry.from_axes({"0.weight": ("P", None), "0.bias": ("P",), "2.weight": (None, "P")}, model)
    assert {site.name for site in half.with_sites(found).sites} == {"0", "1"}
    torn = Symmetry.from_axes({"0.weight": ("P", None), "2.weight": (None, "P")}, model)
    with pytest.raises(
        SymmetryError, match=r"'0\.weight' axis 0 is of group 'P' and '0\.bias' axis 0 is fixed, but they"
    ):
        torn.with_sites(found)
    more = Symmetry.from_axes({**full, "4.bias": ("Q",)}, model)
    with pytest.raises(SymmetryError, match=r"'4\.bias' axis 0 is of group 'Q', but was found to be 4: see explain"):
        more.with_sites(found)
    with pytest.raises(
        SymmetryError, match=r"the two symmetries are of different models: only one of them has '4\.bias'"
    ):
        Symmetry.from_axes({}, mlp(6, 8, 4)).with_sites(found)


BAD_SPECS: dict[str, tuple[Any, str]] = {
    "unknown tensor": (
        {"0.wieght": ("P", None)},
        "the specification names '0.wieght', which the model does not have, did you mean '0.weight'?; it has 0.weight",
    ),
    "wrong number of axes": (
        {"0.weight": ("P",)},
        "the specification of '0.weight' has 1 entries for 2 axes of shape (8, 6); expected a group's name or None",
    ),
    "sizes that differ": (
        {"0.weight": ("P", "P")},
        "group 'P' of the specification has 8 units at '0.weight' axis 0 and 6 at '0.weight' axis 1; give one of",
    ),
    "a bare text": ({"0.bias": "P"}, "the specification of '0.bias' is 'P', expected a group's name or None"),
    "a number": ({"0.bias": (8,)}, "the specification of '0.bias' has 8 at axis 0, expected a group's name or None"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_a_slip_in_a_specification_is_one_sentence(name: str) -> None:
    spec, message = BAD_SPECS[name]
    with pytest.raises(SymmetryError, match=re.escape(message)):
        Symmetry.from_axes(spec, mlp(6, 8, 4))


def test_what_a_specification_cannot_hold_is_said() -> None:
    with pytest.raises(SymmetryError, match=r"'fc\.weight' axis 1 moves by conv\.weight\[6\] x 9, which one group for"):
        solved("conv-flatten-linear")[1].to_axes()


def test_the_share_that_moves_counts_every_number() -> None:
    found = discover(mlp(6, 8, 4), features(), verify=False)
    assert found.movable == pytest.approx((48 + 8 + 32) / (48 + 8 + 32 + 4))
    flat = solved("conv-flatten-linear")[1]
    assert flat.movable == pytest.approx(1 - 4 / sum(torch.Size(flat.shape(n)).numel() for n in flat.layouts))
    assert replace(found, layouts={}, reasons={}).movable == 0
