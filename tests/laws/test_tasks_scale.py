"""Scaling an experiment down: the clock keeps its shares, nothing after step 0 falls on it, and it is written down."""

import itertools

import pytest

from reticket.errors import ConfigError
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.config import Config
from reticket.tasks.networks import Facts
from reticket.tasks.presets import list_presets, load_config
from reticket.tasks.scale import scale_text, scaled
from reticket.tasks.sweep import variants
from reticket.tasks.work import Sizes
from reticket.training import learning_rate, parse_position, steps_per_epoch

CIFAR = Sizes(50_000, 10_000)


def preset(name: str, *settings: str) -> Config:
    return load_config(name, settings)[1]


def test_the_whole_experiment_is_left_as_it_is() -> None:
    whole = preset("cifar10-resnet20")
    assert scaled(whole, CIFAR) == scaled(whole, CIFAR, epochs=200, subset=60_000) == whole
    assert scale_text(whole, whole) == ""


def test_everything_in_epochs_keeps_its_share() -> None:
    whole = preset("cifar10-early-matching", "a_at=60ep", "prune.rewind=10ep")
    small = scaled(whole, CIFAR, epochs=20)
    assert (small.dense.epochs, small.prune.epochs, small.prune.rewind) == (20, 5, "1ep")
    assert small.grid.rewinds == ("2ep",)
    assert small.matching.a_at == "6ep"
    assert small.grid.match_at == ("196it", "2ep", "5ep", "10ep", "end", "5ep+10ep+end")
    assert small.data.train_size is None
    assert small.scale == {"epochs": (200, 20), "prune_epochs": (50, 5)}
    with pytest.raises(AssertionError):
        assert scaled(whole, CIFAR, epochs=20).grid == scaled(whole, CIFAR, epochs=40).grid


def test_one_epoch_of_256_images() -> None:
    small = scaled(preset("cifar10-resnet20"), CIFAR, epochs=1, subset=256)
    assert small.grid.rewinds == ("0ep", "1it"), "two steps, the last of which is the end"
    assert (small.data.train_size, small.data.test_size, small.prune.epochs) == (256, 256, 1)
    assert small.checks.diversity_rewind == "1it"
    said = scale_text(preset("cifar10-resnet20"), small)
    assert said.startswith(
        "scaled down: 200 dense epochs to 1; 50 epochs of a round to 1; 50,000 training images to 256;"
    )
    assert "10,000 test images to 256; rewind points 0ep, 1ep, 5ep" in said
    assert said.endswith("to 0ep, 1it")


def test_steps_move_with_the_epoch_that_a_subset_makes_shorter() -> None:
    small = scaled(
        preset("cifar10-resnet20", 'rewinds=["0it", "391it", "782it", "20ep"]', "diversity_rewind=20ep"),
        CIFAR,
        subset=1280,
    )
    assert small.grid.rewinds == ("0ep", "1ep", "2ep", "20ep")
    assert small.dense.epochs == 200


def test_warm_up_and_milestones_fall_on_whole_steps_at_the_same_share() -> None:
    whole = preset("imagenet-resnet50")
    small = scaled(whole, Sizes(1_281_167, 50_000), epochs=1, subset=40_960).dense
    steps = steps_per_epoch(40_960, 1024)
    assert steps == 40
    assert [round(m * steps, 9) for m in (small.warmup_epochs, *small.milestones)] == [2, 15, 30]
    rates = [learning_rate(small, step, 0, steps) for step in range(steps)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert [step for step, (a, b) in enumerate(itertools.pairwise(rates), 1) if b < a] == [15, 30]


def test_scaling_a_scaled_experiment_remembers_the_whole() -> None:
    once = scaled(preset("cifar10-resnet20"), CIFAR, epochs=100, subset=5000)
    twice = scaled(once, CIFAR, epochs=10, subset=500)
    assert twice.scale == {"epochs": (200, 10), "prune_epochs": (50, 2), "train": (50_000, 500), "test": (10_000, 500)}


@pytest.mark.parametrize("name", list(list_presets()))
def test_every_preset_scales_to_a_plan(name: str) -> None:
    small = scaled(preset(name), Sizes(5000, 1000), epochs=1, subset=256)
    facts = Facts("0" * 64, 256, tuple("0123456789"), (3, 32, 32))
    for variant in variants(small):
        plan = Blueprint(variant.config, facts)
        assert all(
            parse_position(text, plan.networks.epoch) < plan.networks.end for text in variant.config.grid.rewinds
        )
        assert plan.networks.end == steps_per_epoch(256, variant.config.dense.batch_size)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epochs": 0}, "--epochs 0: expected 1 to 200, the experiment's own dense epochs"),
        ({"epochs": 201}, "--epochs 201: expected 1 to 200"),
        ({"subset": 1}, "--subset 1: expected at least 2 training images"),
    ],
)
def test_numbers_that_make_no_smaller_experiment_are_refused(asked: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scaled(preset("cifar10-resnet20"), CIFAR, **asked)


def test_a_sweep_of_what_would_be_scaled_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot scale a sweep of dense\.epochs"):
        scaled(preset("cifar10-resnet20", "sweep.dense.epochs=[10, 20]"), CIFAR, epochs=1)
