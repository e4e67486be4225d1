"""Optimisers, schedules, clipping, smoothing and parts of a batch against torch's own, written out as a plain loop."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket import Recipe, build_model, generator_for, load_dataset, train
from reticket.objectives import OBJECTIVES
from reticket.training import Resume, Span, TrainState, learning_rate, steps_per_epoch
from reticket.training.chain import loss_and_gradient
from reticket.training.rate_schedules import Moment

HERE = __name__
DATA = load_dataset("digits", train_size=70)
ORDER = ("recipes", 0)


def plain_loop(
    recipe: Recipe,
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    mask: dict[str, Tensor],
    clip: float | None = None,
) -> dict[str, Tensor]:
    """Train by torch alone; weights and gradients are masked by hand."""
    model = double_model()
    named, per_epoch = dict(model.named_parameters()), steps_per_epoch(70, recipe.batch_size)
    optimizer = make(list(named.values()))

    def masked(part: str) -> None:
        for name, kept in mask.items():
            tensor = named[name].data if part == "weights" else named[name].grad
            assert tensor is not None
            tensor.masked_fill_(~kept, 0)

    masked("weights")
    for step in range(recipe.epochs * per_epoch):
        order = torch.randperm(70, generator=generator_for(*ORDER, "epoch", step // per_epoch))
        chosen = order.split(recipe.batch_size)[step % per_epoch]
        optimizer.zero_grad()
        x = DATA.normalise(DATA.train_x[chosen]).double()
        F.cross_entropy(model(x), DATA.train_y[chosen], label_smoothing=recipe.label_smoothing).backward()
        masked("gradient")
        if clip is not None:
            nn.utils.clip_grad_norm_(named.values(), clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, 0, per_epoch)
        optimizer.step()
        masked("weights")
    return dict(model.state_dict())


def double_model() -> nn.Module:
    return build_model("mlp", hidden=(24, 16)).double()


MASK = {
    n: torch.rand(p.shape, generator=generator_for(n)) < 0.4
    for n, p in double_model().named_parameters()
    if p.dim() > 1
}
OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, weight_decay=0.1, momentum=0.9),
    "adafactor": lambda p: torch.optim.Adafactor(p, 0.01, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, 0.01, weight_decay=0.1, momentum=0.9),
}


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_by_name_is_torchs(name: str, clip: float | None) -> None:
    recipe = Recipe(4, 16, 0.01, weight_decay=0.1, optimizer=name, clip_norm=clip)
    found = train(double_model(), DATA, recipe, rng_label=ORDER, mask=MASK)
    assert_close(dict(found.weights), plain_loop(recipe, OPTIMISERS[name], MASK, clip), rtol=1e-10, atol=1e-12)
    if name not in ("adamw", "nadam", "rmsprop"):  # to which the gradient's length is next to nothing
        other = plain_loop(recipe, OPTIMISERS[name], MASK, 0.1 if clip else 0.3)
        with pytest.raises(AssertionError):
            assert_close(dict(found.weights), other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_parts_of_a_batch_give_the_step_of_the_whole(name: str) -> None:
    """The last batch has 6 inputs, which three parts share evenly and four do not."""
    recipe = Recipe(4, 16, 0.01, optimizer=name, clip_norm=0.3)
    whole = train(double_model(), DATA, recipe, mask=MASK)
    for parts in (3, 4, 16):
        found = train(double_model(), DATA, replace(recipe, accumulate=parts), mask=MASK)
        assert_close(dict(found.weights), dict(whole.weights), rtol=1e-9, atol=1e-11)
        assert [e.loss for e in found.history] == pytest.approx([e.loss for e in whole.history])


def test_labels_are_smoothed_as_by_torch() -> None:
    recipe = Recipe(4, 16, 0.1, label_smoothing=0.1)
    found = train(double_model(), DATA, recipe, rng_label=ORDER, mask=MASK)
    sgd = lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=5e-4)  # noqa: E731
    assert_close(dict(found.weights), plain_loop(recipe, sgd, MASK), rtol=1e-10, atol=1e-12)
    with pytest.raises(AssertionError):
        assert_close(
            dict(found.weights), plain_loop(replace(recipe, label_smoothing=0.0), sgd, MASK), rtol=1e-4, atol=1e-6
        )


def rates(recipe: Recipe, start: int = 0) -> list[float]:
    return [learning_rate(recipe, step, start, 5) for step in range(start, 5 * recipe.epochs)]


def test_one_cycle_is_torchs() -> None:
    recipe = Recipe(6, 1, 0.3, schedule="one-cycle", schedule_options={"rise": 0.2, "begin": 0.1, "end": 0.01})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    options = {"max_lr": 0.3, "total_steps": 30, "pct_start": 0.2, "div_factor": 10, "final_div_factor": 100}
    cycle, seen = torch.optim.lr_scheduler.OneCycleLR(optimizer, **options, cycle_momentum=False), []
    for _ in range(30):
        seen.append(cycle.get_last_lr()[0])
        optimizer.step()
        if len(seen) < 30:
            cycle.step()
    assert rates(recipe) == pytest.approx(seen, rel=1e-12)
    assert rates(recipe) != pytest.approx(
        rates(replace(recipe, schedule_options={"rise": 0.3, "begin": 0.1, "end": 0.01}))
    )


def test_a_line_falls_from_the_end_of_the_warm_up() -> None:
    recipe = Recipe(3, 1, 0.4, schedule="linear", warmup_epochs=1)
    assert rates(recipe) == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4, *(0.4 * (1 - t / 10) for t in range(10))])
    halved = replace(recipe, schedule_options={"end": 0.5}, warmup_epochs=0)
    assert rates(halved) == pytest.approx([0.4 * (0.5 + 0.5 * (1 - t / 15)) for t in range(15)])
    assert rates(halved, 10) == pytest.approx([0.4 * (0.5 + 0.5 * (1 - t / 5)) for t in range(5)])


def staircase(at: Moment, milestones: tuple[float, ...], *, height: float = 0.5) -> float:
    """Fall by a half at the first milestone, and by `height` every three steps."""
    return (0.5 if at.step >= milestones[0] * at.steps_in_epoch else 1.0) * height ** (at.done // 3)


def test_a_schedule_of_ones_own() -> None:
    recipe = Recipe(2, 1, 0.8, schedule=f"{HERE}:staircase", milestones=(1,), schedule_options={"height": 0.1})
    expected = [0.8] * 3 + [0.08] * 2 + [0.04] + [0.004] * 3 + [0.0004]
    assert rates(recipe) == pytest.approx(expected)


class NextToken(nn.Module):
    """Tokens in, logits of the token that follows each out; a network whose loss is no classification."""

    def __init__(self) -> None:
        super().__init__()
        generator = generator_for("next token")
        self.embed, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
        for p in self.parameters():
            p.data = 0.3 * torch.randn(p.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, tokens, 11)."""
        return self.out(torch.tanh(self.embed(x.long())))


def squared(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared error of the first output."""
    return (model(batch[0])[:, 0] - batch[1]).square().mean()


@pytest.mark.parametrize("parts", [1, 3])
def test_an_objective_of_ones_own_is_what_is_minimised(parts: int) -> None:
    """Full batches of 70, so that parts of unequal size must count by their inputs."""
    recipe = Recipe(6, 70, 0.01, momentum=0.0, weight_decay=0.0, objective=f"{HERE}:squared", accumulate=parts)
    found = train(double_model(), DATA, recipe, rng_label=ORDER, mask=MASK)
    model, rates_of = double_model(), [learning_rate(recipe, step, 0, 1) for step in range(6)]
    named = dict(model.named_parameters())
    for rate in rates_of:
        for name, kept in MASK.items():
            named[name].data.masked_fill_(~kept, 0)
        loss = (model(DATA.normalise(DATA.train_x).double())[:, 0] - DATA.train_y).square().mean()
        for p, gradient in zip(named.values(), torch.autograd.grad(loss, list(named.values())), strict=True):
            p.data.sub_(gradient, alpha=rate)
    for name, kept in MASK.items():
        named[name].data.masked_fill_(~kept, 0)
    assert_close(dict(found.weights), dict(model.state_dict()), rtol=1e-9, atol=1e-11)
    other = train(double_model(), DATA, replace(recipe, objective="classification"), rng_label=ORDER, mask=MASK)
    with pytest.raises(AssertionError):
        assert_close(dict(found.weights), dict(other.weights), rtol=1e-3, atol=1e-4)


def test_a_language_model_is_trained_on_the_mean_over_its_tokens() -> None:
    x = torch.randint(11, (4, 6), generator=generator_for("tokens"))
    y = x.roll(-1, 1).masked_fill(torch.rand(4, 6, generator=generator_for("ignored")) < 0.3, -100)
    model = NextToken()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    loss = loss_and_gradient(model, OBJECTIVES["language-model"])(x, y, 4)
    expected = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100)
    assert_close(loss, expected)
    for p, gradient in zip(model.parameters(), torch.autograd.grad(expected, list(model.parameters())), strict=True):
        assert_close(p.grad, gradient)


class Normed(nn.Module):
    """A layer with BatchNorm, whose statistics are averaged too."""

    def __init__(self) -> None:
        super().__init__()
        generator = generator_for("normed")
        self.first, self.norm, self.last = nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Linear(12, 10)
        for p in (*self.first.parameters(), *self.last.parameters()):
            p.data = 0.2 * torch.randn(p.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.last(torch.relu(self.norm(self.first(x))))


KEPT = {"first.weight": torch.rand(12, 64, generator=generator_for("kept")) < 0.4}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_last_step_leaves_the_average_of_all_weights(name: str) -> None:
    """Averaged by hand from the states after each step; a run that is cut goes on to the same bits."""
    recipe = Recipe(3, 16, 0.02, optimizer=name, ema=0.8)
    whole = train(Normed(), DATA, recipe, mask=KEPT)
    start = Normed()
    start.first.weight.data.masked_fill_(~KEPT["first.weight"], 0)
    average = {key: value.clone() for key, value in start.state_dict().items()}
    raw: dict[str, Tensor] = {}
    for step in range(1, 16):
        raw = dict(train(Normed(), DATA, replace(recipe, ema=None), mask=KEPT, span=Span(stop=step)).weights)
        for key, value in raw.items():
            average[key] = average[key].lerp(value, 0.2) if value.is_floating_point() else value
    assert_close(dict(whole.weights), average)
    assert not whole.weights["first.weight"][~KEPT["first.weight"]].any()
    with pytest.raises(AssertionError):
        assert_close(dict(whole.weights), raw, rtol=1e-3, atol=1e-4)
    first = train(Normed(), DATA, recipe, mask=KEPT, span=Span(stop=7))
    assert_close(
        dict(first.weights),
        dict(train(Normed(), DATA, replace(recipe, ema=None), mask=KEPT, span=Span(stop=7)).weights),
        rtol=0,
        atol=0,
    )
    stored = TrainState.from_tensors(first.state.tensors(), first.state.metadata())
    resumed = train(Normed(), DATA, recipe, mask=KEPT, resume=Resume(state=stored))
    assert all(torch.equal(value, whole.weights[key]) for key, value in resumed.weights.items())
