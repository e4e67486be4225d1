"""Laws of matching several networks at once, and of merging them."""

import copy
import functools
import itertools
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.errors import AlignmentError, InputError
from reticket.matching.correlations import activation_similarity
from reticket.matching.frank_wolfe import UniverseObjective
from reticket.matching.slices import comparable_state
from reticket.matching.soft import corner
from reticket.rng import generator_for
from reticket.symmetry.model_tensors import named_state
from tests.generic_models import SHAPES, generic
from tests.laws.test_matching_weights import network, symmetry


def data(name: str) -> list[Tensor]:
    shape = SHAPES.get(name, (4, 5))
    return [torch.randn(48, *shape, generator=generator_for("data", k)) for k in range(2)]


@functools.cache
def copies(name: str) -> tuple[list[nn.Module], list[rt.Alignment]]:
    """Return a network three times, with its units in another order each time, and these orders."""
    orders = [rt.random_alignment(symmetry(name), number) for number in range(3)]
    networks = [network(name, "a") for _ in orders]
    for model, order in zip(networks, orders, strict=True):
        rt.load_into(model, order.apply(model.state_dict()))
    return networks, orders


@pytest.mark.slow_cases(but=["mlp-activation", "mlp-weight"])
@pytest.mark.parametrize("method", ["activation", "weight", "combined"])
@pytest.mark.parametrize("name", ["mlp", "conv-small", "encoder"])
def test_planted_orders_are_found(name: str, method: str) -> None:
    networks, orders = copies(name)
    frame = rt.match_many(networks, symmetry(name), None if method == "weight" else iter(data(name)), method)
    for i, j in itertools.permutations(range(3), 2):
        assert frame.between(i, j).permutations == orders[j].after(orders[i].inverse()).permutations
    assert frame.alignments[0].permutations == rt.identity_alignment(symmetry(name)).permutations
    assert all(q.correlation > 0.99 for alignment in frame for q in alignment.quality.values())


@pytest.mark.slow_cases(but=["mlp-weight"])
@pytest.mark.parametrize("method", ["activation", "weight", "random"])
@pytest.mark.parametrize("name", ["mlp", "encoder"])
def test_a_way_by_a_third_network_is_the_direct_way(name: str, method: str) -> None:
    networks = [network(name, label) for label in "abc"]
    frame = rt.match_many(networks, symmetry(name), data(name), method)
    for i, j, k in itertools.permutations(range(3), 3):
        assert frame.between(j, k).after(frame.between(i, j)).permutations == frame.between(i, k).permutations
    assert len(frame) == 3
    copied = pickle.loads(pickle.dumps(frame))
    assert [one.permutations for one in copied] == [one.permutations for one in frame]


@pytest.mark.parametrize("name", ["mlp", "conv-small"])
def test_planted_orders_are_found_all_at_once(name: str) -> None:
    networks, orders = copies(name)
    frame = rt.match_many(networks, symmetry(name), method="frank-wolfe", iterations=50)
    for i, j in itertools.permutations(range(3), 2):
        assert frame.between(i, j).permutations == orders[j].after(orders[i].inverse()).permutations


def test_the_objective_of_all_at_once_is_the_sum_of_all_pairs() -> None:
    """At permutations it is the sum of products of every two networks; a step never lowers it."""
    sym, networks = symmetry("mlp"), [network("mlp", label) for label in "abc"]
    states = [comparable_state(sym, named_state(model)) for model in networks]
    objective = UniverseObjective(sym, states)
    orders = [rt.random_alignment(sym, number) for number in range(3)]
    moved = [order.apply(state) for order, state in zip(orders, states, strict=True)]
    pairs = itertools.combinations(moved, 2)
    expected = sum(float((a[name].double() * b[name]).sum()) for a, b in pairs for name in states[0])
    corners = [corner(sym, order.permutations) for order in orders]
    assert float(objective.value(corners)) == pytest.approx(expected, rel=1e-5)
    every, gain = objective.step(corners)
    assert gain > 0
    assert float(objective.value(every)) == pytest.approx(expected + gain, rel=1e-4)


def test_all_at_once_is_better_than_the_frame_that_pairs_agree_on() -> None:
    """Untrained networks have one best frame at most by chance, and pairs do not agree on any."""
    sym, networks = symmetry("mlp"), [network("mlp", label) for label in "abc"]
    states = [comparable_state(sym, named_state(model)) for model in networks]
    objective = UniverseObjective(sym, states)

    def value(alignments: Sequence[rt.Alignment]) -> float:
        return float(objective.value([corner(sym, one.permutations) for one in alignments]))

    together = value(rt.match_many(networks, sym, method="frank-wolfe").alignments)
    onto_first = [rt.match(one, networks[0], sym, method="frank-wolfe") for one in networks[1:]]
    assert together > value([rt.identity_alignment(sym), *onto_first])


@pytest.mark.slow
def test_all_pairs_together_are_as_alike_as_can_be() -> None:
    """Three networks of one layer of three units: all 36 frames, tried one by one."""
    networks = [
        rt.build_model("mlp", in_features=4, hidden=(3,), classes=2, generator=generator_for(label)) for label in "abc"
    ]
    batch = torch.randn(64, 4, generator=generator_for("x"))
    sym = rt.discover(networks[0], batch[:2], verify=False)
    (group,) = sym.groups
    scores = {
        (i, j): activation_similarity(networks[i : i + 1], networks[j : j + 1], sym, [batch]).found[group].scores
        for i, j in itertools.combinations(range(3), 2)
    }

    def value(orders: tuple[tuple[int, ...], ...]) -> float:
        return sum(float(own[list(orders[i]), list(orders[j])].sum()) for (i, j), own in scores.items())

    every = [((0, 1, 2), *pair) for pair in itertools.product(itertools.permutations(range(3)), repeat=2)]
    frame = rt.match_many(networks, sym, [batch])
    found = tuple(tuple(one.permutations[group].index.tolist()) for one in frame)
    assert value(found) == pytest.approx(max(map(value, every)))


def test_pair_by_pair_the_three_do_not_agree() -> None:
    """That the law above is no matter of course."""
    networks, sym = [network("mlp", label) for label in "abc"], symmetry("mlp")
    ab, bc, ac = (rt.match(networks[i], networks[j], sym, data("mlp")) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert bc.after(ab).permutations != ac.permutations


@pytest.mark.parametrize(
    ("count", "method", "options", "error", "words"),
    [
        (1, "weight", {}, InputError, r"^match_many needs a list of two networks or more; use match"),
        (2, "activation", {}, InputError, r"^matcher 'activation' needs batches of inputs"),
        (2, "wieght", {}, InputError, r"^unknown matcher 'wieght', did you mean 'weight'\?"),
        (
            2,
            "weight",
            {"cost": "cosine"},
            InputError,
            r"^matcher 'weight' has no option 'cost'; it has restarts, and as all do fixed, blocks,",
        ),
        (
            2,
            "weight",
            {"restarts": 1},
            InputError,
            r"^match_many by 'weight' takes no option, but got 'restarts'; leave",
        ),
        (
            2,
            "activation",
            {"batches": [], "cost": "cosine"},
            InputError,
            r"^match_many by 'activation' takes to_inputs and held_bytes, but got 'cost'; leave it out$",
        ),
        (2, "activation", {"batches": []}, AlignmentError, r"^matching got no batches"),
    ],
)
def test_wrong_calls(count: int, method: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    networks = [network("mlp", label) for label in "abc"[:count]]
    with pytest.raises(error, match=words):
        rt.match_many(networks, symmetry("mlp"), options.pop("batches", None), method, **options)


def test_a_frame_of_other_symmetries_is_refused() -> None:
    one = rt.identity_alignment(symmetry("mlp"))
    with pytest.raises(InputError, match="needs two networks or more, got 1 alignments"):
        rt.CommonFrame((one,))
    with pytest.raises(InputError, match="are of different symmetries"):
        rt.CommonFrame((one, rt.identity_alignment(symmetry("conv-small"))))


# ---------------------------------------------------------------- merging


def test_the_merge_of_copies_is_the_network() -> None:
    networks, _ = copies("mlp")
    frame = rt.match_many(networks, symmetry("mlp"), method="weight")
    for batches in (None, data("mlp")):
        merged = rt.merge(networks[0], networks, frame, batches)
        for name, tensor in networks[0].state_dict().items():
            torch.testing.assert_close(merged[name], tensor, rtol=1e-4, atol=1e-5)
    plain = rt.merge(networks[0], networks, [rt.identity_alignment(symmetry("mlp"))] * 3)
    assert not torch.allclose(plain["layers.0.weight"], networks[0].state_dict()["layers.0.weight"], atol=0.05)


def test_a_merge_takes_its_shares() -> None:
    networks = [generic("mlp", label) for label in "ab"]
    still = [rt.identity_alignment(symmetry("mlp"))] * 2
    merged = rt.merge(networks[0], networks, still, weights=[0.25, 0.75])
    a, b = (model.state_dict()["layers.0.weight"] for model in networks)
    torch.testing.assert_close(merged["layers.0.weight"], 0.25 * a + 0.75 * b)
    repaired = rt.merge(networks[0], networks, still, data("mlp"), weights=[0.25, 0.75])
    expected = rt.repair(networks[0], networks, [0.25, 0.75], data("mlp"))
    assert all(torch.equal(repaired[name], tensor) for name, tensor in expected.items())


def test_models_are_left_as_they_were_by_a_merge() -> None:
    networks, _ = copies("conv-small")
    before = [copy.deepcopy(model.state_dict()) for model in networks]
    frame = rt.match_many(networks, symmetry("conv-small"), data("conv-small"))
    rt.merge(networks[0], networks, frame, data("conv-small"))
    for model, state in zip(networks, before, strict=True):
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("alignments", "weights", "words"),
    [
        (2, None, r"^merge got 3 networks and 2 alignments; give one for each network$"),
        (3, [0.5, 0.5], r"^merge got 3 networks and 2 weights; give one for each network$"),
    ],
)
def test_wrong_merges(alignments: int, weights: list[float] | None, words: str) -> None:
    networks, _ = copies("mlp")
    with pytest.raises(InputError, match=words):
        rt.merge(networks[0], networks, [rt.identity_alignment(symmetry("mlp"))] * alignments, weights=weights)
    with pytest.raises(InputError, match=r"^merge needs a list of two networks or more$"):
        rt.merge(networks[0], networks[:1], [])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["identity", "random"])
def test_what_pairs_vote_for_is_judged_by_what_units_do(method: str) -> None:
    """A frame that nobody looked for says so: its quality is the correlation of matched units, no share of votes."""
    models = [rt.build_model("mlp", generator=seed) for seed in range(3)]
    sym = rt.discover(models[0], torch.zeros(2, 64))
    x = torch.randn(400, 64, generator=generator_for("votes")).split(100)
    frame = rt.match_many(models, sym, x, method=method)
    for one in frame.alignments:
        assert all(abs(quality.correlation) < 0.3 for quality in one.quality.values())
    between = rt.assess(frame.between(0, 1), models[0], models[1], x).groups
    other = rt.assess(frame.between(0, 2), models[0], models[2], x).groups
    for mine, first, second in zip(frame.alignments[0].quality.values(), between, other, strict=True):
        assert first.correlation is not None
        assert second.correlation is not None
        assert mine.correlation == pytest.approx((first.correlation + second.correlation) / 2, abs=1e-4)
    without = rt.match_many(models, sym, method=method)
    assert all(abs(quality.correlation) < 0.5 for one in without.alignments for quality in one.quality.values())
