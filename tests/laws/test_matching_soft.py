"""Laws of soft alignments: their corners are permutations, their shares sum to 1, the Frank-Wolfe algorithm climbs."""

import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.errors import InputError
from reticket.matching import soft
from reticket.matching.frank_wolfe import JointObjective
from reticket.matching.slices import WeightSimilarity
from reticket.matching.soft import applied, barycentre, between, corner, degree, is_soft, nearest, sinkhorn
from reticket.rng import generator_for
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.terms import Atom, Fixed
from tests.generic_models import SHAPES, generic
from tests.models_with_attention import EncoderLayer, FusedByPart, GroupedQueries, NormedQueries, TalkingHeads, tokens
from tests.recurrent_models import Encoder, sequence

OTHERS: dict[str, Callable[[], nn.Module]] = {
    "encoder": lambda: EncoderLayer(norm_first=True),
    "lstm": lambda: Encoder(nn.LSTM(7, 6, 2, batch_first=True), 6),
    "fused": FusedByPart,
    "normed": NormedQueries,
    "talking": TalkingHeads,
    "grouped": lambda: GroupedQueries("repeat"),
}
MODELS = ("mlp", "conv-small", "resnet20", *OTHERS)


def network(name: str, label: str = "a") -> nn.Module:
    if name in SHAPES:
        return generic(name, label)
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, label)))
        return OTHERS[name]()


def example(name: str) -> Tensor:
    if name in SHAPES:
        return torch.randn(2, *SHAPES[name], generator=generator_for("example"))
    return sequence() if name == "lstm" else tokens()


@functools.cache
def symmetry(name: str) -> rt.Symmetry:
    return rt.discover(network(name), example(name), verify=False)


def assert_corners_permute(name: str, count: int) -> None:
    """Compare soft permutations that are permutations with `Alignment.apply`, tensor by tensor."""
    sym, state, alignment = symmetry(name), named_state(network(name)), rt.random_alignment(symmetry(name), 1)
    shares, compared = corner(sym, alignment.permutations), 0
    for tensor, moved in alignment.apply(state).items():
        if state[tensor].is_floating_point() and is_soft(sym.layouts[tensor]):
            mixed = applied(state[tensor].detach(), sym.layouts[tensor], shares)
            torch.testing.assert_close(mixed, moved, rtol=0, atol=0)
            compared += 1
    assert len([t for t in state.values() if t.is_floating_point()]) - compared == count


@pytest.mark.slow_cases(but=["mlp"])
@pytest.mark.parametrize("name", MODELS)
def test_a_corner_moves_every_tensor_as_its_permutations_do(name: str) -> None:
    assert_corners_permute(name, 3 if name == "grouped" else 0)  # beside the heads of keys, queries and their channels


def test_that_law_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = soft._along
    monkeypatch.setattr(soft, "_along", lambda tensor, axes, shares: straight(tensor, axes[::-1], shares))
    with pytest.raises(AssertionError):
        assert_corners_permute("fused", 0)


@pytest.mark.slow_cases("resnet20", "encoder", "normed", "talking")
@pytest.mark.parametrize("name", MODELS)
def test_the_permutations_nearest_to_a_corner_are_its_own(name: str) -> None:
    sym, alignment = symmetry(name), rt.random_alignment(symmetry(name), 2)
    shares = corner(sym, alignment.permutations)
    assert nearest(sym, shares) == alignment.permutations
    assert nearest(sym, between(shares, barycentre(sym), 0.9)) == alignment.permutations


@pytest.mark.parametrize("name", MODELS)
def test_shares_sum_to_one_and_those_of_a_child_to_those_of_its_parents(name: str) -> None:
    sym = symmetry(name)
    sizes = {group.name: 2 * (*sym.parent_sizes(group), group.size) for group in sym.groups.values()}
    noise = {key: torch.randn(size, generator=generator_for("logits", key)) for key, size in sizes.items()}
    found = sinkhorn(sym, noise)
    for group in sym.groups.values():
        half = len(group.parents) + 1
        shares = found[group.name]
        of_new, of_old = shares.sum(dim=tuple(range(half))), shares.sum(dim=tuple(range(half, 2 * half)))
        torch.testing.assert_close(of_new, torch.ones_like(of_new))
        torch.testing.assert_close(of_old, torch.ones_like(of_old), rtol=0, atol=0.02)  # as far as 20 rounds go
        if len(group.parents) == 1 and group.parents[0] in sym.groups:
            above = found[group.parents[0]]
            torch.testing.assert_close(shares.sum(dim=1), above.unsqueeze(-1).expand(*above.shape, group.size))


def test_sinkhorn_of_one_group_is_that_of_scipys_exponentials() -> None:
    logits = torch.randn(5, 5, generator=generator_for("sinkhorn"), dtype=torch.float64)
    matrix = logits.exp()
    for _ in range(soft.ROUNDS):
        matrix = matrix / matrix.sum(dim=1, keepdim=True)
        matrix = matrix / matrix.sum(dim=0, keepdim=True)
    sym = rt.Symmetry({"w": (Atom("w", 5),)}, {"w": ("",)})
    torch.testing.assert_close(sinkhorn(sym, {"w": logits})["w"], matrix)


def test_the_barycentre_is_the_mean_of_all_permutations() -> None:
    layout = (Atom("w", 3), Fixed(2))
    sym, tensor = rt.Symmetry({"w": layout}, {"w": ("", "")}), torch.arange(6.0).reshape(3, 2)
    every = torch.stack([tensor[list(order)] for order in itertools.permutations(range(3))])
    torch.testing.assert_close(applied(tensor, layout, barycentre(sym)), every.mean(dim=0))


def test_two_groups_with_one_parent_on_a_tensor_are_not_mixed() -> None:
    heads, a, b = Atom("h", 2), Atom("a", 3, ("h",)), Atom("b", 4, ("h",))
    assert is_soft((heads, a, Atom("c", 5)))
    assert not is_soft((heads, a, b))
    place = Fixed(2, "p")  # an axis that does not move may have any number of children
    assert is_soft((place, Atom("a", 3, ("p",)), Atom("b", 4, ("p",))))
    assert degree((place, Atom("a", 3, ("p",)), Atom("b", 4, ("p",)))) == 2


def objective(name: str, a: nn.Module, b: nn.Module) -> JointObjective:
    return JointObjective(WeightSimilarity.of_states(symmetry(name), [(named_state(a), named_state(b))]))


@pytest.mark.parametrize("name", ["mlp", "conv-small", "lstm", "fused", "normed", "grouped"])
def test_no_step_of_frank_wolfe_lowers_the_objective(name: str) -> None:
    climb, now = objective(name, network(name, "a"), network(name, "b")), barycentre(symmetry(name))
    for _ in range(8):
        before = float(climb.value(now))
        now, gain = climb.step(now)
        assert gain >= 0
        assert float(climb.value(now)) - before == pytest.approx(gain, abs=1e-4)  # the curve fitted is the objective


def test_a_step_goes_as_far_as_the_objective_rises() -> None:
    climb, begun = objective("mlp", network("mlp", "a"), network("mlp", "b")), barycentre(symmetry("mlp"))
    end, _ = climb.step(begun)
    target = climb.towards(begun)
    along = [float(climb.value(between(begun, target, at / 200))) for at in range(201)]
    assert float(climb.value(end)) == pytest.approx(max(along), abs=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("name", ["mlp", "resnet20", "encoder", "lstm"])
def test_frank_wolfe_finds_a_planted_permutation(name: str, noise: float) -> None:
    a, pi = network(name), rt.random_alignment(symmetry(name), 1)
    b = copy.deepcopy(a)
    rt.load_into(b, pi.apply(a.state_dict()))
    with torch.no_grad():
        for number, tensor in enumerate(b.parameters()):
            spread = float(tensor.std(unbiased=False))
            tensor += noise * spread * torch.randn(tensor.shape, generator=generator_for("noise", number))
    found = rt.match(a, b, symmetry(name), method="frank-wolfe")
    assert found.permutations == pi.permutations


@pytest.mark.slow
def test_frank_wolfe_finds_what_brute_force_does() -> None:
    def small(label: str) -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        for number, tensor in enumerate(model.parameters()):
            nn.init.normal_(tensor, generator=generator_for(label, number))
        return model

    sym = rt.discover(small("any"), torch.zeros(1, 2), verify=False)
    for draw in range(2):
        a, b = small(f"a{draw}"), small(f"b{draw}")
        similarity = WeightSimilarity.of_states(sym, [(named_state(a), named_state(b))])
        climb = JointObjective(similarity)

        def value(permutations: dict[str, rt.Permutation], climb: JointObjective = climb) -> float:
            return float(climb.value(corner(sym, permutations)))

        orders = [rt.Permutation(torch.tensor(order)) for order in itertools.permutations(range(4))]
        best = max(value(dict(zip(sym.groups, pair, strict=True))) for pair in itertools.product(orders, repeat=2))
        found = rt.match(a, b, sym, method="frank-wolfe", restarts=10)
        assert value(dict(found.permutations)) == pytest.approx(best, abs=1e-5)


def test_frank_wolfe_begins_where_it_is_told_and_is_the_same_every_time() -> None:
    a, b, sym = network("conv-small", "a"), network("conv-small", "b"), symmetry("conv-small")
    climb, start = objective("conv-small", a, b), rt.random_alignment(sym, 3)
    found = rt.match(a, b, sym, method="frank-wolfe", start=start)
    values = [float(climb.value(corner(sym, one.permutations))) for one in (start, found)]
    assert values[1] > values[0]
    first, second = (rt.match(a, b, sym, method="frank-wolfe", restarts=2) for _ in range(2))
    assert first.permutations == second.permutations
    more = rt.match(a, b, sym, method="frank-wolfe")
    assert climb.value(corner(sym, first.permutations)) >= climb.value(corner(sym, more.permutations))


def test_a_network_without_units_has_the_alignment_that_moves_nothing() -> None:
    model = nn.Linear(3, 2)
    sym = rt.discover(model, torch.zeros(1, 3), verify=False)
    assert rt.match(model, copy.deepcopy(model), sym, method="frank-wolfe").permutations == {}


def test_wrong_options_of_frank_wolfe_are_one_sentence() -> None:
    model, sym = network("mlp"), symmetry("mlp")
    wrong: list[dict[str, Any]] = [{"iterations": 0}, {"restarts": -1}]
    for options in wrong:
        with pytest.raises(InputError, match="iterations must be 1 or more and restarts 0 or more, got"):
            rt.match(model, model, sym, method="frank-wolfe", **options)
