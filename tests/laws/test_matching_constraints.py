"""Laws of constrained and partial matching: what is fixed stays, blocks stay whole, masks keep their pattern."""

import copy
import dataclasses
import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.errors import AlignmentError, InputError, MaskError
from reticket.matching.constraints import Rule, constrained
from reticket.matching.forest import GroupForest, SimilarityScores, drawn
from reticket.matching.partial import matched_scores
from reticket.matching.registry import MATCHERS, matcher
from reticket.matching.soft import barycentre
from reticket.rng import generator_for
from reticket.symmetry.model_tensors import named_state

FIRST, SECOND = "0.weight", "2.weight"
METHODS = ("activation", "weight", "combined", "frank-wolfe", "refine", "random", "identity")
RULES = (
    Rule(),
    Rule(frozenset({1, 4})),
    Rule(block=2),
    Rule(block=3),
    Rule(block=2, ordered=True),
    Rule(frozenset({2}), 2),
    Rule(frozenset({0, 1}), 2, True),
    Rule(frozenset(range(6))),
)


def net(label: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, label)))
        return nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(80, 5, generator=generator_for("constraints"))
    return [(part, part[:, :3].argmax(dim=1)) for part in x.split(40)]


@functools.cache
def symmetry() -> rt.Symmetry:
    return rt.discover(net("a"), torch.randn(2, 5), verify=False)


def matched(method: str = "activation", **limits: Any) -> rt.Alignment:
    a, b = net("a"), net("b")
    options = {"steps": 8} if method == "refine" else {}
    return rt.match(a, b, symmetry(), batches(), method=method, **options, **limits)


@pytest.mark.parametrize("rule", RULES)
def test_it_is_the_best_permitted_permutation(rule: Rule) -> None:
    for draw in range(3):
        scores = torch.randn(6, 6, generator=generator_for("scores", draw), dtype=torch.float64)
        orders = [torch.tensor(order) for order in itertools.permutations(range(6))]
        values = [float(scores[order, torch.arange(6)].sum()) for order in orders if rule.permits(order)]
        found = rule.assign(scores)
        assert rule.permits(found)
        assert float(scores[found, torch.arange(6)].sum()) == pytest.approx(max(values))


def test_large_blocks_are_as_exact_as_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(12, 12, generator=generator_for("large"), dtype=torch.float64)
    tried = Rule(block=3).assign(scores)
    monkeypatch.setattr("reticket.matching.constraints.EVERY_ORDER", 1)
    assert torch.equal(Rule(block=3).assign(scores), tried)


@pytest.mark.slow
def test_a_tree_is_solved_exactly_under_its_rules() -> None:
    """Two heads of four channels whose channels move in pairs: every permitted element is tried."""
    vit = rt.build_model("vit", in_features=16, width=8, depth=1, heads=2)
    attention = rt.discover(vit, torch.randn(2, 16))
    heads, channels = next((g.parents[-1], g.name) for g in attention.groups.values() if g.parents)
    sizes = (attention.groups[heads].size, attention.groups[channels].size)
    narrow = constrained(attention, blocks={channels: 2})
    scores = torch.randn(2 * sizes, generator=generator_for("tree"), dtype=torch.float64)
    found = GroupForest(narrow, {channels: SimilarityScores((heads,), scores)}).assign()
    rule = Rule(block=2)
    inner = [torch.tensor(p) for p in itertools.permutations(range(sizes[1])) if rule.permits(torch.tensor(p))]
    new = torch.arange(sizes[1])
    best = max(
        sum(max(float(scores[old, order, head, new].sum()) for order in inner) for head, old in enumerate(outer))
        for outer in itertools.permutations(range(sizes[0]))
    )
    old = found[heads].index
    value = sum(float(scores[int(old[head]), found[channels].index[head], head, new].sum()) for head in range(sizes[0]))
    assert value == pytest.approx(best)
    assert rule.permits(found[channels].index)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("limits", "rules"),
    [
        ({"fixed": SECOND}, {SECOND: Rule(frozenset(range(8)))}),
        ({"fixed": {FIRST: [0, 5]}}, {FIRST: Rule(frozenset({0, 5}))}),
        ({"blocks": 4}, {FIRST: Rule(block=4), SECOND: Rule(block=4)}),
        ({"ordered_blocks": {FIRST: 3}, "blocks": {SECOND: 2}}, {FIRST: Rule(block=3, ordered=True)}),
        ({"fixed": {FIRST: [4]}, "ordered_blocks": {FIRST: 3}}, {FIRST: Rule(frozenset({3, 4, 5}), 3, True)}),
    ],
)
def test_every_method_keeps_to_them(method: str, limits: dict[str, Any], rules: dict[str, Rule]) -> None:
    alignment = matched(method, **limits)
    assert all(rule.permits(alignment.permutations[name].index) for name, rule in rules.items())
    assert type(alignment.symmetry) is rt.Symmetry


def test_without_them_units_would_move() -> None:
    index = matched().permutations[FIRST].index
    assert not any(rule.permits(index) for rule in (Rule(frozenset({0, 5, 7})), Rule(block=4), Rule(block=3)))


def test_a_start_is_brought_to_what_is_permitted() -> None:
    start = matched("random")
    assert Rule(block=4).permits(matched("weight", start=start, blocks=4).permutations[FIRST].index)
    assert not Rule(block=4).permits(start.permutations[FIRST].index)


@pytest.mark.slow
def test_several_networks_keep_to_them_too() -> None:
    networks = [net(label) for label in "abc"]
    sym = symmetry()
    for method in ("activation", "weight", "frank-wolfe"):
        frame = rt.match_many(networks, sym, batches(), method, blocks=4)
        assert all(Rule(block=4).permits(one.permutations[FIRST].index) for one in frame)
    for one in rt.match_each(networks[0], networks[1:], sym, batches(), fixed=[FIRST], leave_out=0.25):
        assert one.permutations[FIRST].is_identity
        assert int(one.left_out[SECOND].sum()) == 2


def test_draws_are_of_all_that_is_permitted() -> None:
    """Each of the eight orders of two blocks of two occurs, none of the others."""
    sym = rt.discover(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 3))
    narrow = constrained(sym, blocks=2)
    generator = generator_for("draws")
    found = [tuple(drawn(narrow, generator).permutations[FIRST].index.tolist()) for _ in range(400)]
    counts = {one: found.count(one) for one in found}
    assert len(counts) == 8
    assert min(counts.values()) > 25


def test_the_middle_of_all_permitted_permutations() -> None:
    sym = symmetry()
    shares = barycentre(constrained(sym, fixed={FIRST: [2]}, ordered_blocks={SECOND: 4}))
    torch.testing.assert_close(shares[FIRST][2], torch.eye(12)[2])
    torch.testing.assert_close(shares[FIRST][0, [0, 2]], torch.tensor([1 / 11, 0.0]))
    torch.testing.assert_close(shares[SECOND], torch.eye(4).repeat(2, 2) / 2)


@pytest.mark.parametrize("method", ["activation", "weight"])
def test_a_mask_of_n_of_m_stays_one(method: str) -> None:
    """Two of four inputs of every unit are kept: so they are after the move, wherever blocks of four moved whole."""
    pattern = torch.rand(8, 3, 4, generator=generator_for("2:4")).argsort(dim=-1) < 2
    mask = rt.Mask({SECOND: pattern.reshape(8, 12)})
    assert two_of_four(matched(method, blocks={FIRST: 4}).apply(mask))
    assert not two_of_four(matched(method).apply(mask)), "else the law could not fail"


def two_of_four(mask: rt.Mask) -> bool:
    return bool((mask[SECOND].unflatten(1, (-1, 4)).sum(dim=-1) == 2).all())


def test_whole_blocks_of_weights_stay_whole() -> None:
    kept = torch.rand(2, 3, generator=generator_for("blocks")) < 0.5
    mask = rt.Mask({SECOND: kept.repeat_interleave(4, dim=0).repeat_interleave(4, dim=1)})
    moved = matched(blocks=4).apply(mask)[SECOND].unflatten(1, (-1, 4)).unflatten(0, (-1, 4))
    assert bool((moved == moved[:, :1, :, :1]).all())


def test_positions_inside_blocks_stay_where_order_is_kept() -> None:
    index = matched(ordered_blocks=4).permutations[FIRST].index
    assert (index % 4).tolist() == [0, 1, 2, 3] * 3


def test_a_matcher_that_does_not_look_at_rules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_units(models_a: Any, models_b: Any, sym: rt.Symmetry) -> rt.Alignment:
        """Turn every group around."""
        return rt.Alignment(sym, {n: rt.Permutation(torch.arange(g.size).flip(0)) for n, g in sym.groups.items()})

    monkeypatch.setattr(MATCHERS, "_members", dict(MATCHERS._members))
    matcher("reversed")(reversed_units)
    assert Rule(block=4).permits(matched("reversed", blocks=4).permutations[FIRST].index)
    with pytest.raises(AlignmentError, match=r"^matcher 'reversed' moved group '0.weight' in a way that fixed"):
        matched("reversed", fixed=[FIRST])


def test_an_option_that_every_matcher_has_is_none_of_its_own() -> None:
    def own(models_a: Any, models_b: Any, sym: rt.Symmetry, *, fixed: bool = False) -> rt.Alignment:
        """Have an option of that name."""
        return rt.identity_alignment(sym)

    with pytest.raises(
        InputError, match=r"and are none of fixed, blocks, ordered_blocks, leave_out, which every matcher"
    ):
        matcher("own")(own)


def test_the_worst_units_are_left_out() -> None:
    whole, partial = matched(), matched(leave_out=0.25)
    assert partial.permutations == whole.permutations
    scores = matched_scores(whole, (net("a"),), (net("b"),), batches())
    for name, count in ((FIRST, 3), (SECOND, 2)):
        flags = partial.left_out[name]
        assert int(flags.sum()) == count
        assert float(scores[name][flags].max()) < float(scores[name][~flags].min())
    assert not matched(leave_out=0.0).left_out


def test_scores_without_data_are_those_of_weights() -> None:
    a, found = net("a"), matched("weight")
    same = rt.identity_alignment(found.symmetry)
    alone = matched_scores(same, (a,), (copy.deepcopy(a),), None)
    assert alone.keys() == {FIRST, SECOND}
    assert set(matched("weight", leave_out=0.25).left_out) == {FIRST, SECOND}
    assert all(name in named_state(a) for name in alone)


def test_left_out_units_take_the_largest_weights_of_b() -> None:
    b, alignment = net("b"), matched(leave_out=0.25)
    mask = rt.prune_magnitude(net("a"), density=0.3)
    moved, plain = rt.transfer(mask, alignment, b), alignment.whole().apply(mask)
    for name in mask:
        entries = alignment.left_out_in(name)
        assert entries is not None
        weight = b.state_dict()[name].abs()[entries]
        kept = moved[name][entries]
        assert int(kept.sum()) == int(plain[name][entries].sum())
        assert kept.all() or not kept.any() or float(weight[kept].min()) >= float(weight[~kept].max())
        assert torch.equal(moved[name][~entries], plain[name][~entries])
    assert moved.kept == mask.kept
    assert moved != plain


def test_entries_of_left_out_units_are_their_rows_and_columns() -> None:
    alignment = matched(leave_out=0.25)
    rows, columns = alignment.left_out[SECOND], alignment.left_out[FIRST]
    assert torch.equal(alignment.left_out_in(SECOND), rows[:, None] | columns)  # pyright: ignore[reportArgumentType]
    assert torch.equal(alignment.left_out_in("0.bias"), columns)  # pyright: ignore[reportArgumentType]
    assert alignment.left_out_in("4.bias") is None


def test_a_ticket_has_the_signs_of_b_there() -> None:
    a, b, alignment = net("a"), net("b"), matched(leave_out=0.25)
    ticket = rt.Ticket.of(a, rt.prune_magnitude(a, density=0.3))
    moved, entries = rt.transfer(ticket, alignment, b), alignment.left_out_in(SECOND)
    assert moved.signs is not None
    assert entries is not None
    kept = entries & moved.mask[SECOND]
    torch.testing.assert_close(moved.signs[SECOND][kept].float(), b.state_dict()[SECOND][kept].sign())
    assert moved.mask == rt.transfer(ticket.mask, alignment, b)


def test_nothing_left_out_needs_no_weights() -> None:
    mask = rt.prune_magnitude(net("a"), density=0.3)
    assert rt.transfer(mask, matched()) == matched().apply(mask)
    with pytest.raises(InputError, match=r"^the alignment leaves units out, .*; give them as weights=$"):
        rt.transfer(mask, matched(leave_out=0.25))
    with pytest.raises(MaskError):
        rt.transfer(mask, matched(leave_out=0.25), {"other": torch.ones(2)})


def test_what_is_left_out_follows_the_laws_of_the_group() -> None:
    first, second = matched(leave_out=0.25), rt.random_alignment(matched().symmetry, 3)
    back = first.inverse()
    for name, flags in first.left_out.items():
        assert torch.equal(back.left_out[name][first.permutations[name].index], flags)
        assert torch.equal(back.inverse().left_out[name], flags)
        assert torch.equal(second.after(first).left_out[name], flags[second.permutations[name].index])
        assert torch.equal(first.after(back).left_out[name], flags)
    assert not second.after(second).left_out


def test_it_is_saved(tmp_path: Any) -> None:
    alignment = matched(leave_out=0.25)
    alignment.save(tmp_path / "al.safetensors")
    again = rt.Alignment.load(tmp_path / "al.safetensors")
    assert {name: flags.tolist() for name, flags in again.left_out.items()} == {
        name: flags.tolist() for name, flags in alignment.left_out.items()
    }
    assert again.permutations == alignment.permutations
    matched().save(tmp_path / "old.safetensors")
    assert not rt.Alignment.load(tmp_path / "old.safetensors").left_out


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            {"fixed": ["0.wieght"]},
            r"^fixed names the group '0.wieght', which the symmetry has not, did you mean '0.weight'",
        ),
        ({"fixed": {FIRST: [12]}}, r"^fixed has the unit 12 of group '0.weight', but whole numbers from 0 to 11 were"),
        ({"blocks": 5}, r"^blocks moves 5 units of group '0.weight' at a time, but it has 12; give a number that div"),
        ({"ordered_blocks": {SECOND: 3}}, r"^ordered_blocks moves 3 units of group '2.weight' at a time, but it has 8"),
        ({"blocks": {"fc": 2}}, r"^blocks names the group 'fc', which the symmetry has not; its groups are 0.weight"),
        ({"blocks": 4, "ordered_blocks": {FIRST: 2}}, r"^group '0.weight' is in blocks and in ordered_blocks; leave"),
        ({"blocks": 0}, r"^blocks has the size 0, but a number of units, 1 or more, was expected$"),
        ({"leave_out": 1.0}, r"^leave_out is 1.0, but a share of units from 0 to below 1 was expected, as 0.1$"),
        ({"block": 4}, r"^matcher 'activation' has no option 'block', did you mean 'blocks'\?; it has cost"),
    ],
)
def test_wrong_limits(limits: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        matched(**limits)


def test_left_out_must_fit() -> None:
    alignment = matched()
    for flags in (torch.ones(3, dtype=torch.bool), torch.ones(12)):
        with pytest.raises(AlignmentError, match=r"^left_out of group '0.weight' is torch\.(bool|float32) of shape"):
            dataclasses.replace(alignment, left_out={FIRST: flags})
