"""Laws of a store read through a folder: what was fetched once is not fetched again, and the far store decides."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reticket.errors import InputError, StoreError
from reticket.experiment import (
    CachedStore,
    FolderStore,
    KeptStore,
    MissingResult,
    Output,
    RemoteStore,
    Result,
    Store,
    named_store,
    open_store,
)
from tests.database_store import DatabaseStore

KEY, OTHER = "ab" * 32, "cd" * 32
OUTPUT = Output({"accuracy": 97.1}, {"w": torch.arange(6.0).reshape(2, 3)})


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all results that were fetched from a bucket."""
    keys: list[str] = []
    whole = RemoteStore.get

    def counted(self: RemoteStore, key: str) -> Result:
        keys.append(key)
        return whole(self, key)

    monkeypatch.setattr(RemoteStore, "get", counted)
    return keys


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., CachedStore]:
    url = f"memory://{uuid.uuid4().hex}/runs"
    return lambda near="near": CachedStore(RemoteStore(url, scratch=str(tmp_path / "scratch")), tmp_path / near)


def is_right(result: Result) -> bool:
    return result.values == dict(OUTPUT.values) and torch.equal(result.tensors["w"], OUTPUT.tensors["w"])


def test_a_second_read_fetches_nothing(opened: Callable[..., CachedStore], fetched: list[str]) -> None:
    far = opened().far
    far.put(KEY, OUTPUT, {"seconds": 1.5})
    for store in (opened(), opened(), open_store(opened().address)):
        assert isinstance(store, CachedStore)
        result = store.get(KEY)
        assert is_right(result)
        assert result.provenance == {"seconds": 1.5}
        assert fetched == [KEY]
    assert is_right(opened("another").get(KEY))
    assert fetched == [KEY, KEY], "the proof that fetching is counted"


def test_what_was_put_here_is_not_fetched_at_all(opened: Callable[..., CachedStore], fetched: list[str]) -> None:
    store = opened()
    assert isinstance(store, Store)
    assert isinstance(store, KeptStore)
    assert store.put(KEY, OUTPUT, {})
    assert is_right(opened().get(KEY))
    assert not fetched
    assert is_right(opened("another").get(KEY)), "it is in the far store, not in the folder alone"


def test_of_two_writers_the_first_counts_in_the_folder_too(opened: Callable[..., CachedStore]) -> None:
    one, two = opened("one"), opened("two")
    assert one.put(KEY, OUTPUT, {"by": "one"})
    assert not two.put(KEY, OUTPUT, {"by": "two"})
    assert two.get(KEY).provenance == opened("two").get(KEY).provenance == {"by": "one"}


def test_a_damaged_copy_is_fetched_anew(opened: Callable[..., CachedStore], fetched: list[str], tmp_path: Path) -> None:
    opened().put(KEY, OUTPUT, {})
    path = next((tmp_path / "near" / "results").rglob("tensors.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert is_right(opened().get(KEY))
    assert is_right(opened().get(KEY))
    assert fetched == [KEY]


def test_the_far_store_says_what_there_is(opened: Callable[..., CachedStore]) -> None:
    store = opened()
    store.put(KEY, OUTPUT, {"task": {"kind": "dense"}})
    store.far.remove(KEY)
    assert not opened().has(KEY), "a copy alone is no result that others can read"
    store.put(KEY, OUTPUT, {"task": {"kind": "dense"}})
    store.near.put(OTHER, OUTPUT, {})
    assert list(store.keys()) == [KEY]
    assert store.provenance(KEY) == {"task": {"kind": "dense"}}
    assert store.remove(KEY)
    with pytest.raises(MissingResult):
        opened().get(KEY)


def test_a_full_disk_costs_the_copy_alone(
    opened: Callable[..., CachedStore], fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()

    def refuse(*arguments: object, **options: object) -> bool:
        raise StoreError("no room")

    monkeypatch.setattr(FolderStore, "put", refuse)
    assert store.put(KEY, OUTPUT, {})
    assert is_right(store.get(KEY))
    assert is_right(store.get(KEY))
    assert fetched == [KEY, KEY]


def test_a_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    FolderStore(tmp_path / "far").put(KEY, OUTPUT, {})
    assert is_right(named_store(f"cache:{tmp_path}/far").get(KEY))
    assert [FolderStore(path).has(KEY) for path in (tmp_path / ".cache/reticket/results").iterdir()] == [True]
    monkeypatch.setattr("reticket.experiment.cached.named_store", DatabaseStore)
    with pytest.raises(InputError, match="is a DatabaseStore, which cannot be read through a cache; expected one with"):
        named_store(f"cache:{tmp_path}/results.sqlite")
