"""Anybody's data sets that are too large for memory: the same inputs, fingerprint and results as in memory."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset, TensorDataset

import reticket as rt
from reticket.data import Dataset as InMemory
from reticket.data import OnDemand, collected, open_dataset, source_of
from reticket.errors import ConfigError, DataError
from reticket.tasks.inputs import _read
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.training import Recipe, evaluate, train
from reticket.training.batches import batches_by
from tests.laws.test_data_collected import KINDS, TINY, Rows

HERE = __name__


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETICKET_IN_MEMORY", "0")


def both(kind: str) -> tuple[InMemory, OnDemand]:
    """Return a data set in memory and on demand, of two parts that differ."""
    x, y, _, _ = KINDS[kind]
    parts = (DataLoader(TensorDataset(x, y), batch_size=3), TensorDataset(x[5:], y[5:]))
    found = source_of(kind, parts)
    assert isinstance(found, OnDemand)
    return collected(kind, parts), found


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_it_would_be_in_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reticket.data.items.AT_ONCE", 7)
    held, found = both(kind)
    for name in ("name", "classes", "mean", "std", "augmentation", "input_shape", "is_tokens", "is_images"):
        assert getattr(found, name) == getattr(held, name), name
    assert found.fingerprint() == held.fingerprint()
    some = torch.tensor([7, 3, 3, 11])
    for one, other in (
        (found, held),
        (
            found.with_train_subset(some).with_test_subset(some[:2]),
            held.with_train_subset(some).with_test_subset(some[:2]),
        ),
        (found.with_train_subset(some).with_train_subset(some[1:2]), held.with_train_subset(some[some[1:2]])),
    ):
        assert one.fingerprint() == other.fingerprint()
        for split in ("train", "test"):
            assert torch.equal(one.labels(split), other.labels(split))
            for indices in (None, torch.tensor([1, 0])) if one.size(split) > 1 else (None,):
                pairs = zip(one.stored(split, 3, indices), other.stored(split, 3, indices), strict=True)
                assert all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_same_for_every_rank(kind: str) -> None:
    recipe = Recipe(2, 3, 0.1, objective="classification")
    for shard in ((0, 1), (0, 2), (1, 2)):
        made = [
            batches_by(
                recipe, data, ("x",), dtype=torch.float32, device=torch.device("cpu"), channels_last=True, shard=shard
            )
            for data in both(kind)
        ]
        for held, found in zip(*(one.epoch(1, skip=2) for one in made), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(held, found, strict=True))


class Small(nn.Module):
    """A network of images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.out(self.conv(x).relu().mean((2, 3)))


def noisy() -> object:
    """Return a transform."""
    return lambda image: image + torch.randint(9, (1,)).to(torch.uint8)


@pytest.mark.parametrize("changes", [{}, {"augment": f"{HERE}:noisy", "mixup": 0.3}])
def test_training_and_evaluation_give_the_same_bits(changes: dict) -> None:
    recipe = Recipe(3, 6, 0.1, **changes)
    weights, found = [], []
    for data in both("images of bytes"):
        weights.append(train(Small(), data, recipe).weights)
        found.append(evaluate(Small(), data, weights=weights[-1]).logits)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.equal(*found)


def load_rows(folder: Path | None) -> tuple[Rows, Rows]:
    """Return torch data sets."""
    return Rows(400), Rows(60)


@pytest.mark.slow
def test_an_experiment_has_the_same_keys_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [
        f"data.name={HERE}:load_rows", "dense.epochs=2", "grid.seeds=1", "grid.sparsities=[0.4]",
        'grid.rewinds=["0it"]', 'grid.methods=["dense", "lth", "permuted", "naive"]', "checks.barriers=false",
        "checks.diversity_members=0",
    ]  # fmt: skip
    source = tmp_path / "rows.toml"
    source.write_text(TINY.read_text().replace("in_features = 64, hidden = [16], classes = 10", "hidden = [16]"))
    config = load_config(source, settings)[1]
    assert isinstance(open_dataset(f"{HERE}:load_rows"), OnDemand)
    streamed = rt.run(config, out=tmp_path / "streamed", name="rows")
    assert streamed.complete, streamed.failures
    keys = {task.key for planned in plan_experiment(config) for task in planned.blueprint.targets}
    monkeypatch.delenv("RETICKET_IN_MEMORY")
    assert isinstance(open_dataset(f"{HERE}:load_rows"), InMemory)
    assert {task.key for planned in plan_experiment(config) for task in planned.blueprint.targets} == keys
    _read.cache_clear()  # which a process keeps
    held = rt.run(config, out=tmp_path / "held", name="rows")
    assert all(one.same for one in streamed.compare(held))


class Counted(Dataset):
    """Counts how many items are held at once, and which were read."""

    def __init__(self, n: int) -> None:
        self.n, self.read = n, list[int]()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        self.read.append(at)
        return torch.full((4,), float(at)), at % 3


def test_only_what_is_asked_for_is_read() -> None:
    train_part, test_part = Counted(50), Counted(9)
    found = source_of("counted", (train_part, test_part))
    assert train_part.read == [0, 0, *range(50)]  # how large it is, what it is like, what its labels are
    train_part.read.clear()
    ((x, y),) = found.stored("train", 8, torch.tensor([40, 2]))
    assert train_part.read == [40, 2]
    assert_close(x[:, 0], torch.tensor([40.0, 2.0]))
    assert y.tolist() == [1, 2]


def test_the_limit_goes_by_the_size_of_both_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (Counted(50), Counted(14))  # 16 bytes an item
    for limit, kind in ((64 * 16 / 2**30, InMemory), (63 * 16 / 2**30, OnDemand)):
        monkeypatch.setenv("RETICKET_IN_MEMORY", repr(limit))
        assert type(source_of("counted", parts)) is kind
    monkeypatch.delenv("RETICKET_IN_MEMORY")
    assert type(source_of("counted", parts)) is InMemory
    for odd in ("much", "-1", "nan"):
        monkeypatch.setenv("RETICKET_IN_MEMORY", odd)
        with pytest.raises(ConfigError, match=f"RETICKET_IN_MEMORY is '{odd}'; set it to a number of gibibytes, 0 or"):
            source_of("counted", parts)


def test_items_that_differ_are_named() -> None:
    ragged = [(torch.zeros(3), 0)] * 300 + [(torch.zeros(2), 0)] * 300
    with pytest.raises(DataError, match=r"inputs that are torch.float32 of shape \(3,\) and others that are .* \(2,\)"):
        source_of("ragged", (ragged[:256] + ragged[300:], ragged[:5]))
    with pytest.raises(DataError, match="data set 'odd' has a label or token -1; number them from 0"):
        source_of("odd", ([(torch.zeros(3), 0), (torch.zeros(3), -1)], ragged[:5]))
    with pytest.raises(DataError, match="cannot be read by number"):
        source_of("odd", (3, 4))
