"""Laws of transforms and of mixed batches: the run alone decides them, a cut run gives the bits of a whole one."""

import dataclasses
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from reticket import build_model, generator_for, load_dataset
from reticket.cli.listing import listing
from reticket.data import Dataset
from reticket.errors import ConfigError
from reticket.tasks.recipes import recipe_in, recipe_spec
from reticket.training import Placement, Recipe, Resume, Span, TrainingRun, TrainState, train
from reticket.training.augmentations import transformed
from reticket.training.batches import TrainingBatches, batches_by
from reticket.training.mixing import Mixing, mixing_of
from tests.zoo.torchvision_operators import named_operators

HERE = __name__
ORDER = ("B", 1, "dense")
CPU = torch.device("cpu")
DIGITS = load_dataset("digits", train_size=70)
MIXED = {"mixup": {"mixup": 0.4}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 0.4, "cutmix": 1.0}}


def images(n: int = 50) -> Dataset:
    """Return images of which number i has the value i in every pixel, and class i modulo 5."""
    x = torch.arange(n).view(-1, 1, 1, 1).expand(n, 3, 8, 8).to(torch.uint8).contiguous()
    y = torch.arange(n) % 5
    return Dataset("images", x, y, x, y, tuple("abcde"), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "flip-crop")


def brighter(*, most: int = 100) -> Callable[[Tensor], Tensor]:
    """Return a transform that adds one number below `most` to every pixel of an image."""
    return lambda image: image + torch.randint(most, (1,)).to(torch.uint8)


def wider(*, by: int = 1) -> Callable[[Tensor], Tensor]:
    """Return a transform that changes the shape."""
    return lambda image: F.pad(image, (by, by))


def needing(most: int) -> Callable[[Tensor], Tensor]:
    """Return a transform by an option without a default."""
    return brighter(most=most)


def nothing() -> None:
    """Return no transform."""


OWN = f"{HERE}:brighter"
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05)


def batches(recipe: Recipe, data: Dataset | None = None, **options: Any) -> TrainingBatches:
    return batches_by(recipe, data or images(), ORDER, dtype=torch.float32, device=CPU, **options)


def same(one: TrainState, two: TrainState) -> None:
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert one.history == two.history


class Convolution(nn.Module):
    """A small network of images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 5 classes."""
        return self.out(self.conv(x).relu().mean((2, 3)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return Convolution()


# ---------------------------------------------------------------- transforms


def test_a_transform_follows_the_data_sets_own_augmentation_and_is_decided_by_epoch_and_place() -> None:
    recipe = dataclasses.replace(RECIPE, augment=OWN, augment_options={"most": 90})
    plain = torch.cat([x for x, _ in batches(RECIPE).epoch(1)])
    made = batches(recipe)
    found = torch.cat([x for x, _ in made.epoch(1)])
    seeds = torch.randint(2**62, (50,), generator=generator_for(*ORDER, "epoch", 1, "transform"))
    added = torch.stack([torch.randint(90, (1,), generator=torch.Generator().manual_seed(int(s))) for s in seeds])
    std = torch.tensor(images().std).view(1, 3, 1, 1)
    assert_close(found, plain + added.view(-1, 1, 1, 1) / 255 / std, rtol=0, atol=1e-5)
    assert len(set(added.flatten().tolist())) > 20
    assert torch.equal(next(made.epoch(1, skip=2))[0], found[32:48])
    assert torch.equal(made.batch(1, 2)[0], found[32:48])
    assert not torch.equal(torch.cat([x for x, _ in made.epoch(2)]), found)
    parts = [next(batches(recipe, shard=(rank, 2)).epoch(1))[0] for rank in range(2)]
    assert torch.equal(torch.cat(parts), found[:16])


def test_the_global_generator_is_put_back() -> None:
    before = torch.get_rng_state()
    transformed(brighter(), images().train_x, torch.arange(50))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{"augment": OWN}, *MIXED.values(), {"augment": OWN, "cutmix": 0.5}])
def test_a_cut_run_gives_the_same_bits_and_another_order_gives_others(changes: dict) -> None:
    recipe, data = dataclasses.replace(RECIPE, **changes), images()
    whole = train(network(), data, recipe, rng_label=ORDER).state
    first = train(network(), data, recipe, rng_label=ORDER, span=Span(stop=6)).state
    same(train(network(), data, recipe, rng_label=ORDER, resume=Resume(state=first)).state, whole)
    other = train(network(), data, recipe, rng_label=("C",)).state
    assert not torch.equal(other.weights["out.bias"], whole.weights["out.bias"])
    plain = train(network(), data, RECIPE, rng_label=ORDER).state
    assert not torch.equal(plain.weights["out.bias"], whole.weights["out.bias"])


def test_the_options_of_an_augmentation_and_its_code_are_in_the_key_and_of_none_nothing_is() -> None:
    assert recipe_spec(RECIPE).keys() & {"augment", "augment_options", "augment_code", "mixup", "cutmix"} == {"augment"}
    spec = recipe_spec(dataclasses.replace(RECIPE, augment=OWN, mixup=0.2))
    assert (spec["augment"], spec["augment_options"], spec["mixup"]) == (OWN, {"most": 100}, 0.2)
    assert len(spec["augment_code"]) == 64
    assert recipe_spec(recipe_in({"recipe": spec})) == spec


# ---------------------------------------------------------------- mixed batches


def mixed(mixup: float | None, cutmix: float | None, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images of which each is a number, what came of mixing them, and the labels of that."""
    x, y = images().train_x[:10].float(), torch.arange(10)
    return x, *Mixing(mixup, cutmix, 10)(x, y, generator_for("mix", seed))


def test_mixup_mixes_inputs_and_labels_alike() -> None:
    shares = []
    for seed in range(400):
        x, found, rows = mixed(0.4, None, seed)
        assert_close(rows.sum(1), torch.ones(10))
        assert_close(found[:, 0, 0, 0], rows @ torch.arange(10.0))  # image i has the value i
        assert_close(found, found[:, :1, :1, :1].expand_as(x))
        shares.append(float(rows.diagonal().min()))
    w = torch.tensor(shares)
    assert abs(float(w.mean()) - 0.5) < 4 * 0.37 / 20
    assert abs(float(w.var()) - 1 / (4 * (2 * 0.4 + 1))) < 0.02  # of Beta(a, a)


def test_cutmix_pastes_a_box_and_labels_go_by_its_pixels() -> None:
    shares = []
    for seed in range(300):
        x, found, rows = mixed(None, 1.0, seed)
        own = torch.stack([(image[0] == number).float().mean() for number, image in enumerate(found)])
        assert_close(rows.diagonal(), own, rtol=0, atol=1e-6)
        pasted = (found != x).any(1).any(0)
        rows_of, columns = pasted.any(1), pasted.any(0)
        assert int(pasted.sum()) == int(rows_of.sum()) * int(columns.sum())  # one box
        shares.append(float(rows.diagonal().min()))
    assert min(shares) < 0.4
    assert max(shares) > 0.9


def test_of_both_every_batch_takes_one() -> None:
    values = [mixed(0.4, 1.0, seed)[1] for seed in range(40)]
    cut = [bool((found == found.round()).all()) for found in values]
    assert 8 < sum(cut) < 32


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_training_on_mixed_batches_equals_a_plain_loop_with_two_targets(smoothing: float) -> None:
    """Labels as rows of probabilities are Zhang et al.'s two losses with a weight; the closed form is not used."""
    recipe = dataclasses.replace(RECIPE, mixup=0.3, weight_decay=0.0, label_smoothing=smoothing, schedule="constant")
    model = build_model("mlp", hidden=(16,)).double()
    found = train(model, DIGITS, recipe, rng_label=ORDER, span=Span(stop=4)).weights
    plain = build_model("mlp", hidden=(16,)).double()
    optimizer = torch.optim.SGD(plain.parameters(), 0.05, 0.9)
    order = torch.randperm(70, generator=generator_for(*ORDER, "epoch", 0))
    for step in range(4):
        chosen, generator = order[16 * step : 16 * step + 16], generator_for(*ORDER, "epoch", 0, "mixing", 16 * step)
        x, y = DIGITS.normalise(DIGITS.train_x[chosen]).double(), DIGITS.train_y[chosen]
        partner = torch.randperm(16, generator=generator)
        u = torch.rand(4, generator=generator, dtype=torch.float64)[1]
        w = float(torch.as_tensor(quantile(0.3, float(u))))
        logits = plain(w * x + (1 - w) * x[partner])
        one, other = (F.cross_entropy(logits, labels, label_smoothing=smoothing) for labels in (y, y[partner]))
        optimizer.zero_grad()
        (w * one + (1 - w) * other).backward()
        optimizer.step()
    assert_close(dict(found), plain.state_dict(), rtol=0, atol=1e-9)


def quantile(alpha: float, u: float) -> float:
    """Return the quantile of Beta(alpha, alpha), by another way of scipy than the package's."""
    from scipy.stats import beta

    return float(beta(alpha, alpha).ppf(u))


def test_mixed_batches_may_be_passed_in_parts() -> None:
    whole, parts = (
        train(build_model("mlp"), DIGITS, dataclasses.replace(RECIPE, mixup=0.3, accumulate=n), rng_label=ORDER).weights
        for n in (1, 3)
    )
    assert_close(dict(whole), dict(parts), rtol=0, atol=1e-4)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixup": 0.0}, "recipe: mixup is 0.0, but it must be above 0"),
        ({"cutmix": -1.0}, "recipe: cutmix is -1.0, but it must be above 0"),
        ({"mixup": 0.2, "objective": "regression"}, "recipe: mixup is of classification; leave it out with 'regressio"),
        ({"augment": "randaug"}, r"unknown augmentation 'randaug', did you mean 'randaugment'\?"),
        (
            {"augment": OWN, "augment_options": {"mst": 3}},
            rf"augmentation '{OWN}' has no option 'mst', did you mean 'm",
        ),
        (
            {"augment": OWN, "augment_options": {"most": "x"}},
            r"option 'most' of augmentation '.*' is 'x': input should",
        ),
        ({"augment_options": {"most": 3}}, "recipe: augment_options belong to a name, but augment is True; name it"),
        ({"augment": f"{HERE}:needing"}, "has the parameter 'most' without a default; name a function of options that"),
        ({"augment": f"{HERE}:nothing"}, "made a NoneType, but a transform of one input was expected: name a function"),
    ],
)
def test_a_slip_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(RECIPE, **changes)


def test_data_that_cannot_be_mixed_or_changed_are_named() -> None:
    with pytest.raises(ConfigError, match="cutmix needs images with a class each, which data set 'digits' does not"):
        train(build_model("mlp"), DIGITS, dataclasses.replace(RECIPE, cutmix=1.0))
    numbers = dataclasses.replace(
        DIGITS, train_y=torch.zeros(70), test_y=torch.zeros(len(DIGITS.test_y)), classes=("y",)
    )
    with pytest.raises(ConfigError, match="mixup needs floating inputs or images with a class each"):
        mixing_of(numbers, 0.2, None)
    with pytest.raises(
        ConfigError, match=r"augmentation made torch.uint8 \(3, 8, 10\) of an input that is torch.uint8"
    ):
        train(network(), images(), dataclasses.replace(RECIPE, augment=f"{HERE}:wider"))
    with pytest.raises(
        ConfigError, match="mixup and cutmix mix whole batches, but 2 processes share them; train in one"
    ):
        batches(dataclasses.replace(RECIPE, mixup=0.2), shard=(0, 2))


@pytest.mark.parametrize(
    ("changes", "name"), [({"mixup": 0.2}, "mixup"), ({"cutmix": 1.0}, "cutmix"), ({"augment": OWN}, OWN)]
)
def test_such_steps_are_not_recorded(changes: dict, name: str) -> None:
    def recorder(work, undo):
        raise AssertionError("nothing is recorded")

    recipe = dataclasses.replace(RECIPE, **changes)
    TrainingRun(network(), images(), recipe, rng_label=("x",), record=recorder).go(2)
    with pytest.raises(ConfigError, match=f"steps of '{name}' cannot be recorded; leave graphs off"):
        TrainingRun(network(), images(), recipe, rng_label=("x",), record=recorder, where=Placement(graphs=True))


# ---------------------------------------------------------------- torchvision


def test_the_seat_is_listed_without_torchvision() -> None:
    found = listing("augmentations")
    assert list(found)[:3] == ["randaugment", "trivial-augment", "autoaugment"]
    assert found["randaugment"].startswith("torchvision's RandAugment: `num_ops` operations of one magnitude")


def test_a_name_stands_for_torchvisions_transform_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def rand_augment(**options: Any) -> Callable[[Tensor], Tensor]:
        made.append(options)
        return brighter(most=options["magnitude"])

    stand_in = ModuleType("torchvision.transforms.v2")
    stand_in.RandAugment = rand_augment  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    recipe = dataclasses.replace(RECIPE, augment="randaugment", augment_options={"magnitude": 40})
    assert made[-1] == {"num_ops": 2, "magnitude": 40, "num_magnitude_bins": 31}
    own = dataclasses.replace(RECIPE, augment=OWN, augment_options={"most": 40})
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches(recipe).epoch(0), batches(own).epoch(0), strict=True))
    with pytest.raises(
        ConfigError, match=r"torchvision's RandAugment changes images of bytes .* leave it out of augmen"
    ):
        train(build_model("mlp"), DIGITS, recipe)


def test_torchvision_missing_or_broken_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(
        ConfigError, match=r"^augmentation 'randaugment' cannot be made: it needs torchvision, which is "
    ):
        dataclasses.replace(RECIPE, augment="randaugment")

    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr("reticket.extras.importlib.import_module", broken)
    with pytest.raises(
        ConfigError, match=r"does not load beside torch .* \(operator torchvision::nms does not exist\); i"
    ):
        dataclasses.replace(RECIPE, augment="trivial-augment")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("randaugment", {"magnitude": 20}),
        ("trivial-augment", {}),
        ("autoaugment", {"policy": "cifar10"}),
        ("torchvision.transforms.v2:ColorJitter", {"brightness": 0.5}),
    ],
)
def test_torchvisions_own_transforms_train(name: str, options: dict) -> None:
    try:
        KEPT.append(named_operators())
        import torchvision.transforms.v2 as found  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as problem:
        pytest.skip(f"torchvision is not there, or not for this torch: {problem}")
    assert found.RandAugment
    recipe = dataclasses.replace(RECIPE, augment=name, augment_options=options)
    assert recipe_spec(recipe)["augment_code"].startswith("torchvision ")
    one, two = (torch.cat([x for x, _ in batches(recipe).epoch(0)]) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, torch.cat([x for x, _ in batches(RECIPE).epoch(0)]))


KEPT: list[object] = []
