"""Laws of assessing an alignment: a sure one does not change, a random one has nothing to show."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import reticket as rt
from reticket.errors import InputError
from reticket.rng import generator_for
from reticket.types import Permutation
from tests.laws.test_matching_weights import network, planted, symmetry

MEASURED = ("correlation", "margin", "changed")


def data(count: int = 4, size: int = 64) -> list[Tensor]:
    return [torch.randn(size, 12, generator=generator_for("data", k)) for k in range(count)]


def test_a_planted_order_is_sure() -> None:
    a, b, pi = planted("mlp")
    found = rt.assess(pi, a, b, data(), mask=rt.prune_magnitude(a, density=0.4))
    assert found.changed == 0
    assert all(one.changed == 0 and one.correlation == pytest.approx(1, abs=1e-5) for one in found.groups)
    assert set(found.signs.values()) == {1.0}
    assert [(one.group, one.units) for one in found.groups] == [("layers.0.weight", 15), ("layers.1.weight", 11)]


@pytest.mark.slow
def test_few_data_change_more_than_many() -> None:
    a, b = network("mlp", "a"), network("mlp", "b")
    changed = []
    for size in (4, 4000):
        batches = data(2, size)
        alignment = rt.match(a, b, symmetry("mlp"), batches, stop=None)
        changed.append(rt.assess(alignment, a, b, batches, stop=None).changed)
    assert changed[1] < 0.1 < changed[0]


@pytest.mark.slow
def test_the_correlations_are_those_of_the_activations_whatever_found_it() -> None:
    a, b = network("mlp", "a"), network("mlp", "b")
    by_data = rt.match(a, b, symmetry("mlp"), data(), stop="never")
    by_weight = rt.match(a, b, symmetry("mlp"), method="weight")
    first, second = (rt.assess(one, a, b, data(), resamples=1) for one in (by_data, by_weight))
    for one in first.groups:
        assert one.correlation == pytest.approx(by_data.quality[one.group].correlation, abs=1e-6)
        assert one.margin == pytest.approx(by_data.quality[one.group].margin, abs=1e-6)
    for one, other in zip(first.groups, second.groups, strict=True):
        assert one.correlation is not None
        assert other.correlation is not None
        assert one.correlation > other.correlation
    still = rt.assess(by_weight, a, b, data(), "weight")
    assert still.changed == 0  # the weights are the same on every half


def test_signs_are_counted_on_what_the_mask_keeps() -> None:
    a, b = network("mlp", "a"), network("mlp", "b")
    alignment = rt.random_alignment(symmetry("mlp"), 0)
    mask = {"layers.1.weight": torch.zeros(11, 15, dtype=torch.bool)}
    mask["layers.1.weight"][2, 3] = True
    carried, there = alignment.apply(a.state_dict())["layers.1.weight"], alignment.apply(mask)["layers.1.weight"]
    same = bool(carried[there].sign() == b.state_dict()["layers.1.weight"][there].sign())
    found = rt.assess(alignment, a, b, data(2), mask=mask)
    assert found.signs == {"layers.1.weight": float(same)}


@pytest.mark.slow
def test_it_reads_as_a_table() -> None:
    a, b, pi = planted("mlp")
    assert str(rt.assess(pi, a, b, data(2))).splitlines()[0].split() == ["group", "units", *MEASURED]
    found = rt.assess(pi, a, b, data(2), mask=rt.prune_magnitude(a, density=0.4), earlier=(a, b))
    assert str(found).splitlines()[0].split("  ")[-2:] == ["changed earlier", "signs alike"]
    assert str(found).splitlines()[1].split()[:3] == ["layers.0.weight", "15", "1.000"]
    assert found._repr_html_().count("<tr>") == 3
    frame = found.to_frame()
    assert list(frame["units"]) == [15, 11]
    assert list(frame["signs alike"]) == [1.0, 1.0]


def test_an_earlier_point_counts_the_units_that_had_another_partner() -> None:
    a, b, pi = planted("mlp")
    swapped = pi.permutations["layers.0.weight"].index.clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    other = rt.Alignment(pi.symmetry, {**pi.permutations, "layers.0.weight": Permutation(swapped)})
    found = rt.assess(other, a, b, data(2), earlier=(a, b), resamples=1)
    assert [one.changed_earlier for one in found.groups] == [2 / 15, 0]
    assert [one.changed for one in found.groups] == [2 / 15, 0]


def test_signs_of_a_group_are_those_of_all_its_tensors() -> None:
    a, b, pi = planted("mlp")
    with torch.no_grad():
        b.get_parameter("layers.1.weight").neg_()
    mask = {
        name: torch.ones_like(a.get_parameter(name), dtype=torch.bool)
        for name in ("layers.0.weight", "layers.1.weight")
    }
    found = rt.assess(pi, a, b, data(2), mask=mask, resamples=1)
    sizes = [mask[name].numel() for name in mask]
    assert [one.signs for one in found.groups] == [pytest.approx(sizes[0] / sum(sizes)), 0]
    assert found.signs == {"layers.0.weight": 1, "layers.1.weight": 0}


def test_the_report_of_an_alignment_says_what_the_matching_says() -> None:
    a, b, _ = planted("mlp")
    al = rt.match(a, b, symmetry("mlp"), data(2))
    first = al.report().rows[0]
    index, quality = al.permutations["layers.0.weight"].index, al.quality["layers.0.weight"]
    moved = int((index != torch.arange(15)).sum())
    assert first == ("layers.0.weight", 15, moved, quality.correlation, quality.margin)
    assert list(al.report().to_frame().columns) == ["group", "units", "move", "correlation", "margin"]
    assert "26 units move" in al.report()._repr_html_()


def test_what_a_matcher_of_weights_found_is_no_correlation_and_says_so(tmp_path: Path) -> None:
    a, b, _ = planted("mlp")
    al = rt.match(a, b, symmetry("mlp"), method="weight")
    al.save(tmp_path / "al")
    for one in (al, rt.Alignment.load(tmp_path / "al")):
        assert one.report().columns == ("group", "units", "move", "similarity of weights", "margin")
        assert "similarity of weights" in repr(one)
        assert "correlation" not in repr(one) + one._repr_html_()
    assert al.inverse().measure == "similarity of weights"


def test_one_batch_has_no_halves() -> None:
    a, b, pi = planted("mlp")
    with pytest.raises(InputError, match=r"^assess got 1 batches and 4 halves to draw; it needs two batches or more"):
        rt.assess(pi, a, b, data(1))
