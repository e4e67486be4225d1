"""Published images averaged to a part of their side: their pixels, what is known without files, crops of them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from reticket.data import Dataset, open_dataset
from reticket.data.registry import describe
from reticket.data.shrinking import check_side
from reticket.data.source import Augmentation
from reticket.errors import DataError
from reticket.training.batches import training_batches
from tests.generated_data import generate, make_small

SIDES = [("cifar10", 16), ("cifar10", 2), ("cifar100", 8), ("svhn", 16), ("fashion-mnist", 14), ("fashion-mnist", 4)]


def opened(name: str, folder: Path, **params: object) -> Dataset:
    data = open_dataset(name, folder=folder, params=params)
    assert isinstance(data, Dataset)
    return data


@pytest.mark.parametrize(("name", "side"), SIDES)
def test_a_pixel_is_the_mean_of_its_square(
    name: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    folder = generate(name, tmp_path / name)
    full, small = opened(name, folder), opened(name, folder, side=side)
    for split in ("train", "test"):
        images, labels = full.split(split)
        factor = images.shape[-1] // side
        seen = images.numpy().astype(np.float64)
        means = seen.reshape(*seen.shape[:2], side, factor, side, factor).mean((3, 5))
        assert np.array_equal(np.floor(means + 0.5), small.split(split)[0].numpy())
        assert torch.equal(labels, small.split(split)[1])
    assert describe(name, {"side": side}).input_shape == small.input_shape == (full.input_shape[0], side, side)
    assert small.augmentation == full.augmentation


@pytest.mark.parametrize("name", ["cifar100", "svhn"])
def test_moments_are_those_of_the_images_that_are_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    data = opened(name, generate(name, tmp_path / name), side=8)
    pixels = data.train_x.double() / 255
    assert_close(torch.tensor(data.mean).double(), pixels.mean((0, 2, 3)), rtol=0, atol=1e-6)
    assert_close(torch.tensor(data.std).double(), pixels.std((0, 2, 3), correction=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [0, -16, 20, 64])
def test_what_is_no_whole_part_is_refused(side: object) -> None:
    said = rf"data set 'cifar10': side is {side!r}, but its images have 32 pixels a side, .* to 32, 16, 8, 4 or 2"
    for ask in (lambda: describe("cifar10", {"side": side}), lambda: open_dataset("cifar10", params={"side": side})):
        with pytest.raises(DataError, match=said):
            ask()


@pytest.mark.parametrize("side", [True, 16.0, "16", None])
def test_what_is_no_whole_number_is_refused(side: object) -> None:
    with pytest.raises(DataError, match=f"data set 'svhn': side is {side!r}, but its images have 32 pixels a side"):
        check_side("svhn", side, 32)


@pytest.mark.parametrize(("side", "padding"), [(32, 4), (28, 4), (25, 4), (24, 3), (16, 2), (8, 1), (3, 1)])
def test_crops_leave_an_eighth_of_a_side_and_four_pixels_at_most(side: int, padding: int) -> None:
    images = torch.full((2_000, 1, side, side), 255, dtype=torch.uint8)
    labels = torch.arange(2_000) % 10
    data = Dataset(
        "white", images, labels, images, labels, tuple("0123456789"), mean=(0.0,), std=(1.0,), augmentation="crop"
    )
    made = training_batches(
        data, 2_000, ("crops",), augment=True, dtype=torch.float32, device=torch.device("cpu"), channels_last=False
    )
    x, _ = next(iter(made.epoch(0)))
    black = (x == 0).all(3).sum(2).flatten(), (x == 0).all(2).sum(2).flatten()  # rows and columns of each image
    for many in black:
        assert (int(many.min()), int(many.max())) == (0, padding)


@pytest.mark.parametrize(
    ("side", "augmentation", "changed"), [(8, "crop", True), (8, "none", False), (32, "crop", False)]
)
def test_results_of_crops_that_were_padded_otherwise_are_no_longer_found(
    side: int, augmentation: Augmentation, changed: bool
) -> None:
    images, labels = torch.zeros((10, 1, side, side), dtype=torch.uint8), torch.arange(10)
    data = Dataset("black", images, labels, images, labels, tuple("0123456789"), (0.5,), (1.0,), augmentation)
    earlier = hashlib.sha256(repr((data.mean, data.std, augmentation, data.classes)).encode())
    for tensor in (images, labels, images, labels):
        earlier.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        earlier.update(tensor.numpy().tobytes())
    assert (data.fingerprint() != earlier.hexdigest()) == changed
