"""Normalisation at random places on the way to its beginning, against autograd through the interpolation."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from reticket import Mask, Recipe, build_model, generator_for, load_dataset, train
from reticket.errors import ConfigError
from reticket.training import FlatParameters, Resume, Span, learning_rate
from reticket.training.norms import NormInterpolation, norm_beginnings
from reticket.training.run import TrainingRun

DATA = load_dataset("digits", train_size=70)
ORDER = ("norms", 0)


class Normalised(nn.Module):
    """A network with two kinds of normalisation, one of them without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 12), nn.Linear(12, 12), nn.Linear(12, 10)
        self.norm1, self.norm2 = nn.BatchNorm1d(12), nn.LayerNorm(12, bias=False)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator_for(name)) + ("norm" in name))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.first(x)))
        return self.last(F.relu(self.norm2(self.second(x))))


BEGINNINGS = {"norm1.weight": 1.0, "norm1.bias": 0.0, "norm2.weight": 1.0}
MASK = Mask(
    {
        n: torch.rand(p.shape, generator=generator_for(n)) < 0.5
        for n, p in Normalised().named_parameters()
        if p.dim() > 1
    }
)


def interpolated(parameters: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    return {
        name: (1 - share) * p + share * torch.full_like(p, BEGINNINGS[name]) if name in BEGINNINGS else p
        for name, p in parameters.items()
    }


def by_autograd(recipe: Recipe, mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model = Normalised().double()
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name, kept in mask.items():
        parameters[name].data.mul_(kept)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    per_epoch = -(-70 // recipe.batch_size)
    for step in range(recipe.epochs * per_epoch):
        epoch, number = divmod(step, per_epoch)
        order = torch.randperm(70, generator=generator_for(*ORDER, "epoch", epoch))
        share = torch.rand(per_epoch, generator=generator_for(*ORDER, "epoch", epoch, "norms"))[number].item()
        chosen = order.split(recipe.batch_size)[number]
        x, y = DATA.normalise(DATA.train_x[chosen]).double(), DATA.train_y[chosen]
        optimizer.zero_grad()
        F.cross_entropy(functional_call(model, {**interpolated(parameters, share), **buffers}, (x,)), y).backward()
        for name, kept in mask.items():
            gradient = parameters[name].grad
            assert gradient is not None
            gradient.mul_(kept)
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, 0, per_epoch)
        optimizer.step()
    return dict(model.state_dict())


RECIPE = Recipe(epochs=3, batch_size=32, lr=0.1, weight_decay=0.05, interpolate_norms=True)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_is_autograds_through_the_interpolation(clip: float | None, masked: bool) -> None:
    recipe = Recipe(**{**RECIPE.decisive(), "clip_norm": clip})
    mask = MASK if masked else {}
    trained = train(Normalised().double(), DATA, recipe, mask=mask, rng_label=ORDER).weights
    expected = by_autograd(recipe, mask)
    assert set(trained) == set(expected)
    for name, values in expected.items():
        assert_close(trained[name], values, rtol=1e-9, atol=1e-10, msg=name)


def test_it_changes_what_is_trained_and_plain_training_is_another() -> None:
    plain = train(Normalised(), DATA, Recipe(epochs=1, batch_size=32, lr=0.1), rng_label=ORDER).weights
    there = train(
        Normalised(), DATA, Recipe(epochs=1, batch_size=32, lr=0.1, interpolate_norms=True), rng_label=ORDER
    ).weights
    assert not torch.equal(plain["norm1.weight"], there["norm1.weight"])
    assert not torch.equal(plain["first.weight"], there["first.weight"])


@pytest.mark.parametrize("parametrization", ["plain", "sign-in"])
def test_a_run_that_is_interrupted_within_an_epoch_gives_the_same_bits(parametrization: str) -> None:
    recipe = Recipe(**{**RECIPE.decisive(), "parametrization": parametrization})
    whole = train(Normalised(), DATA, recipe, mask=MASK, rng_label=ORDER)
    first = train(Normalised(), DATA, recipe, mask=MASK, rng_label=ORDER, span=Span(stop=4))
    second = train(Normalised(), DATA, recipe, mask=MASK, rng_label=ORDER, resume=Resume(state=first.state))
    for name, values in whole.weights.items():
        assert torch.equal(values, second.weights[name])


@pytest.mark.parametrize("name", ["vit", "resnet20", "conv-small", "airbench"])
def test_every_normalisation_of_a_model_is_among_them(name: str) -> None:
    model = build_model(name)
    kinds = (nn.BatchNorm2d, nn.LayerNorm)
    theirs = {
        f"{place}.{kind}"
        for place, module in model.named_modules()
        if isinstance(module, kinds)
        for kind, _ in module.named_parameters(recurse=False)
    }
    found = norm_beginnings(model)
    assert set(found) == theirs
    assert {kind.rpartition(".")[2]: value for kind, value in found.items()} == {"weight": 1.0, "bias": 0.0}


class Renamed(nn.BatchNorm1d):
    """A layer of torch under another name."""


def test_what_is_made_from_torchs_layers_is_among_them() -> None:
    assert set(norm_beginnings(nn.Sequential(nn.Linear(3, 3), Renamed(3)))) == {"1.weight", "1.bias"}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("parametrization", ["plain", "sign-in"])
def test_a_share_of_nothing_is_plain_training(
    optimizer: str, parametrization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingRun, "_shares", lambda self, epoch: [0.0] * self.steps_in_epoch)
    values = {**RECIPE.decisive(), "optimizer": optimizer, "parametrization": parametrization, "ema": 0.5}
    plain, there = (
        train(Normalised().double(), DATA, Recipe(**{**values, "interpolate_norms": on}), mask=MASK, rng_label=ORDER)
        for on in (False, True)
    )
    for name, tensor in plain.weights.items():
        assert_close(there.weights[name], tensor, rtol=1e-12, atol=1e-12, msg=name)


def test_a_masked_parameter_of_normalisation_stays_0_where_it_stands_in_between() -> None:
    model, seen = Normalised(), []
    mask = {"norm1.weight": torch.arange(12) % 2 == 0}
    parameters = FlatParameters(model, mask, channels_last=False)
    norms = NormInterpolation(model, parameters)
    before = parameters.weights.clone()
    with norms.at(0.5):
        seen.append(model.norm1.weight.detach().clone())
    assert not seen[0][1::2].any()
    assert seen[0][::2].all()
    assert torch.equal(parameters.weights, before)


class OwnNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))  # of which 1 + weight is used

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.weight)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear(3, 2), "the model has no normalisation layer with parameters that are trained; leave it out"),
        (nn.Sequential(nn.BatchNorm1d(3, affine=False)), "has no normalisation layer with parameters"),
        (nn.Sequential(nn.LayerNorm(4), OwnNorm()), "'1' is a OwnNorm with weight, of which it is not known"),
        (OwnNorm(), "the model itself is a OwnNorm with weight"),
    ],
)
def test_what_cannot_be_interpolated_is_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        norm_beginnings(model)
