"""The training loop against torch's own optimizer and schedulers, and augmentation against a loop over images."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket.data import Dataset, load_dataset
from reticket.data.source import Augmentation
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.training import Recipe, Span, evaluate, evaluation_batch, learning_rate, steps_per_epoch, train
from reticket.training.batches import Batches

ORDER = ("oracle", 0)


def image_data(n: int = 50, size: int = 8, channels: int = 3) -> Dataset:
    generator = generator_for("image data")
    x = torch.randint(256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    y = torch.arange(n) % 4
    mean, std = tuple(0.4 + 0.1 * c for c in range(channels)), tuple(0.2 + 0.1 * c for c in range(channels))
    return Dataset("noise", x, y, x[:8], y[:8], tuple("abcd"), mean, std, augmentation="flip-crop")


def batches_as_documented(data: Dataset, batch_size: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(data.train_y), generator=generator_for(*ORDER, "epoch", epoch))
    steps = steps_per_epoch(len(order), batch_size)
    return [(data.normalise(data.train_x[i]), data.train_y[i]) for i in order.split(batch_size)[:steps]]


def torch_training(
    model: nn.Module, data: Dataset, recipe: Recipe, start: int, mask: dict[str, Tensor], nesterov: bool = False
) -> dict[str, Tensor]:
    """Train by torch.optim.SGD and CosineAnnealingLR, a step of the scheduler for each step."""
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.SGD(
        parameters.values(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=nesterov,
    )
    per_epoch = steps_per_epoch(len(data.train_y), recipe.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * per_epoch - start)
    with torch.no_grad():
        for name, kept in mask.items():
            parameters[name].masked_fill_(~kept, 0)
    for step in range(start, recipe.epochs * per_epoch):
        x, y = batches_as_documented(data, recipe.batch_size, step // per_epoch)[step % per_epoch]
        optimizer.zero_grad()
        F.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for name, kept in mask.items():
                parameters[name].masked_fill_(~kept, 0)
    return dict(model.state_dict())


@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["mlp", "conv-small"])
def test_equals_torch_sgd_with_cosine_annealing(name: str, masked: bool, start: int) -> None:
    data = load_dataset("digits", train_size=70)
    recipe = Recipe(epochs=4, batch_size=16, lr=0.1)
    if name == "conv-small":
        data = image_data()
        recipe = Recipe(epochs=3, batch_size=16, lr=0.1, augment=False)
    params = {"mlp": {"hidden": (24,)}, "conv-small": {"in_channels": 3, "widths": (4, 6, 6, 8), "classes": 4}}[name]
    model = build_model(name, **params).double()
    mask = {
        key: torch.rand(p.shape, generator=generator_for(key)) < 0.3
        for key, p in model.named_parameters()
        if p.dim() > 1 and masked
    }
    result = train(model, data, recipe, rng_label=ORDER, span=Span(start), mask=mask)
    expected = torch_training(build_model(name, **params).double(), data, recipe, start, mask)
    assert_close(dict(result.weights), expected, rtol=1e-12, atol=1e-12)
    wrong = torch_training(build_model(name, **params).double(), data, recipe, start, mask, nesterov=True)
    with pytest.raises(AssertionError):
        assert_close(dict(result.weights), wrong, rtol=1e-12, atol=1e-12)


def schedule(recipe: Recipe, start: int, per_epoch: int) -> list[float]:
    return [learning_rate(recipe, step, start, per_epoch) for step in range(start, recipe.epochs * per_epoch)]


def torch_schedule(
    make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], n: int
) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, seen = make(optimizer), []
    for _ in range(n):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


def test_schedules_equal_torch() -> None:
    sched = torch.optim.lr_scheduler
    cosine = Recipe(epochs=6, batch_size=1, lr=0.3)
    assert_close(schedule(cosine, 0, 5), torch_schedule(lambda o: sched.CosineAnnealingLR(o, 30), 30))
    assert_close(schedule(cosine, 12, 5), torch_schedule(lambda o: sched.CosineAnnealingLR(o, 18), 18))
    step = Recipe(epochs=6, batch_size=1, lr=0.3, schedule="step", milestones=(2, 4), gamma=0.2)
    expected = torch_schedule(lambda o: sched.MultiStepLR(o, [10, 20], 0.2), 30)
    assert_close(schedule(step, 0, 5), expected)
    assert_close(schedule(step, 7, 5), expected[7:])
    warm = Recipe(epochs=6, batch_size=1, lr=0.3, warmup_epochs=1)
    linear = [0.06, 0.12, 0.18, 0.24, 0.3]
    assert_close(schedule(warm, 0, 5), linear + torch_schedule(lambda o: sched.CosineAnnealingLR(o, 25), 25))
    assert set(schedule(Recipe(epochs=2, batch_size=1, lr=0.3, schedule="constant"), 0, 5)) == {0.3}


def test_a_warm_up_climbs_to_what_the_milestones_have_left() -> None:
    """Runs of six epochs of five steps, from before, upon and after a milestone; the rates are worked out by hand."""
    recipe = Recipe(epochs=6, batch_size=1, lr=0.4, schedule="step", milestones=(2, 4), gamma=0.1, warmup_epochs=1)
    climb = [0.08, 0.16, 0.24, 0.32, 0.4]
    tenth, hundredth = [rate / 10 for rate in climb], [rate / 100 for rate in climb]
    assert_close(schedule(recipe, 0, 5), [*climb, *[0.4] * 5, *[0.04] * 10, *[0.004] * 10])
    assert_close(schedule(recipe, 5, 5), [*climb, *[0.04] * 10, *[0.004] * 10])
    assert_close(schedule(recipe, 8, 5), [0.08, 0.16, *tenth[2:], *[0.04] * 7, *[0.004] * 10])
    assert_close(schedule(recipe, 10, 5), [*tenth, *[0.04] * 5, *[0.004] * 10])
    assert_close(schedule(recipe, 20, 5), [*hundredth, *[0.004] * 5])
    plain = Recipe(epochs=6, batch_size=1, lr=0.4, schedule="step", milestones=(2, 4), gamma=0.1)
    for start in range(30):  # never above the schedule itself, and the schedule itself once it is warm
        warm, cold = schedule(recipe, start, 5), schedule(plain, start, 5)
        assert all(a <= b for a, b in zip(warm, cold, strict=True))
        assert warm[5:] == cold[5:]
    flat = Recipe(epochs=3, batch_size=1, lr=0.4, schedule="constant", warmup_epochs=1)
    assert_close(schedule(flat, 5, 5), [*climb, *[0.4] * 5])


@pytest.mark.parametrize("augmentation", ["crop", "flip-crop"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("side", "padding"), [(8, 1), (32, 4)])
def test_augmentation_equals_a_loop_over_images(
    channels_last: bool, augmentation: Augmentation, side: int, padding: int
) -> None:
    data = dataclasses.replace(image_data(size=side), augmentation=augmentation)
    made = Batches(
        data, 16, ORDER, augment=True, dtype=torch.float32, device=torch.device("cpu"), channels_last=channels_last
    )
    generator = generator_for(*ORDER, "epoch", 2)
    order = torch.randperm(50, generator=generator)
    crops = torch.randint(2 * padding + 1, (2, 50), generator=generator).tolist()
    flips = (torch.rand(50, generator=generator) < 0.5).tolist() if augmentation == "flip-crop" else [False] * 50
    expected = []
    for place, i in enumerate(order.tolist()):
        top, left = crops[0][place], crops[1][place]
        image = F.pad(data.train_x[i], (padding,) * 4)[:, top : top + side, left : left + side]
        expected.append(image.flip(2) if flips[place] else image)
    seen = list(made.epoch(2))
    assert_close(torch.cat([x for x, _ in seen]), data.normalise(torch.stack(expected)), rtol=0, atol=0)
    assert torch.equal(torch.cat([y for _, y in seen]), data.train_y[order])
    assert len(seen) == steps_per_epoch(50, 16)
    assert len(set(crops[0])) == 2 * padding + 1
    assert set(flips) == ({True, False} if augmentation == "flip-crop" else {False})
    skipped = list(made.epoch(2, skip=3))
    assert_close(skipped[0][0], seen[3][0], rtol=0, atol=0)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("name", "value"), [("CHUNK_VALUES", 1), ("NORMALISED_BYTES", 0)])
def test_what_is_kept_in_memory_does_not_change_the_batches(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int, augment: bool
) -> None:
    def batches() -> list[Tensor]:
        made = Batches(
            image_data(), 7, ORDER, augment=augment, dtype=torch.float32, device=torch.device("cpu"), channels_last=True
        )
        return [x for x, _ in made.epoch(0)]

    whole = batches()
    monkeypatch.setattr(f"reticket.training.batches.{name}", value)
    assert_close(batches(), whole, rtol=0, atol=0)


def test_batches_without_augmentation_are_the_normalised_inputs_in_order() -> None:
    data = image_data()
    made = Batches(data, 16, ORDER, augment=False, dtype=torch.float64, device=torch.device("cpu"), channels_last=True)
    order = torch.randperm(50, generator=generator_for(*ORDER, "epoch", 0))
    seen = [x for x, _ in made.epoch(0)]
    assert_close(torch.cat(seen), data.normalise(data.train_x[order]).double(), rtol=0, atol=0)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


@pytest.mark.slow_cases("16-32")
@pytest.mark.parametrize(("width", "expected"), [(1, 500), (4, 128), (16, 32)])
def test_as_many_inputs_are_evaluated_at_once_as_keep_an_activation_within_32_mb(width: int, expected: int) -> None:
    model = build_model("resnet20", width=width)
    norm, state = model.get_submodule("bn1"), [t.clone() for t in model.state_dict().values()]
    norm.eval()
    assert evaluation_batch(model, (3, 32, 32)) == expected
    assert evaluation_batch(model, (3, 32, 32), 7) == 7
    assert model.training
    assert not norm.training
    assert all(torch.equal(was, now) for was, now in zip(state, model.state_dict().values(), strict=True))
    assert not any(module._forward_hooks for module in model.modules())


def test_evaluation_equals_one_plain_forward_pass() -> None:
    data = image_data()
    model = build_model("conv-small", in_channels=3, classes=4)
    with torch.no_grad():
        logits = model.eval()(data.normalise(data.train_x))
    model.train()
    seen = evaluate(model, data, "train", batch_size=7)
    assert model.training
    assert_close(seen.logits, logits, rtol=1e-4, atol=1e-5)
    assert_close(seen.loss, float(F.cross_entropy(logits.double(), data.train_y)), rtol=1e-5, atol=0)
    assert seen.accuracy == 100 * float((logits.argmax(1) == data.train_y).double().mean())
    assert_close(evaluate(model, data, "train").logits, logits, rtol=1e-4, atol=1e-5)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    assert_close(evaluate(model, data, weights=zeros).loss, torch.tensor(4.0).log().item())
