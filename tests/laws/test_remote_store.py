"""Laws of a store in a bucket, in fsspec's memory: whole or absent, the first of two counts, a claim is one's own."""

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from reticket.errors import InputError, StoreError
from reticket.experiment import (
    DamagedResult,
    Event,
    FolderStore,
    KeptStore,
    MissingResult,
    Output,
    Plan,
    RemoteStore,
    Store,
    Task,
    named_store,
    open_store,
    remote,
    run_plan,
)
from reticket.experiment.maintenance import copy_results, unneeded, usage_of

KEY = hashlib.sha256(b"a task").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
OUTPUT = Output({"accuracy": 97.1, "history": [{"loss": 1 / 3}, None]}, {"w": torch.arange(6.0).reshape(2, 3)})


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/runs"


@pytest.fixture
def opened(url: str, tmp_path: Path) -> Any:
    return lambda place="here": RemoteStore(url, scratch=str(tmp_path / place))


def objects(store: RemoteStore) -> dict[str, bytes]:
    return {path.removeprefix(store._root): store._files.cat_file(path) for path in store._files.find(store._root)}


def test_what_was_put_comes_back_in_another_process(opened: Any) -> None:
    one = opened()
    assert isinstance(one, Store)
    assert isinstance(one, KeptStore)
    assert not one.has(KEY)
    with pytest.raises(MissingResult, match="holds no result"):
        one.get(KEY)
    with pytest.raises(MissingResult, match="holds no whole result"):
        one.provenance(KEY)
    assert one.put(KEY, OUTPUT, {"seconds": 1.5})
    assert one.provenance(KEY) == {"seconds": 1.5}
    two = open_store(one.address)
    assert two.has(KEY)
    assert two.verify(KEY)
    result = two.get(KEY)
    assert (result.values, result.provenance) == (OUTPUT.values, {"seconds": 1.5})
    assert torch.equal(result.tensors["w"], OUTPUT.tensors["w"])


def test_the_first_of_two_counts_and_stays_whole(opened: Any) -> None:
    one, two = opened(), opened("there")
    assert one.put(KEY, OUTPUT, {"by": "one"})
    assert not two.put(KEY, Output({"accuracy": 1.0}, {"w": torch.zeros(1)}), {"by": "two"})
    assert not two.put(KEY, OUTPUT, {"by": "two"})
    assert opened().get(KEY).provenance == {"by": "one"}
    assert torch.equal(opened().get(KEY).tensors["w"], OUTPUT.tensors["w"])


def test_a_writer_that_is_killed_before_the_manifest_leaves_nothing_visible(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    write = store._files.pipe_file
    for parts in range(3):
        left = [parts]

        def killed(path: str, content: bytes, left: list[int] = left, **how: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            write(path, content, **how)

        with monkeypatch.context() as patch:
            patch.setattr(store._files, "pipe_file", killed)
            with pytest.raises(KeyboardInterrupt):
                store.put(KEY, OUTPUT, {})
        assert not opened().has(KEY)
        assert list(opened().keys()) == []
    assert store.put(KEY, OUTPUT, {})
    assert opened().get(KEY).values == OUTPUT.values


@pytest.mark.parametrize("part", ["manifest.json", "values.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_seen_and_what_is_damaged_is_missing_from_then_on(opened: Any, part: str, damage: str) -> None:
    store = opened()
    store.put(KEY, OUTPUT, {})
    path = next(path for path in store._files.find(store._root) if path.endswith(part))
    content = store._files.cat_file(path)
    if damage == "gone":
        store._files.rm_file(path)
    else:
        half = len(content) // 2
        store._files.pipe_file(
            path,
            content[:half] if damage == "cut" else content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        )
    expected = MissingResult if (part, damage) == ("manifest.json", "gone") else DamagedResult
    with pytest.raises(expected):
        opened().get(KEY)
    assert not opened().has(KEY)
    assert store.put(KEY, OUTPUT, {})
    assert opened().get(KEY).values == OUTPUT.values


def test_a_claim_is_one_machines_own(opened: Any) -> None:
    one, two = opened(), opened("there")
    with one.claim(KEY) as mine:
        assert mine is not None
        assert two.claimed(KEY)
        with two.claim(KEY) as theirs:
            assert theirs is None
        with opened().claim(KEY) as again:  # another run of the same machine
            assert again is None
        assert two.claimed(KEY)
        with two.claim(OTHER) as other:
            assert other is not None
    assert not two.claimed(KEY)
    with two.claim(KEY) as theirs:
        assert theirs is not None
    assert not any(name.startswith("/claims") for name in objects(one))


def test_a_claim_without_signs_of_life_is_given_up_by_the_clock_of_whoever_looks(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened(), opened("there")
    clock = [1000.0]
    monkeypatch.setattr(remote.time, "monotonic", lambda: clock[0])
    one._create(one._claim(KEY), remote._sign("a machine that is gone", 7))
    assert two.claimed(KEY)
    clock[0] += remote.PATIENCE - 1
    assert two.claimed(KEY)
    one._files.pipe_file(one._claim(KEY), remote._sign("a machine that is gone", 8))  # not gone yet
    assert two.claimed(KEY)
    clock[0] += remote.PATIENCE - 1
    with two.claim(KEY) as theirs:
        assert theirs is None
    clock[0] += 2
    assert not two.claimed(KEY)
    with two.claim(KEY) as theirs:
        assert theirs is not None
        assert opened().claimed(KEY)


def test_signs_of_life_come_while_a_task_is_computed(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BEAT", 0.001)
    store = opened()
    with store.claim(KEY):
        first = store._files.cat_file(store._claim(KEY))
        while store._files.cat_file(store._claim(KEY)) == first:
            pass
    assert not store._files.exists(store._claim(KEY))


def test_checkpoints_stay_on_this_machine_until_the_result_is_there(opened: Any) -> None:
    store = opened()
    with store.claim(KEY) as scratch:
        (scratch / "checkpoint").write_text("half way")
    with store.claim(KEY) as scratch:
        assert (scratch / "checkpoint").read_text() == "half way"
        store.put(KEY, OUTPUT, {})
    assert not store.scratch(KEY).joinpath("checkpoint").exists()
    assert not any("checkpoint" in name for name in objects(store))


def test_it_can_be_looked_after(opened: Any, tmp_path: Path) -> None:
    store = opened()
    store.enter("/runs/a", [KEY])
    assert store.knows_all_runs
    for key in (KEY, OTHER):
        store.put(key, OUTPUT, {"task": {"kind": "dense"}})
    assert sorted(opened().keys()) == sorted([KEY, OTHER])
    held = sum(len(content) for name, content in objects(store).items() if name.startswith("/results"))
    assert {kind: (one.results, one.bytes) for kind, one in usage_of(store).items()} == {"dense": (2, held)}
    assert store.provenance(KEY) == {"task": {"kind": "dense"}}
    assert unneeded(store).keys == (OTHER,)
    with opened("there").claim(OTHER):
        assert not store.remove(OTHER)
    assert store.remove(OTHER)
    assert not store.remove(OTHER)
    assert list(opened().keys()) == [KEY]
    folder = FolderStore(tmp_path / "copy")
    assert copy_results(store, folder, [KEY]).new == 1
    assert folder.get(KEY).values == store.get(KEY).values
    store.forget("/runs/a")
    assert store.runs() == {}


def test_results_from_before_runs_were_noted_are_not_taken_for_unneeded(opened: Any) -> None:
    store = opened()
    store.put(KEY, OUTPUT, {})
    store.enter("/runs/a", [OTHER])
    assert not opened().knows_all_runs
    with pytest.raises(InputError, match="from before its runs were noted"):
        unneeded(opened())


def test_many_writers_at_once(opened: Any) -> None:
    stores = [opened(str(number)) for number in range(6)]

    def put(store: RemoteStore) -> bool:
        return store.put(KEY, Output({"by": str(store._scratch)}), {})

    with ThreadPoolExecutor(6) as pool:
        wins = list(pool.map(put, stores))
    assert sum(wins) == 1
    assert opened().get(KEY).values == {"by": str(stores[wins.index(True)]._scratch)}


def test_a_plan_runs_on_it_and_a_second_run_computes_nothing(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    draws = [Task("draw", 1, {"seed": seed}) for seed in range(3)]
    plan = Plan.of([Task("mix", 1, {"scale": 1.0}, {"a": draws[0], "b": draws[n]}) for n in (1, 2)])
    runners = {kind: f"fake_tasks:{kind}" for kind in ("draw", "mix")}
    events: list[Event] = []
    assert len(run_plan(plan, opened(), runners, on_event=events.append).done) == 5
    assert len(run_plan(plan, opened("there"), runners).cached) == 5


def test_what_cannot_be_reached_is_one_sentence(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()

    def broken(*given: Any, **options: Any) -> None:
        raise TimeoutError("no answer from the server")

    for name in ("cat_file", "pipe_file", "exists", "find"):
        monkeypatch.setattr(store._files, name, broken)
    for what in (
        lambda: store.has(KEY),
        lambda: store.get(KEY),
        lambda: store.put(KEY, OUTPUT, {}),
        lambda: store.runs(),
    ):
        with pytest.raises(StoreError, match="no answer from the server"):
            what()


def test_what_fsspec_does_not_know_and_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'nowhere://x' is no place that fsspec knows"):
        RemoteStore("nowhere://x")

    def missing(url: str, **options: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match="needs s3fs, which is not installed; pip install s3fs"):
        named_store("s3://bucket/place")
