"""Sites show each group's units once per forward, at any batch size, before anything overwrites them."""

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import SymmetryError
from reticket.rng import generator_for
from reticket.symmetry import Site, Symmetry, capture, load_into, random_alignment
from reticket.symmetry.alignment import old_parents
from tests.models_for_symmetry import CASES, family, image, solved


def record(model: nn.Module, symmetry: Symmetry, x: Tensor) -> list[tuple[Site, Tensor]]:
    seen: list[tuple[Site, Tensor]] = []
    with torch.no_grad(), capture(model, symmetry.sites, lambda site, tensor: seen.append((site, tensor.clone()))):
        model(x)
    return seen


@pytest.mark.slow_cases("no-rule")
@pytest.mark.parametrize("name", CASES)
def test_units_move_as_the_alignment_says(name: str) -> None:
    """The activations of the permuted model are the permuted activations: every site's layout is right."""
    (model, symmetry), (twin, _) = solved(name), solved(name)
    model, twin = model.double().eval(), twin.double().eval()
    x = CASES[name].example()
    x = torch.cat([x, x.flip(0), x[:1]])  # another batch size than the example's
    x = x.double() if x.is_floating_point() else x
    alignment = random_alignment(symmetry, generator_for(name))
    load_into(twin, alignment.apply(model.state_dict()))
    before, after = record(model, symmetry, x), record(twin, symmetry, x)
    assert [site for site, _ in before] == list(symmetry.sites) == [site for site, _ in after]
    for (site, old), (_, new) in zip(before, after, strict=True):
        for group in site.groups:
            index = alignment.permutations[group].index
            parents = old_parents(symmetry, symmetry.groups[group], alignment.permutations)
            rows = site.units(old, group)[(*(parent[..., None] for parent in parents), index)]
            if len(site.groups) == 1:
                torch.testing.assert_close(site.units(new, group), rows, rtol=0, atol=1e-10)
            else:
                torch.testing.assert_close(site.units(new, group).sum(-1), rows.sum(-1), rtol=0, atol=1e-9)


def test_every_group_of_resnet20_is_seen_and_the_stream_many_times() -> None:
    _, _, symmetry = family("resnet20")
    count = {name: sum(name in site.groups for site in symmetry.sites) for name in symmetry.groups}
    assert min(count.values()) >= 3
    assert count["conv1.weight"] >= 3 + 3 * 4  # stem, then conv2, bn2, sum and relu of every block
    names = [site.name for site in symmetry.sites]
    assert "layer1.0:add" in names
    assert len(names) == len(set(names)) == 71


def test_in_place_relu_does_not_reach_what_a_site_saw() -> None:
    model, symmetry = solved("residual-batchnorm")
    model.eval()
    seen = {site.name: tensor for site, tensor in record(model, symmetry, image())}
    assert (seen["bn1"] < 0).any()
    assert (seen[":add"] < 0).any()
    assert (seen[":relu"] >= 0).all()


def test_a_module_called_twice_is_seen_twice() -> None:
    _, symmetry = solved("shared-twice")
    assert {"shared", "shared#2"} <= {site.name for site in symmetry.sites}


def test_the_output_of_a_recurrent_layer_is_a_site() -> None:
    model, symmetry = solved("lstm")
    ((site, seen),) = record(model.eval(), symmetry, CASES["lstm"].example())
    assert (site.name, site.groups, tuple(seen.shape)) == ("lstm", ("lstm.weight_ih_l0",), (2, 4, 6))


def test_capture_sees_every_forward_and_leaves_no_trace() -> None:
    model, symmetry = solved("concat")
    model.eval()
    seen: list[str] = []
    with torch.no_grad(), capture(model, symmetry.sites, lambda site, tensor: seen.append(site.name)):
        model(image())
        model(image()[:1])
    assert seen == [site.name for site in symmetry.sites] * 2
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_operators_called_on_site_are_not_counted() -> None:
    model, symmetry = solved("concat")
    model.eval()
    seen: list[str] = []

    def look(site: Site, tensor: Tensor) -> None:
        seen.append(site.name)
        torch.relu(tensor).add(1).mul(2)

    with torch.no_grad(), capture(model, symmetry.sites, look):
        model(image())
    assert seen == [site.name for site in symmetry.sites]


def test_units_of_products_and_sums() -> None:
    model, symmetry = solved("concat")
    model.eval()
    seen = {site.name: (site, tensor) for site, tensor in record(model, symmetry, image())}
    site, joined = seen[":cat"]
    assert site.groups == ("a.weight", "b.weight")
    torch.testing.assert_close(site.units(joined, "b.weight"), joined[:, 4:].movedim(1, 0).reshape(5, -1))
    torch.testing.assert_close(site.units(joined, "a.weight"), joined[:, :4].movedim(1, 0).reshape(4, -1))
    layout = solved("conv-flatten-linear")[1].layouts["fc.weight"]
    flat = Site("flat", "", "", 0, layout)
    weight = torch.arange(4.0 * 54).reshape(4, 54)
    rows = flat.units(weight, "conv.weight")
    assert sorted(rows[2].tolist()) == sorted(weight[:, 18:27].flatten().tolist())


def test_a_tensor_of_another_shape_is_refused() -> None:
    model, symmetry = solved("concat")
    model.eval()
    site = symmetry.sites[0]
    with pytest.raises(SymmetryError, match=r"saw a tensor of shape \(2, 3\), expected \(2, 4, 8, 8\)"):
        site.units(torch.zeros(2, 3), site.groups[0])
    with pytest.raises(SymmetryError, match=r"does not show group 'b\.weight', only a\.weight"):
        site.units(torch.zeros(2, 4, 8, 8), "b.weight")
