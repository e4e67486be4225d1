"""Laws of streamed images: labels alone decide the pixels, whatever threads, ranks, stops or bounds there are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reticket.data import DataSource, open_dataset, parallel
from reticket.data.decode import middle_pixels, random_part, training_pixels
from reticket.errors import ConfigError, DataError
from reticket.training.batches import TrainingBatches, training_batches
from tests.generated_data import generate, make_small, random_bytes

Pairs = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSource:
    make_small(monkeypatch)
    folder = generate("tiny-imagenet", tmp_path / "data")
    return open_dataset("tiny-imagenet", folder=folder, train_size=70, params={"side": 24})


def batches(data: DataSource, shard: tuple[int, int] = (0, 1), augment: bool = True) -> TrainingBatches:
    return training_batches(
        data,
        16,
        ("order", 1),
        augment=augment,
        dtype=torch.float32,
        device=torch.device("cpu"),
        channels_last=True,
        shard=shard,
    )


def assert_same(one: Pairs, two: Pairs) -> None:
    assert len(one) == len(two)
    for (x, y), (other_x, other_y) in zip(one, two, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_threads_bounds_and_resumption_do_not_change_a_pixel(tiny: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(batches(tiny).epoch(1))
    assert [len(y) for _, y in whole] == [16, 16, 16, 16, 6]
    assert_same(list(batches(tiny).epoch(1, skip=3)), whole[3:])
    assert_same([batches(tiny).batch(1, number) for number in (3, 4)], whole[3:])
    for threads in ("1", "5"):
        monkeypatch.setenv("RETICKET_DECODERS", threads)
        monkeypatch.setattr(parallel, "IN_FLIGHT", 1 if threads == "5" else 2**30)
        assert_same(list(batches(tiny).epoch(1)), whole)
    with pytest.raises(AssertionError):
        assert_same(list(batches(tiny).epoch(2)), whole)
    assert whole[0][0].is_contiguous(memory_format=torch.channels_last)


def test_ranks_share_a_batch(tiny: DataSource) -> None:
    whole = list(batches(tiny).epoch(0))
    ranks = [list(batches(tiny, (rank, 3)).epoch(0)) for rank in range(3)]
    together = [tuple(torch.cat(parts) for parts in zip(*each, strict=True)) for each in zip(*ranks, strict=True)]
    assert_same([(x, y) for x, y in together], whole)


def test_without_augmentation_training_sees_the_middle(tiny: DataSource) -> None:
    stored = torch.cat([tiny.normalise(x) for x, _ in tiny.stored("train", 7)])
    x, y = zip(*batches(tiny, augment=False).epoch(0), strict=True)
    seen = {row.sum().item() for row in torch.cat(x)}
    assert seen == {row.sum().item() for row in stored}
    assert sorted(torch.cat(y).tolist()) == sorted(tiny.labels("train").tolist())


def test_a_bounded_number_of_batches_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def queue() -> Iterator[list[int]]:
        for number in range(50):
            begun.append(number)
            yield [number] * 4

    def pixels(number: int) -> np.ndarray:
        return np.full((8, 8, 3), number, dtype=np.uint8)

    monkeypatch.setattr(parallel, "IN_FLIGHT", 3 * 4 * 8 * 8 * 3)
    made = parallel.decoded_batches(queue(), pixels, 8)
    for number in range(10):
        assert int(next(made)[0, 0, 0, 0]) == number
        assert len(begun) <= number + 4


def test_a_random_part_lies_inside_and_fills_its_ranges() -> None:
    areas, mirrored = [], 0
    for number in range(400):
        (left, top, right, bottom), flip = random_part(120, 90, ("part", number))
        assert 0 <= left < right <= 120
        assert 0 <= top < bottom <= 90
        assert 0.70 < (right - left) / (bottom - top) < 1.43
        areas.append((right - left) * (bottom - top) / (120 * 90))
        mirrored += flip
    assert min(areas) < 0.12
    assert max(areas) > 0.9
    assert 160 < mirrored < 240
    assert 0.38 < float(np.mean(areas)) < 0.5  # below 0.54: large parts fit less often
    (left, top, right, bottom), _ = random_part(400, 10, ("strip",))
    assert (bottom - top, right - left) == (10, 13)


def test_pixels_are_those_of_the_part() -> None:
    image = Image.fromarray(random_bytes(60 * 90 * 3).reshape(60, 90, 3))
    labels = next(("p", n) for n in range(50) if random_part(90, 60, ("p", n))[1])
    (left, top, right, bottom), _ = random_part(90, 60, labels)
    expected = image.crop((left, top, right, bottom)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(training_pixels(image, 16, labels), np.asarray(expected)[:, ::-1])
    assert np.array_equal(middle_pixels(image, 60, 60), np.asarray(image)[:, 15:75])
    assert middle_pixels(image, 28, 32).shape == (28, 28, 3)


def test_a_broken_image_is_named_when_training_meets_it(tiny: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tiny.train.path(11)  # pyright: ignore[reportAttributeAccessIssue]
    broken.write_bytes(broken.read_bytes()[:900])
    with pytest.raises(DataError, match=rf"'{broken}' cannot be decoded \(image file is truncated .*fetch it again"):
        list(batches(tiny).epoch(0))
    broken.write_bytes(b"<html>")
    with pytest.raises(DataError, match=rf"'{broken}' cannot be decoded \(cannot identify"):
        list(tiny.stored("train", 16))
    monkeypatch.setenv("RETICKET_DECODERS", "none")
    with pytest.raises(ConfigError, match=r"RETICKET_DECODERS is 'none'; set it to a number of threads"):
        next(tiny.stored("train", 16))
