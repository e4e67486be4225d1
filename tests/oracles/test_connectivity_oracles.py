"""REPAIR against statistics taken with numpy from plain forward passes."""

import copy
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reticket.connectivity import interpolate, repair, repairing
from reticket.errors import ModelError
from reticket.rng import generator_for


def collapsed_pair(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return two random ends: between unrelated weights the spread of activations collapses."""
    ends = []
    for label in "ab":
        generator = generator_for(label)
        for parameter in model.parameters():
            parameter.data.normal_(generator=generator).mul_(0.5)
        ends.append(copy.deepcopy(model.state_dict()))
    return ends[0], ends[1]


def activations(model: nn.Module, state: dict[str, Tensor], layer: str, x: Tensor) -> np.ndarray:
    """Return the outputs of a layer, channels last, as (samples, channels)."""
    model = copy.deepcopy(model).eval()
    model.load_state_dict(state)
    seen = []
    model.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    model(x)
    output = seen[0] if seen[0].dim() == 2 else seen[0].movedim(1, -1)
    return output.flatten(0, -2).double().numpy()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, groups=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(8, 6, 2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 5 * 5, 3),
    )


@pytest.mark.parametrize("alpha", [0.3, 0.5])
@pytest.mark.parametrize(
    ("build", "shape", "layers"),
    [(mlp, (64, 5), ("0", "2")), (conv, (16, 3, 8, 8), ("0", "2", "4"))],
)
def test_repair_restores_mean_and_spread_of_every_hidden_layer(
    build: type, shape: tuple[int, ...], layers: tuple[str, ...], alpha: float
) -> None:
    model = build().double()
    a, b = collapsed_pair(model)
    x = torch.randn(shape, generator=generator_for("x"), dtype=torch.float64)
    plain, repaired = interpolate(a, b, alpha), repair(model, (a, b), alpha, [x])
    for layer in layers:
        of_a, of_b, mixed, fixed = (activations(model, state, layer, x) for state in (a, b, plain, repaired))
        for statistic in (np.mean, np.std):
            wanted = (1 - alpha) * statistic(of_a, axis=0) + alpha * statistic(of_b, axis=0)
            np.testing.assert_allclose(statistic(fixed, axis=0), wanted, rtol=1e-9, atol=1e-9)
        assert np.std(mixed, axis=0).mean() < 0.9 * np.std(fixed, axis=0).mean()
        with pytest.raises(AssertionError):  # the plain mixture must not pass for a repaired one
            np.testing.assert_allclose(np.std(mixed, axis=0), wanted, rtol=1e-2)
    last = list(plain)[-1]
    torch.testing.assert_close(repaired[last], plain[last], rtol=0, atol=0)


def test_repair_in_several_batches_comes_near_the_targets() -> None:
    model = mlp().double()
    a, b = collapsed_pair(model)
    x = torch.randn((512, 5), generator=generator_for("x"), dtype=torch.float64)
    repaired = repair(model, (a, b), 0.5, x.split(128))
    for layer in ("0", "2"):
        of_a, of_b, fixed = (activations(model, state, layer, x).std(axis=0) for state in (a, b, repaired))
        np.testing.assert_allclose(fixed, (of_a + of_b) / 2, rtol=0.05)


class Residual(nn.Module):
    """A BatchNorm stem and one residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu_()
        x = torch.relu(x + self.norm2(self.conv(x)))
        return self.fc(x.mean((2, 3)))


def test_repair_resets_batchnorm_to_the_statistics_of_the_mixture() -> None:
    model = Residual().double()
    a, b = collapsed_pair(model)
    x = torch.randn((16, 2, 6, 6), generator=generator_for("x"), dtype=torch.float64) + 2
    repaired = repair(model, (a, b), 0.4, [x])
    plain = interpolate(a, b, 0.4)
    for conv, norm in (("stem", "norm"), ("conv", "norm2")):
        seen = activations(model, repaired, conv, x)
        np.testing.assert_allclose(repaired[f"{norm}.running_mean"], seen.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(repaired[f"{norm}.running_var"], seen.var(axis=0), rtol=1e-9)
        after = activations(model, repaired, norm, x)
        spread = np.sqrt(seen.var(axis=0) / (seen.var(axis=0) + model.norm.eps))
        np.testing.assert_allclose(after.mean(axis=0), plain[f"{norm}.bias"], atol=1e-9)
        wanted = 0.6 * a[f"{norm}.weight"].abs() + 0.4 * b[f"{norm}.weight"].abs()  # |their mean|, where signs agree
        np.testing.assert_allclose(after.std(axis=0), wanted.numpy() * spread, rtol=1e-9)
        differ = a[f"{norm}.weight"] * b[f"{norm}.weight"] < 0
        assert 0 < int(differ.sum()) < 6
        assert torch.equal(repaired[f"{norm}.weight"].sign(), plain[f"{norm}.weight"].sign())
        same = repaired[f"{norm}.weight"] == plain[f"{norm}.weight"]
        assert torch.equal(same, ~differ)
        with pytest.raises(AssertionError):  # the interpolated gammas are no spread of any end
            np.testing.assert_allclose(plain[f"{norm}.weight"].abs(), wanted, rtol=0.1)
    unchanged = [name for name in plain if "running" not in name and name not in ("norm.weight", "norm2.weight")]
    torch.testing.assert_close({n: repaired[n] for n in unchanged}, {n: plain[n] for n in unchanged}, rtol=0, atol=0)


def test_repair_without_a_bias_restores_the_spread_and_lets_the_mean_follow() -> None:
    model = nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 3)).double()
    a, b = collapsed_pair(model)
    x = torch.randn((64, 5), generator=generator_for("x"), dtype=torch.float64) + 1
    of_a, of_b, fixed = (activations(model, s, "0", x).std(axis=0) for s in (a, b, repair(model, (a, b), 0.5, [x])))
    np.testing.assert_allclose(fixed, (of_a + of_b) / 2, rtol=1e-9)


def test_repair_of_a_dead_channel_is_finite_and_has_the_wanted_mean() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    a, b = collapsed_pair(model)
    a["0.weight"][0] = -b["0.weight"][0]  # constant half way, alive at both ends
    x = torch.randn((64, 5), generator=generator_for("x"), dtype=torch.float64) + 1
    repaired = repair(model, (a, b), 0.5, [x])
    assert all(tensor.isfinite().all() for tensor in repaired.values())
    of_a, of_b, fixed = (activations(model, state, "0", x).mean(axis=0) for state in (a, b, repaired))
    np.testing.assert_allclose(fixed, (of_a + of_b) / 2, rtol=1e-9, atol=1e-12)


def test_repair_reaches_a_shared_module_under_all_its_names() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(5, 5)
            self.second = self.first
            self.fc = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.second(torch.relu(self.first(x)))))

    model = Twice().double()
    a, b = collapsed_pair(model)
    repaired = repair(model, (a, b), 0.5, [torch.randn((32, 5), generator=generator_for("x"), dtype=torch.float64)])
    torch.testing.assert_close(repaired["first.weight"], repaired["second.weight"], rtol=0, atol=0)
    assert not torch.equal(repaired["first.weight"], interpolate(a, b, 0.5)["first.weight"])


def test_repair_leaves_the_final_layer_alone_also_under_a_softmax() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3), nn.LogSoftmax(dim=1)).double()
    a, b = collapsed_pair(model)
    x = torch.randn((64, 5), generator=generator_for("x"), dtype=torch.float64)
    repaired, plain = repair(model, (a, b), 0.5, [x]), interpolate(a, b, 0.5)
    torch.testing.assert_close(repaired["2.weight"], plain["2.weight"], rtol=0, atol=0)
    assert not torch.equal(repaired["0.weight"], plain["0.weight"])


class Repeats(nn.Module):
    """One layer (and one BatchNorm) that runs several times, between layers that run once."""

    def __init__(self, times: int, *, bias: bool, norm: bool) -> None:
        super().__init__()
        self.first, self.again, self.fc = nn.Linear(5, 7), nn.Linear(7, 7, bias=bias), nn.Linear(7, 3)
        self.norm = nn.BatchNorm1d(7) if norm else nn.Identity()
        self.after = nn.Linear(7, 7, bias=bias)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for _ in range(self.times):
            x = torch.relu(self.norm(self.again(x)))
            x = x + 0.1
        return self.fc(torch.relu(self.after(x)))


def outputs_together(model: nn.Module, state: dict[str, Tensor], layer: str, x: Tensor) -> np.ndarray:
    """Return all outputs of a layer, whichever of its runs they are of."""
    model = copy.deepcopy(model).eval()
    model.load_state_dict(state)
    seen = []
    model.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    model(x)
    return torch.cat(seen).double().numpy()


@pytest.mark.slow_cases(but=["2-False"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("times", [2, 3])
def test_a_layer_that_runs_several_times_meets_the_targets_of_all_its_outputs(times: int, bias: bool) -> None:
    model = Repeats(times, bias=bias, norm=False).double()
    a, b = collapsed_pair(model)
    x = torch.randn((64, 5), generator=generator_for("x"), dtype=torch.float64)
    repaired, plain = repair(model, (a, b), 0.5, [x]), interpolate(a, b, 0.5)
    for layer in ("first", "again", "after"):
        of_a, of_b, fixed, mixed = (outputs_together(model, state, layer, x) for state in (a, b, repaired, plain))
        for statistic in (np.std, np.mean) if bias or layer == "first" else (np.std,):
            wanted = (statistic(of_a, axis=0) + statistic(of_b, axis=0)) / 2
            np.testing.assert_allclose(statistic(fixed, axis=0), wanted, rtol=1e-7, atol=1e-7)
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(mixed.std(axis=0), (of_a.std(axis=0) + of_b.std(axis=0)) / 2, rtol=1e-2)
    torch.testing.assert_close(repair(model, (a, b), 1, [x]), b, rtol=0, atol=0)


def test_a_batchnorm_that_runs_several_times_has_the_statistics_of_all_its_inputs() -> None:
    model = Repeats(2, bias=True, norm=True).double()
    a, b = collapsed_pair(model)
    x = torch.randn((64, 5), generator=generator_for("x"), dtype=torch.float64)
    repaired = repair(model, (a, b), 0.5, [x])
    seen = outputs_together(model, repaired, "again", x)
    np.testing.assert_allclose(repaired["norm.running_mean"], seen.mean(axis=0), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(repaired["norm.running_var"], seen.var(axis=0), rtol=1e-7)
    of_a, of_b, fixed = (outputs_together(model, state, "after", x).std(axis=0) for state in (a, b, repaired))
    np.testing.assert_allclose(fixed, (of_a + of_b) / 2, rtol=1e-7)


@pytest.mark.parametrize("deep", ["linear", "conv", "transposed"])
def test_deep_networks_without_biases_meet_every_spread(deep: str) -> None:
    layers: list[nn.Module] = []
    for _ in range(5):
        layer = {
            "linear": lambda: nn.Linear(6, 6, bias=False),
            "conv": lambda: nn.Conv2d(6, 6, 3, padding=1, bias=False, groups=2),
            "transposed": lambda: nn.ConvTranspose2d(6, 6, 3, padding=1, bias=False, groups=3),
        }[deep]()
        layers += [layer, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3)).double()
    shape = (64, 6) if deep == "linear" else (32, 6, 4, 4)
    x = torch.randn(shape, generator=generator_for("x"), dtype=torch.float64)
    model(x)
    a, b = collapsed_pair(model)
    repaired = repair(model, (a, b), 0.5, [x])
    for layer in ("0", "2", "4", "6", "8"):
        of_a, of_b, fixed = (activations(model, state, layer, x).std(axis=0) for state in (a, b, repaired))
        np.testing.assert_allclose(fixed, (of_a + of_b) / 2, rtol=1e-9)


def test_a_weight_that_is_used_elsewhere_as_well_is_refused() -> None:
    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.fc = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.one(x)) + nn.functional.linear(x, self.one.weight)
            return self.fc(torch.relu(self.two(hidden)))

    model = Elsewhere().double()
    ends = collapsed_pair(model)
    x = torch.randn((64, 5), generator=generator_for("x"), dtype=torch.float64)
    with pytest.raises(ModelError, match="REPAIR misses its targets at layer 'two': a channel's spread is off by"):
        repair(model, ends, 0.5, [x])


def test_corrections_that_do_not_settle_are_refused() -> None:
    model = Repeats(3, bias=True, norm=False).double()
    ends = collapsed_pair(model)
    with (
        mock.patch.object(repairing, "ROUNDS", 1),
        pytest.raises(ModelError, match="REPAIR cannot meet its targets in again: the layer runs several times"),
    ):
        repair(model, ends, 0.5, [torch.randn((32, 5), generator=generator_for("x"), dtype=torch.float64)])
