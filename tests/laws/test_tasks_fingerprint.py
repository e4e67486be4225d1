"""A fingerprint, and so every key, does not depend on how many threads the data were loaded with."""

import dataclasses

import torch

from reticket.data import Dataset, load_dataset


def loaded(threads: int) -> Dataset:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return load_dataset("digits")
    finally:
        torch.set_num_threads(before)


def test_threads_do_not_decide_the_data() -> None:
    one, two = loaded(1), loaded(2)
    assert one.fingerprint() == two.fingerprint()
    assert (one.mean, one.std) == ((0.304965,), (0.375635,)) == (two.mean, two.std)


def test_every_part_of_the_data_does() -> None:
    data = load_dataset("digits", train_size=50)
    changed = data.train_x.clone()
    changed[7, 30] += 1e-6
    others = (
        dataclasses.replace(data, train_x=changed),
        dataclasses.replace(data, test_y=data.test_y.flip(0)),
        dataclasses.replace(data, mean=(0.3,)),
    )
    assert len({each.fingerprint() for each in (data, *others)}) == 4
