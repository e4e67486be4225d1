"""Mixtures of n networks: a weight of 1 gives the endpoint bit for bit, order decides nothing, two are the line."""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.connectivity.mixture import mixture
from reticket.errors import InputError, ModelError

WEIGHTS = (0.2, 0.3, 0.5)
Mix = Callable[[Sequence[Mapping[str, Any]], Sequence[float]], Mapping[str, Any]]


def net(label: str, dtype: torch.dtype = torch.float32, *, norm: bool = False) -> nn.Module:
    """Return a small network; with BatchNorm one whose gammas differ in sign from network to network."""
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.ReLU(), nn.Linear(8, 7), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(7, 3)).to(dtype)
    for name, tensor in model.named_parameters():
        tensor.data.normal_(generator=rt.generator_for(label, name))
    return model


def states(dtype: torch.dtype = torch.float32, *, norm: bool = False) -> list[dict[str, Tensor]]:
    return [net(label, dtype, norm=norm).state_dict() for label in "abc"]


def repaired(networks: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> Mapping[str, Any]:
    norm, dtype = "1.weight" in networks[0], networks[0]["0.weight"].dtype
    batches = [torch.randn(64, 6, dtype=torch.float64, generator=rt.generator_for("x")).to(dtype)]
    return rt.repair(net("any", dtype, norm=norm), networks, weights, batches)


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def wrong_order(networks: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> Mapping[str, Any]:
    """Add the terms as they come, which rounds otherwise in another order."""
    terms = zip(weights, networks, strict=True)
    total: dict[str, Any] = dict.fromkeys(networks[0], 0.0)
    for weight, state in terms:
        total = {name: total[name] + weight * state[name] for name in total}
    return total


def order_does_not_matter(mix: Mix, networks: Sequence[Mapping[str, Any]]) -> None:
    expected = mix(networks, WEIGHTS)
    for order in permutations(range(3)):
        same(mix([networks[n] for n in order], [WEIGHTS[n] for n in order]), expected)


@pytest.mark.slow_cases("repaired-dtype0", "repaired-dtype1", "repaired-dtype2")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mix", [rt.interpolate, repaired])
def test_order_does_not_matter(mix: Mix, dtype: torch.dtype) -> None:
    order_does_not_matter(mix, states(dtype))


@pytest.mark.slow
def test_order_does_not_matter_with_batchnorm() -> None:
    order_does_not_matter(repaired, states(norm=True))


def test_the_law_of_order_can_fail() -> None:
    with pytest.raises(AssertionError):
        order_does_not_matter(wrong_order, states())


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("mix", [rt.interpolate, repaired])
def test_a_weight_of_one_gives_the_endpoint_bit_for_bit(mix: Mix, number: int) -> None:
    networks = states()
    networks[(number + 1) % 3]["0.weight"][0, 0] = torch.inf  # a network without a share is not looked at
    if mix is repaired:
        networks[(number + 1) % 3]["0.weight"][0, 0] = 1e6
    same(mix(networks, [float(number == n) for n in range(3)]), networks[number])


@pytest.mark.slow
def test_two_networks_are_the_line_up_to_rounding() -> None:
    a, b, _ = states(torch.float64)
    for alpha in (0.25, 0.5, 0.7):
        for mix in (rt.interpolate, repaired):
            on_line = rt.interpolate(a, b, alpha) if mix is rt.interpolate else repaired_at(a, b, alpha)
            torch.testing.assert_close(mix([a, b], [1 - alpha, alpha]), on_line, rtol=1e-12, atol=1e-12)


def repaired_at(a: Mapping[str, Any], b: Mapping[str, Any], alpha: float) -> dict[str, Any]:
    batches = [torch.randn(64, 6, dtype=torch.float64, generator=rt.generator_for("x"))]
    return rt.repair(net("any", torch.float64), (a, b), alpha, batches)


def test_right_values() -> None:
    values = [torch.tensor([first, torch.inf, 1.0]) for first in (0.0, 4.0, 8.0)]
    found = rt.interpolate(
        [{"w": w, "steps": torch.tensor(n), "z": w[:1] * 1j} for n, w in enumerate(values)], [0.25, 0.375, 0.375]
    )
    assert found["w"].tolist() == [4.5, torch.inf, 1.0]  # equal entries are kept, infinities too
    assert found["steps"] == 2  # of the heaviest, the last of two
    assert found["z"].tolist() == [4.5j]
    sparse = [{"w": torch.eye(2).mul(n).to_sparse()} for n in (1, 2, 6)]
    found = rt.interpolate(sparse, [0.5, 0.25, 0.25])["w"]
    assert found.layout is torch.sparse_coo
    assert found.to_dense().tolist() == [[2.5, 0.0], [0.0, 2.5]]


def test_repair_gives_every_channel_the_weighted_mean_and_spread() -> None:
    """Against hooks on the networks themselves."""
    networks = states(torch.float64)
    x = torch.randn(64, 6, dtype=torch.float64, generator=rt.generator_for("x"))

    def channels(state: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
        model, seen = net("any", torch.float64), []
        rt.load_into(model, state)
        for layer in (model.get_submodule("0"), model.get_submodule("3")):
            layer.register_forward_hook(lambda _, args, out: seen.append((out.mean(0), out.std(0, correction=0))))
        model(x)
        return seen

    ends = [channels(state) for state in networks]
    found = channels(rt.repair(net("any", torch.float64), networks, WEIGHTS, [x]))
    plain = channels(rt.interpolate(networks, WEIGHTS))
    for layer in range(2):
        for which in range(2):
            wanted = sum(weight * end[layer][which] for weight, end in zip(WEIGHTS, ends, strict=True))
            torch.testing.assert_close(found[layer][which], wanted)
    assert (plain[1][1] < 0.9 * found[1][1]).any()  # without REPAIR the spread collapses


def test_networks_stand_for_their_weights() -> None:
    networks = [net(label) for label in "abc"]
    wrapped: list[nn.Module] = [nn.DataParallel(networks[0]), *networks[1:]]
    own = [model.state_dict() for model in networks]
    same(rt.interpolate(wrapped, WEIGHTS), rt.interpolate(own, WEIGHTS))
    same(rt.interpolate(wrapped[0], networks[1], 0.3), rt.interpolate(own[0], own[1], 0.3))
    batches = [(torch.randn(64, 6, generator=rt.generator_for("x")), torch.zeros(64, dtype=torch.int64))]
    same(rt.repair(networks[0], wrapped, WEIGHTS, batches), rt.repair(networks[0], own, WEIGHTS, batches))
    curves = [rt.barrier(networks[0], ends[0], ends[1], batches, (0, 0.5, 1)) for ends in (wrapped, own)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    "weights", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.5, -0.5, 0.0), (float("nan"), 0.5, 0.5), (float("inf"), 0.0, 0.0), ()]
)
def test_weights_that_are_none(weights: tuple[float, ...]) -> None:
    with pytest.raises(
        InputError, match=r"^got the weights \[.*\] for 3 networks; give one for each, none below 0, with"
    ):
        rt.interpolate(states(), weights)


def test_wrong_calls() -> None:
    a, b, c = states()
    with pytest.raises(InputError, match=r"^interpolate needs a, b and alpha, or a list of networks and a list of wei"):
        rt.interpolate(a, b)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        InputError, match=r"^alpha 0.5 is a position between two networks, got 3; give a weight for each"
    ):
        rt.repair(net("any"), [a, b, c], 0.5, [torch.ones(2, 6)])
    with pytest.raises(InputError, match=r"^got the weights \[\] for 0 networks"):
        rt.interpolate([], [])
    with pytest.raises(
        ModelError, match=r"different models: '0.bias' has shape \(8,\) in states\[0\] and \(2,\) in states\[2\]"
    ):
        rt.interpolate([a, b, {**c, "0.bias": torch.ones(2)}], WEIGHTS)
    with pytest.raises(ModelError, match=r"different models: 'more' is in states\[1\] only"):
        rt.interpolate([a, {**b, "more": torch.ones(2)}, c], WEIGHTS)


def test_a_mixture_knows_its_end_and_its_nearest() -> None:
    assert [mixture(2, alpha).end for alpha in (0, 0.5, 1)] == [0, None, 1]
    assert [mixture(2, alpha).nearest for alpha in (0, 0.49, 0.5, 1)] == [0, 0, 1, 1]
    assert (mixture(3, (0, 1, 0)).end, mixture(3, (0, 1, 0)).nearest) == (1, 1)
