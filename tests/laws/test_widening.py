"""Laws of tickets across width: factor 1 is the ordinary transfer, planted repetitions come back, counts are exact."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from reticket import Mask, Ticket, build_model, discover, generator_for, match, prune_magnitude
from reticket.errors import AlignmentError, InputError, MaskError
from reticket.matching import assign_repeated, match_wider
from reticket.symmetry import Symmetry, Widening, load_into
from reticket.symmetry.terms import Atom
from reticket.tickets import signs_of, transfer, widen

X = torch.randn(96, 12, generator=generator_for("wider", "x"))
IMAGES = torch.randn(24, 1, 12, 12, generator=generator_for("wider", "images"))
SIZES = {"mlp": ((5, 7), (10, 21)), "conv-small": ((2, 3, 3, 4), (4, 9, 6, 8))}


def model(name: str, seed: int, *, wide: bool) -> nn.Module:
    size = SIZES[name][wide]
    params = {"in_features": 12, "hidden": size, "classes": 3} if name == "mlp" else {"widths": size, "classes": 3}
    return build_model(name, generator=generator_for(seed, "init"), **params)


def inputs(name: str) -> Tensor:
    return X if name == "mlp" else IMAGES


def planted(a: nn.Module, wide: Symmetry, narrow: Symmetry, name: str, seed: int) -> tuple[nn.Module, Widening]:
    """Return A made wider so that its function stays, its units repeated and in an order drawn at random."""
    source = generator_for("planted", seed)
    sources = {}
    for group in wide.groups.values():
        n = narrow.groups[group.name].size
        sources[group.name] = torch.randperm(group.size, generator=source) % n
    widening = Widening(narrow, wide, sources)
    carried = widening.apply(dict(a.state_dict()))
    for key, layout in wide.layouts.items():
        if len(layout) < 2:
            continue
        if isinstance(leaving := layout[1], Atom):
            often = torch.bincount(sources[str(leaving.key)])[sources[str(leaving.key)]]
            carried[key] = carried[key] / often.reshape(1, -1, *[1] * (len(layout) - 2))
    b = model(name, 9, wide=True)
    load_into(b, carried)
    return b, widening


@pytest.mark.parametrize("name", SIZES)
def test_a_network_that_was_made_wider_gets_its_repetition_back(name: str) -> None:
    a, x = model(name, 1, wide=False), inputs(name)
    narrow, wide = discover(a, x[:2]), discover(model(name, 2, wide=True), x[:2])
    b, expected = planted(a, wide, narrow, name, 3)
    assert_close(b.eval()(x), a.eval()(x), rtol=1e-4, atol=1e-5)
    found = match_wider(a, b, narrow, wide, [x[:48], x[48:]] if name == "mlp" else [x])
    assert all(torch.equal(found.sources[group], index) for group, index in expected.sources.items())
    assert all(value == pytest.approx(1, abs=1e-4) for value in found.correlation.values())
    other = {group: index.roll(1) for group, index in expected.sources.items()}
    assert not any(torch.equal(other[group], found.sources[group]) for group in other)


@pytest.mark.parametrize("name", SIZES)
def test_factor_1_is_the_ordinary_transfer(name: str) -> None:
    a, b, x = model(name, 1, wide=True), model(name, 2, wide=True), inputs(name)
    sym = discover(a, x[:2])
    ordinary = match(a, b, sym, [x], stop="never")
    found = match_wider(a, b, sym, sym, [x])
    assert all(torch.equal(found.sources[group], p.index) for group, p in ordinary.permutations.items())
    assert found.correlation == pytest.approx({g: q.correlation for g, q in ordinary.quality.items()})
    ticket = Ticket.of(a, prune_magnitude(a, 0.3))
    moved, expected = widen(ticket, found), transfer(ticket, ordinary)
    assert all(torch.equal(moved.tensors()[key], one) for key, one in expected.tensors().items())
    assert any(not torch.equal(ticket.tensors()[key], one) for key, one in expected.tensors().items())


@pytest.mark.parametrize("name", SIZES)
def test_whole_multiples_keep_the_density_of_every_tensor_and_need_no_weights(name: str) -> None:
    a, b, x = model(name, 1, wide=False), model(name, 2, wide=True), inputs(name)
    narrow, wide = discover(a, x[:2]), discover(b, x[:2])
    mask = prune_magnitude(a, 0.3)
    widening = match_wider(a, b, narrow, wide, [x])
    moved = widen(mask, widening)
    assert moved.per_layer() == mask.per_layer()
    assert moved.keys() == mask.keys()
    apart = widening.apply(mask.apply_to({key: t.detach() for key, t in a.named_parameters()}))
    whole = moved.apply_to(widening.apply({key: t.detach() for key, t in a.named_parameters()}))
    assert_close(apart, whole, rtol=0, atol=0)


def test_where_units_stand_unequally_often_b_says_which_weights_make_the_count() -> None:
    a, b = (build_model("mlp", generator=n, in_features=12, hidden=(5 + 2 * n,), classes=3) for n in (0, 1))
    narrow, wide = discover(a, X[:2]), discover(b, X[:2])
    widening = match_wider(a, b, narrow, wide, [X])
    for density in (0.1, 0.35, 0.6):
        mask = prune_magnitude(a, density, scope="layer")
        ticket = Ticket(mask, signs_of(a, mask))
        with pytest.raises(InputError, match=r"stand unequally often, and which of its \d+ kept weights make \d+"):
            widen(ticket, widening)
        moved, repeated = widen(ticket, widening, b), widening.apply(ticket)
        for key, kept in moved.mask.items():
            before, weight = repeated.mask[key], b.state_dict()[key].abs()
            assert int(kept.sum()) == int(mask[key].sum() / mask[key].numel() * kept.numel() + 0.5)
            gone, come = before & ~kept, kept & ~before
            assert not (gone.any() and come.any())
            if gone.any():
                assert weight[gone].max() <= weight[kept].min()
            if come.any():
                assert weight[come].min() >= weight[~kept].max()
            signs = moved.tensors()[key]
            assert torch.equal(signs[come].float(), b.state_dict()[key][come].sign())
            assert torch.equal(signs[kept & before], repeated.tensors()[key][kept & before])


@pytest.mark.parametrize(("n", "m"), [(2, 5), (3, 4), (2, 4), (3, 3), (1, 3)])
def test_the_assignment_is_the_best_of_all_that_give_every_unit_its_share(n: int, m: int) -> None:
    for seed in range(5):
        scores = torch.rand(n, m, generator=generator_for("repeated", n, m, seed), dtype=torch.float64) * 2 - 1
        shares = sorted([m // n + 1] * (m % n) + [m // n] * (n - m % n))
        fair = [s for s in product(range(n), repeat=m) if sorted(s.count(i) for i in range(n)) == shares]
        best = max(sum(float(scores[i, j]) for j, i in enumerate(s)) for s in fair)
        found = assign_repeated(scores)
        assert sorted(torch.bincount(found, minlength=n).tolist()) == shares
        assert float(scores.gather(0, found[None]).sum()) == pytest.approx(best)


def test_messages() -> None:
    a, b = model("mlp", 1, wide=False), model("mlp", 2, wide=True)
    narrow, wide = discover(a, X[:2]), discover(b, X[:2])
    with pytest.raises(AlignmentError, match=r"has 10 units in the narrow model and 5 in the wide one; give the wider"):
        match_wider(b, a, wide, narrow, [X])
    other = build_model("mlp", in_features=12, hidden=(5, 7, 7), classes=3)
    with pytest.raises(AlignmentError, match=r"'layers.2.weight' is in one of the two models only"):
        match_wider(a, other, narrow, discover(other, X[:2]), [X])
    other = build_model("mlp", in_features=12, hidden=(5, 7), classes=4)
    with pytest.raises(AlignmentError, match=r"axis 0 of 'layers.2.weight' is 3 in the narrow model and 4 in the wide"):
        match_wider(a, other, narrow, discover(other, X[:2]), [X])
    with pytest.raises(AlignmentError, match="matching got no batches"):
        match_wider(a, b, narrow, wide, [])
    sources = {name: torch.arange(group.size) % narrow.groups[name].size for name, group in wide.groups.items()}
    first = next(iter(sources))
    with pytest.raises(AlignmentError, match=r"are no 10 units of 5, each as often as the widths ask for \(2 times, 0"):
        Widening(narrow, wide, {**sources, first: sources[first].clamp(max=3)})
    with pytest.raises(AlignmentError, match=r"sources are given of \[\]; give one for each of"):
        Widening(narrow, wide, {})
    widening = Widening(narrow, wide, sources)
    assert repr(widening) == "Widening(layers.0.weight 5 -> 10, layers.1.weight 7 -> 21)"
    with pytest.raises(AlignmentError, match=r"'layers.0.weight' of shape \(10, 12\) is no tensor of the narrow"):
        widen(prune_magnitude(b, 0.5), widening)
    mask = prune_magnitude(a, 0.5)
    assert widen(mask, widening, b) == widen(mask, widening, dict(b.state_dict())) != mask
    for hidden in ((5, 7), (10, 21, 7), (15, 21), (10, 14)):
        of_another = build_model("mlp", in_features=12, hidden=hidden, classes=3)
        with pytest.raises(MaskError, match=r"leads to a network whose '.*' has shape \(.*\), but in the weights"):
            widen(mask, widening, of_another)
        with pytest.raises(MaskError, match=r"leads to a network whose"):
            widen(Ticket.of(a, mask), widening, of_another)
    with pytest.raises(MaskError, match="the mask belongs to another model"):
        widen(mask, widening, torch.nn.Linear(12, 10))
    assert widen(Mask({"layers.0.bias": torch.ones(5, dtype=torch.bool)}), widening).kept == 10
