"""Merging by least squares, and networks that share a part: the optimum, the ends, and what is shared."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.connectivity import least_squares as solving
from reticket.connectivity.least_squares import least_squares
from reticket.connectivity.mixture import mixture
from reticket.errors import InputError

SHARES = (0.2, 0.3, 0.5)
FIRST, SECOND = "0.weight", "2.weight"


def net(label: str, *, conv: bool = False) -> nn.Module:
    if conv:
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
        )
    else:
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7, bias=False), nn.ReLU(), nn.Linear(7, 3))
    for name, tensor in model.named_parameters():
        tensor.data.normal_(generator=rt.generator_for(label, name))
    return model


def data(*, conv: bool = False) -> list[Tensor]:
    return list(torch.randn(2, 64, *((2, 5, 5) if conv else (6,)), generator=rt.generator_for("merging")).unbind())


def misfit(model: nn.Module, ends: Sequence[nn.Module], place: int, batches: Sequence[Tensor]) -> Tensor:
    """Return the summed squared distance of a layer's outputs to those of the ends, on what each end gives it."""
    total = torch.zeros(())
    layers: Any = model
    for end, share in zip(ends, SHARES, strict=True):
        own: Any = end
        for x in batches:
            inner = own[:place](x).detach()
            total = total + share * (layers[place](inner) - own[place](inner).detach()).square().sum()
    return total


@pytest.mark.parametrize("conv", [False, True])
def test_the_weights_are_those_of_least_squares(monkeypatch: pytest.MonkeyPatch, conv: bool) -> None:
    """At the optimum the misfit has no slope; the mean has one."""
    monkeypatch.setattr(solving, "SHRUNK", 1.0)
    monkeypatch.setattr(solving, "RIDGE", 1e-12)
    ends, batches = [net(label, conv=conv) for label in "abc"], data(conv=conv)
    states = [end.state_dict() for end in ends]
    mean = rt.interpolate(states, SHARES)
    found = least_squares(net("any", conv=conv), states, mean, mixture(3, SHARES), batches)
    model = net("any", conv=conv)
    for place in (0, 3) if conv else (0, 2, 4):
        for weights, flat in ((found, True), (mean, place == 0)):
            rt.load_into(model, weights)
            loss = misfit(model, ends, place, batches)
            slopes = torch.autograd.grad(loss, list(model[place].parameters()))  # pyright: ignore[reportIndexIssue]
            steep = max(float(slope.abs().max()) for slope in slopes)
            assert (steep < 1e-2) is flat, (
                "the first layer sees the same inputs in all, so that the mean is the optimum"
            )


def test_equal_networks_stay_as_they_are() -> None:
    a = net("a")
    same = [rt.identity_alignment(rt.discover(a, data()[0][:2]))] * 2
    merged = rt.merge(a, [a, a], same, data(), how="least-squares")
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-4, atol=1e-4)


def test_a_feature_that_one_network_alone_has_keeps_its_weights() -> None:
    """Unit 0 is dead in b: what is behind it is a's, not half of it. One that is dead in both gets the mean."""
    a, b = net("a"), net("b")
    for model, dead in ((a, [1]), (b, [0, 1])):
        model.state_dict()["0.weight"][dead] = 0.0
        model.state_dict()["0.bias"][dead] = -1.0
    states = [a.state_dict(), b.state_dict()]
    found = least_squares(a, states, rt.interpolate(states, [0.5, 0.5]), mixture(2, [0.5, 0.5]), data())[SECOND]
    behind = [state[SECOND] for state in states]
    torch.testing.assert_close(found[:, 1], (behind[0][:, 1] + behind[1][:, 1]) / 2, rtol=1e-3, atol=1e-3)
    near, far = ((found[:, 0] - one[:, 0]).norm() for one in behind)
    assert float(near) < 0.5 * float(far)


class Shared(nn.Module):
    """Two layers with one weight, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.idle = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def test_tied_weights_and_idle_layers_have_the_mean() -> None:
    states = [Shared().state_dict() for _ in range(2)]
    mean = rt.interpolate(states, [0.5, 0.5])
    found = least_squares(Shared(), states, mean, mixture(2, [0.5, 0.5]), data())
    assert all(torch.equal(found[name], mean[name]) for name in mean)


def frame(correlations: Mapping[str, float]) -> tuple[list[nn.Module], rt.CommonFrame]:
    networks = [net(label) for label in "ab"]
    found = rt.match_many(networks, rt.discover(networks[0], data()[0][:2]), method="weight")
    quality = {name: rt.Quality(value, 0.0) for name, value in correlations.items()}
    return networks, rt.CommonFrame(tuple(dataclasses.replace(one, quality=quality) for one in found))


@pytest.mark.slow
def test_what_is_matched_well_is_shared() -> None:
    networks, found = frame({FIRST: 0.9, SECOND: 0.2})
    merged = rt.merge(networks[0], networks, found, data())
    members = rt.merge_partly(networks[0], networks, found, data(), least=0.5)
    shared = {name for name in merged if members[0][name] is members[1][name]}
    assert shared == {"0.weight", "0.bias", "4.bias"}
    for own, alignment, member in zip(networks, found, members, strict=True):
        carried = alignment.apply(own.state_dict())
        for name in merged:
            assert torch.equal(member[name], merged[name] if name in shared else carried[name])


def test_nothing_shared_is_every_network_itself_and_all_is_the_merge() -> None:
    networks, found = frame({FIRST: 0.9, SECOND: 0.2})
    x, model = data()[0], net("any")
    for own, member in zip(networks, rt.merge_partly(net("any"), networks, found, least=1.1), strict=True):
        rt.load_into(model, {**member, "4.bias": own.state_dict()["4.bias"]})
        torch.testing.assert_close(model(x), own(x))
    merged = rt.merge(networks[0], networks, found)
    for member in rt.merge_partly(networks[0], networks, found, least=-1):
        assert all(torch.equal(member[name], merged[name]) for name in merged)


@pytest.mark.slow
def test_norms_of_networks_that_share_a_part_are_their_own() -> None:
    """Each is normalised by what its own layers give it, shared weights staying one tensor."""
    networks = [rt.build_model("conv-small", widths=(4, 4, 6, 6), generator=seed) for seed in range(2)]
    x = torch.rand(32, 1, 28, 28, generator=rt.generator_for("images"))
    found = rt.match_many(networks, rt.discover(networks[0], x[:2], verify=False), method="weight")
    first = next(iter(found.alignments[0].symmetry.groups))
    quality = {name: rt.Quality(float(name == first), 0.0) for name in found.alignments[0].symmetry.groups}
    told = rt.CommonFrame(tuple(dataclasses.replace(one, quality=quality) for one in found))
    members = rt.merge_partly(networks[0], networks, told, [x], least=0.5)
    assert members[0]["convs.0.weight"] is members[1]["convs.0.weight"]
    model = networks[0]
    for member in members:
        rt.load_into(model, member)
        inner = model.convs[1](torch.relu(model.norms[0](model.convs[0](x))))  # pyright: ignore
        torch.testing.assert_close(member["norms.1.running_mean"], inner.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"how": "least-squares"},
            r"^merge by least squares looks at what the layers of each network get; give it batch",
        ),
        ({"weights": [1.0]}, r"^merge got 2 networks and 1 weights; give one for each network$"),
    ],
)
def test_wrong_calls(options: dict[str, Any], words: str) -> None:
    networks, found = frame({})
    with pytest.raises(InputError, match=words):
        rt.merge(networks[0], networks, found, **options)
