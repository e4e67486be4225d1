"""The vision transformer: heads and what is in them are groups of their own, found again when they are scrambled."""

import pytest
import torch
from torch.testing import assert_close

import reticket as rt
from reticket.errors import ModelError
from reticket.models import build_model, example_input

HEADS = ("blocks.0.attention.query.weight", "blocks.1.attention.query.weight")


@pytest.fixture(scope="module")
def sym() -> rt.Symmetry:
    return rt.discover(build_model("vit"), example_input("vit"))


@pytest.mark.slow
def test_heads_their_insides_and_the_residual_stream_are_groups(sym: rt.Symmetry) -> None:
    """Worked out by hand: per block the heads, queries with keys and values inside each head, and the wide layer."""
    assert {name: (group.size, group.copies) for name, group in sym.groups.items()} == {
        "positions": (48, 1),
        **{f"blocks.{n}.attention.query.weight": (4, 1) for n in (0, 1)},
        **{f"blocks.{n}.attention.{what}.weight:1": (12, 4) for n in (0, 1) for what in ("query", "value")},
        **{f"blocks.{n}.widen.weight": (192, 1) for n in (0, 1)},
    }


def test_scrambled_heads_are_matched_and_the_mask_moves_along(sym: rt.Symmetry) -> None:
    data, b = rt.load_dataset("digits"), build_model("vit")
    planted = rt.random_alignment(sym, rt.generator_for("planted"))
    a = build_model("vit")
    rt.load_into(a, planted.inverse().apply(b.state_dict()))
    found = rt.match(a, b, sym, [data.normalise(data.train_x[:256])])
    for name in sym.groups:
        assert torch.equal(found.permutations[name].index, planted.permutations[name].index), name
    assert any(not torch.equal(planted.permutations[name].index, torch.arange(4)) for name in HEADS)
    mask = rt.prune_magnitude(a, density=0.2)
    assert found.apply(mask) == rt.prune_magnitude(b, density=0.2)
    rt.load_into(a, found.apply(a.state_dict()))
    assert_close(a(example_input("vit")), b(example_input("vit")))


def test_what_cannot_be_cut_or_shared_is_named() -> None:
    with pytest.raises(ModelError, match=r"cannot cut 63 values of 1 channels into square patches of side 2; give a"):
        build_model("vit", in_features=63)
    with pytest.raises(ModelError, match="3 heads cannot share 32 features; choose a width that they divide"):
        build_model("vit", width=32, heads=3)
    assert build_model("vit", in_features=3 * 32 * 32, channels=3, patch=8)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
