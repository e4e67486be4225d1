"""REPAIR against statistics taken with numpy from plain forward passes."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reticket.connectivity import interpolate, repair
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
        np.testing.assert_allclose(after.std(axis=0), plain[f"{norm}.weight"].abs().numpy() * spread, rtol=1e-9)
    unchanged = [name for name in plain if "running" not in name]
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
