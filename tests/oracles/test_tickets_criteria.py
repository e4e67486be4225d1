"""Scores of every criterion against their formulas, worked out by hand or by brute force in float64."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.tickets import CRITERIA, Mask, Movement, kept_count, prune, prune_magnitude
from reticket.tickets.criteria import criterion_of


class Quadratic(nn.Module):
    """A model that is its weights, in two tensors, the loss of which is w A w / 2 for a batch A: H = A, g = A w."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Parameter(torch.randn(2, 3, dtype=torch.float64))
        self.last = nn.Parameter(torch.randn(4, 1, dtype=torch.float64))

    def forward(self) -> Tensor:
        return torch.cat([self.first.reshape(-1), self.last.reshape(-1)])


NAMES = ("first", "last")


def energy(model: nn.Module, curvature: Tensor) -> Tensor:
    w = model()
    return w @ curvature @ w / 2


def symmetric(seed: int) -> Tensor:
    a = torch.randn(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return a + a.T


BATCHES = [symmetric(1), symmetric(2), symmetric(3)]
A = torch.stack(BATCHES).mean(0)


def by_hand(name: str, w: Tensor) -> Tensor:
    slopes = torch.stack([batch @ w for batch in BATCHES])
    return {
        "snip": (w * (A @ w)).abs(),
        "gradient-times-weight": (w * slopes).square().mean(0),
        "grasp": w * (A @ (A @ w)),
    }[name]


def scores(name: str, model: nn.Module, weights: Mapping[str, Tensor], **options: Any) -> dict[str, Tensor]:
    return criterion_of(name).scores(model, weights, options)


@pytest.mark.parametrize("name", ["snip", "gradient-times-weight", "grasp"])
def test_scores_of_a_quadratic_are_those_of_the_formula(name: str) -> None:
    model = Quadratic()
    before = copy.deepcopy(dict(model.state_dict()))
    weights = {n: model.get_parameter(n).detach() for n in NAMES}
    found = scores(name, model, weights, loss=energy, batches=BATCHES)
    flat = torch.cat([found[n].reshape(-1) for n in NAMES])
    torch.testing.assert_close(flat, by_hand(name, model().detach()))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    others = {"snip": "grasp", "gradient-times-weight": "snip", "grasp": "gradient-times-weight"}
    with pytest.raises(AssertionError):
        torch.testing.assert_close(flat, by_hand(others[name], model().detach()))


def test_what_is_pruned_already_is_0_while_a_criterion_looks() -> None:
    model = Quadratic()
    earlier = Mask({"first": torch.tensor([[True, False, True], [True, False, True]]), "last": torch.ones(4, 1) > 0})
    kept = torch.cat([earlier[n].reshape(-1) for n in NAMES])
    w = model().detach() * kept
    mask = prune(model, 0.4, "snip", within=earlier, loss=energy, batches=BATCHES)
    expected = torch.zeros(10, dtype=torch.bool)
    expected[(by_hand("snip", w) - (~kept).double()).argsort(descending=True)[:4]] = True
    assert torch.equal(torch.cat([mask[n].reshape(-1) for n in NAMES]), expected)


def two_layers(**options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5, **options), nn.ReLU(), nn.Linear(5, 3, **options))


LAYERS = ("0.weight", "2.weight")


def flow_by_hand(first: Tensor, last: Tensor) -> list[Tensor]:
    """|w| dR/d|w| of R = 1 |W2| |W1| 1: the sum over all paths of the products of weights, of those through w."""
    first, last = first.double().abs(), last.double().abs()
    return [first * last.sum(0)[:, None], last * first.sum(1)]


def test_synaptic_flow_is_the_sum_over_paths() -> None:
    model = two_layers(bias=False)
    weights = {name: model.get_parameter(name).detach() for name in LAYERS}
    found = scores("synflow", model, weights, example_inputs=torch.randn(1, 4))
    expected = flow_by_hand(*weights.values())
    for name, score in zip(LAYERS, expected, strict=True):
        torch.testing.assert_close(found[name], score)
    # conservation: the flow through each layer is all there is
    torch.testing.assert_close(found["0.weight"].sum(), found["2.weight"].sum())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert model.training


@pytest.mark.slow
def test_synaptic_flow_in_rounds_is_that_of_the_loop() -> None:
    model = two_layers(bias=False)
    masks = [torch.ones(5, 4, dtype=torch.bool), torch.ones(3, 5, dtype=torch.bool)]
    for step in range(1, 101):
        weights = [model.get_parameter(n).detach() * m for n, m in zip(LAYERS, masks, strict=True)]
        flat = torch.cat([s.reshape(-1) for s in flow_by_hand(*weights)])
        kept = max(1, int(0.2 ** (step / 100) * 35 + 0.5))
        chosen = torch.zeros(35, dtype=torch.bool)
        chosen[flat.argsort(descending=True, stable=True)[:kept]] = True
        masks = [chosen[:20].reshape(5, 4), chosen[20:].reshape(3, 5)]
    mask = prune(model, 0.2, "synflow", example_inputs=torch.randn(1, 4))
    assert (mask.kept, CRITERIA["synflow"].rounds) == (7, 100)
    for name, expected in zip(LAYERS, masks, strict=True):
        assert torch.equal(mask[name], expected)


def test_movement_is_the_sum_over_the_steps() -> None:
    model, by_hand = two_layers(), dict[str, Tensor]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    x, y = torch.randn(6, 4), torch.randn(6, 3)
    with Movement(model, LAYERS, optimizer) as movement:
        for _ in range(4):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            for name in LAYERS:
                weight = model.get_parameter(name)
                assert weight.grad is not None
                by_hand[name] = by_hand.get(name, torch.zeros(())) - weight.detach() * weight.grad
            optimizer.step()
    F.mse_loss(model(x), y).backward()
    optimizer.step()  # past the end of the block
    torch.testing.assert_close(dict(movement), by_hand)
    mask = prune(model, 0.5, "movement", movement=movement)
    flat = torch.cat([by_hand[name].reshape(-1) for name in LAYERS])
    expected = flat >= flat.sort(descending=True).values[kept_count(0.5, 35) - 1]
    assert torch.equal(torch.cat([mask[name].reshape(-1) for name in LAYERS]), expected)
    assert mask != prune_magnitude(model, 0.5)


def test_a_loss_by_name_and_by_default_is_the_cross_entropy_of_pairs() -> None:
    model, batches = two_layers(), [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(2)]

    def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    found = [prune(model, 0.3, "grasp", batches=batches, loss=loss) for loss in (None, "classification", cross_entropy)]
    assert found[0] == found[1] == found[2]
    weights = {name: model.get_parameter(name).detach() for name in LAYERS}
    seen = scores("grasp", model, weights, batches=batches)
    torch.testing.assert_close(seen, hessian_by_hand(model, batches), rtol=1e-4, atol=1e-6)


def hessian_by_hand(model: nn.Module, batches: list[Any]) -> dict[str, Tensor]:
    """w H g with the whole Hessian written out, by the pruned weights."""
    shapes = {name: model.get_parameter(name).shape for name in LAYERS}
    w = torch.cat([model.get_parameter(name).detach().reshape(-1) for name in LAYERS])

    def loss(flat: Tensor) -> Tensor:
        parts = dict(zip(LAYERS, flat.split([shape.numel() for shape in shapes.values()]), strict=True))
        given = {name: part.reshape(shapes[name]) for name, part in parts.items()}
        losses = [F.cross_entropy(torch.func.functional_call(model, given, (x,)), y) for x, y in batches]
        return torch.stack(losses).mean()

    gradient = torch.autograd.functional.jacobian(loss, w)
    hessian = torch.autograd.functional.hessian(loss, w)
    assert isinstance(gradient, Tensor)
    assert isinstance(hessian, Tensor)
    parts = (w * (hessian @ gradient)).split([shape.numel() for shape in shapes.values()])
    return {name: part.reshape(shapes[name]) for name, part in zip(LAYERS, parts, strict=True)}


def test_random_scores_are_drawn_by_the_generator() -> None:
    weights = {"w": torch.randn(100)}
    draw = [prune(weights, 0.3, "random", names="w", generator=seed) for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]
    assert draw[0].kept == 30
    assert prune(weights, 0.3, "random", names="w", generator=torch.Generator().manual_seed(0)).kept == 30


def test_a_function_is_a_criterion() -> None:
    def smallest(weights: Mapping[str, Tensor], *, power: float = 1.0) -> dict[str, Tensor]:
        """Keep what is small."""
        return {name: -(weight.abs() ** power) for name, weight in weights.items()}

    weights = {"w": torch.tensor([0.1, -3.0, 2.0, 2.5])}
    assert prune(weights, 0.5, smallest, names="w")["w"].tolist() == [True, False, True, False]
    assert prune(weights, 0.5, smallest, names="w", power=2.0)["w"].tolist() == [True, False, True, False]


@pytest.mark.slow
def test_attention_and_recurrent_layers_have_second_derivatives() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    lstm = nn.LSTM(8, 6, batch_first=True)

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        out = model(x)
        return (out[0] if isinstance(out, tuple) else out).square().mean()

    for model in (encoder, lstm):
        for name in ("grasp", "snip"):
            assert prune(model, 0.25, name, loss=loss, batches=[torch.randn(2, 3, 8)]).density == pytest.approx(0.25)
        assert prune(model, 0.25, "synflow", rounds=3, example_inputs=torch.randn(2, 3, 8)).density == pytest.approx(
            0.25
        )


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_the_model_is_left_as_it_was_in_every_part(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(36, 2)
    )
    model[0].requires_grad_(False)
    model(torch.randn(4, 3, 5, 5)).sum().backward()
    before, gradient = copy.deepcopy(dict(model.state_dict())), model.get_parameter("5.weight").grad
    random = torch.get_rng_state()
    batches = [(torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1]))]
    options: dict[str, Any] = (
        {"example_inputs": batches[0][0], "rounds": 2} if name == "synflow" else {"batches": batches}
    )
    mask = prune(nn.DataParallel(model), 0.25, name, **options)
    assert set(mask) == {"0.weight", "5.weight"}
    assert mask.kept == kept_count(0.25, mask.numel)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert model.get_parameter("5.weight").grad is gradient
    assert not model.get_parameter("0.weight").requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())
    assert prune(model, 0.25, name, **options).kept == mask.kept
