"""Laws of reading a data set: parts, subsets and shards hold the same inputs as the whole."""

import pytest
import torch

from reticket.data import Dataset, Reading, load_dataset
from reticket.training.batches import training_batches


def images(n: int = 50) -> Dataset:
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator)
    y = torch.arange(n) % 4
    return Dataset("noise", x, y, x[:8], y[:8], tuple("abcd"), (0.5,) * 3, (0.25,) * 3, augmentation="flip-crop")


def test_a_reading_can_be_read_again_and_follows_its_indices() -> None:
    data = images()
    whole = Reading(data, "train", 16)
    assert [len(y) for _, y in whole] == [16, 16, 16, 2]
    for _ in range(2):
        torch.testing.assert_close(torch.cat([x for x, _ in whole]), data.normalise(data.train_x), rtol=0, atol=0)
    chosen = torch.tensor([7, 3, 3, 49])
    part = Reading(data, "train", 3, chosen)
    assert part.inputs == 4
    assert whole.inputs == 50
    assert torch.cat([y for _, y in part]).tolist() == (chosen % 4).tolist()
    assert torch.equal(torch.cat([x for x, _ in data.stored("train", 3, chosen)]), data.train_x[chosen])


def test_subsets_keep_the_other_part_and_change_the_fingerprint() -> None:
    data = images()
    train, test = data.with_train_subset(torch.tensor([5, 1])), data.with_test_subset(torch.tensor([2]))
    assert (train.size("train"), train.size("test"), test.size("train"), test.size("test")) == (2, 8, 50, 1)
    assert torch.equal(test.test_x, data.test_x[2:3])
    assert len({data.fingerprint(), train.fingerprint(), test.fingerprint()}) == 3


def test_a_test_subset_is_balanced_and_decided_by_its_seed() -> None:
    one, again, other = (load_dataset("digits", test_size=30, subset_seed=seed) for seed in (0, 0, 1))
    assert one.test_y.bincount().tolist() == [3] * 10
    assert torch.equal(one.test_x, again.test_x)
    assert not torch.equal(one.test_x, other.test_x)
    assert one.size("train") == 1297


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_shards_of_a_batch_together_are_the_batch(world: int, channels_last: bool) -> None:
    def epoch(rank: int, world: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        made = training_batches(
            images(),
            16,
            ("order",),
            augment=True,
            dtype=torch.float32,
            device=torch.device("cpu"),
            channels_last=channels_last,
            shard=(rank, world),
        )
        return list(made.epoch(1, skip=1))

    whole, shards = epoch(0, 1), [epoch(rank, world) for rank in range(world)]
    assert [len(y) for _, y in whole] == [16, 16, 2]
    for number, (x, y) in enumerate(whole):
        parts = [shard[number] for shard in shards]
        assert torch.equal(torch.cat([part[0] for part in parts]), x)
        assert torch.equal(torch.cat([part[1] for part in parts]), y)
        sizes = [len(part[1]) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    with pytest.raises(AssertionError):
        torch.testing.assert_close(shards[0][0][0], shards[1][0][0][: len(shards[0][0][0])])
