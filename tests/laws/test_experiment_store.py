"""Laws of the store: a result is whole or absent, comes back as it was put, and the first of two writers wins."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import reticket.experiment.folder as store_module
import reticket.experiment.manifest as manifest_module
from reticket.errors import StoreError
from reticket.experiment import DamagedResult, FolderStore, MissingResult, Output
from reticket.experiment.locking import owned
from reticket.experiment.result import TensorFile

KEY = hashlib.sha256(b"a task").hexdigest()
OUTPUT = Output({"accuracy": 97.1, "history": [{"loss": 1 / 3}, None]}, {"w": torch.arange(6.0).reshape(2, 3)})


def folder_of(store: FolderStore, key: str = KEY) -> Path:
    return store.root / "results" / key[:2] / key


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4),
        "transposed": torch.randn(3, 4).t(),
        "part": torch.randn(100, 2)[::3],
        "mask": torch.tensor([True, False]),
        "half": torch.randn(3).bfloat16(),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "nothing": torch.empty(0, 5),
        "grad": torch.randn(2, requires_grad=True),
    }
    tensors["again"] = tensors["float"]
    tensors["row"] = tensors["float"][1]
    values = {"third": 1 / 3, "tiny": 5e-324, "pair": (1, 2), "nested": {"none": None, "yes": True}, "text": "π"}
    FolderStore(tmp_path).put(KEY, Output(values, tensors), {"seconds": 1.5})
    result = FolderStore(tmp_path).get(KEY)
    assert result.values == {**values, "pair": [1, 2]}
    assert result.provenance == {"seconds": 1.5}
    assert set(result.tensors) == set(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(result.tensors[name], tensor.detach(), rtol=0, atol=0)


def test_tensors_are_read_when_asked_for(tmp_path: Path) -> None:
    FolderStore(tmp_path).put(KEY, OUTPUT, {})
    tensors = TensorFile(folder_of(FolderStore(tmp_path)) / "tensors.safetensors")
    assert "_file" not in vars(tensors)
    with pytest.raises(KeyError, match=r"no tensor 'v' in .*; it has w"):
        tensors["v"]
    tensors["w"].add_(1)  # writes into private memory
    assert dict(TensorFile(None)) == {}
    torch.testing.assert_close(FolderStore(tmp_path).get(KEY).tensors["w"], OUTPUT.tensors["w"], rtol=0, atol=0)


def test_equal_outputs_are_equal_bytes(tmp_path: Path) -> None:
    files = []
    for name, order in (("a", 1), ("b", -1)):
        store = FolderStore(tmp_path / name)
        values = dict(list({"x": 1, "y": 0.1}.items())[::order])
        tensors = dict(list({"p": torch.ones(2), "q": torch.zeros(3)}.items())[::order])
        store.put(KEY, Output(values, tensors), {"seconds": float(order)})
        files.append([(folder_of(store) / file).read_bytes() for file in ("values.json", "tensors.safetensors")])
    assert files[0] == files[1]


def test_a_result_can_be_read_without_the_program(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(KEY, OUTPUT, {"seconds": 2.0})
    manifest = json.loads((folder_of(store) / "manifest.json").read_text())
    assert manifest["key"] == KEY
    for name, facts in manifest["files"].items():
        content = (folder_of(store) / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (facts["bytes"], facts["sha256"])
    assert json.loads((folder_of(store) / "values.json").read_text())["accuracy"] == 97.1


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the tensors": lambda folder: flip(folder / "tensors.safetensors"),
    "a bit of the values": lambda folder: flip(folder / "values.json"),
    "a bit of the manifest": lambda folder: flip(folder / "manifest.json"),
    "tensors cut short": lambda folder: os.truncate(folder / "tensors.safetensors", 20),
    "empty manifest": lambda folder: os.truncate(folder / "manifest.json", 0),
    "manifest of lists": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest that is a folder": lambda folder: [
        (folder / "manifest.json").unlink(),
        (folder / "manifest.json").mkdir(),
    ],
    "manifest that is a pipe": lambda folder: [
        (folder / "manifest.json").unlink(),
        os.mkfifo(folder / "manifest.json"),
    ],
    "tensors that are a pipe": lambda folder: [
        (folder / "tensors.safetensors").unlink(),
        os.mkfifo(folder / "tensors.safetensors"),
    ],
    "deep manifest": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "manifest of a number that is none": lambda folder: (folder / "manifest.json").write_text('{"sha256": NaN}'),
    "values gone": lambda folder: (folder / "values.json").unlink(),
    "result of another task": lambda folder: [
        flip(folder / "values.json"),
        shutil.copy(folder / "values.json", folder / "tensors.safetensors"),
    ],
}


def damage_is_seen(store: FolderStore) -> None:
    """The law itself: a damaged result is refused, set aside, and missing from then on."""
    with pytest.raises(DamagedResult, match=f"result {KEY[:16]} in .* is damaged .* was moved to .*; run again"):
        store.get(KEY)
    assert not store.has(KEY)
    with pytest.raises(MissingResult, match="holds no result"):
        store.get(KEY)
    assert [path.name[:64] for path in (store.root / "damaged").iterdir()] == [KEY]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_damage_is_seen_set_aside_and_repaired(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    FolderStore(tmp_path).put(KEY, OUTPUT, {})
    damage(folder_of(FolderStore(tmp_path)))
    store = FolderStore(tmp_path)
    damage_is_seen(store)
    assert store.put(KEY, OUTPUT, {})
    assert store.get(KEY).values["accuracy"] == 97.1


def test_how_a_result_came_about_is_read_from_its_manifest_alone_which_changes_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(MissingResult, match="holds no whole result"):
        store.provenance(KEY)
    store.put(KEY, Output({"a": 1}), {"seconds": 2.0})
    folder = tmp_path / "results" / KEY[:2] / KEY
    (folder / "values.json").unlink()
    assert FolderStore(tmp_path).provenance(KEY) == {"seconds": 2.0}
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(MissingResult, match="holds no whole result"):
        FolderStore(tmp_path).provenance(KEY)
    assert folder.is_dir(), "whoever reads the result sets it aside, and says so"


def test_values_that_are_damaged_after_they_were_checked(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(KEY, OUTPUT, {})
    store.get(KEY)
    flip(folder_of(store) / "values.json")
    damage_is_seen(store)


def test_the_law_of_damage_can_fail(tmp_path: Path) -> None:
    """A store that does not verify takes a flipped bit for a result."""
    FolderStore(tmp_path).put(KEY, OUTPUT, {})
    path = folder_of(FolderStore(tmp_path)) / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        damage_is_seen(FolderStore(tmp_path, verify=False))


def test_sizes_are_seen_even_without_checksums(tmp_path: Path) -> None:
    FolderStore(tmp_path).put(KEY, OUTPUT, {})
    os.truncate(folder_of(FolderStore(tmp_path)) / "tensors.safetensors", 20)
    assert not FolderStore(tmp_path, verify=False).has(KEY)


def whole_or_absent(root: Path, put: Callable[[FolderStore], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The law itself: whichever file a writer dies at, nothing of it is in the store, and the next one's is taken."""
    write = store_module.write_through
    for dies_at in range(3):
        store = FolderStore(root / str(dies_at))
        left = dies_at

        def dying(path: Path, content: bytes, *, durable: bool) -> None:
            nonlocal left
            write(path, content[: len(content) if left else 3], durable=durable)
            if not left:
                raise KeyboardInterrupt
            left -= 1

        monkeypatch.setattr(store_module, "write_through", dying)
        with pytest.raises(KeyboardInterrupt):
            put(store)
        monkeypatch.setattr(store_module, "write_through", write)
        fresh = FolderStore(root / str(dies_at))
        assert not fresh.has(KEY)
        assert not (fresh.root / "damaged").exists()
        assert fresh.put(KEY, OUTPUT, {})
        assert fresh.get(KEY).values["accuracy"] == 97.1


def test_a_writer_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_or_absent(tmp_path, lambda store: store.put(KEY, OUTPUT, {}), monkeypatch)


def test_the_law_of_dying_writers_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that writes in place, manifest first, is caught."""

    def in_place(store: FolderStore) -> None:
        folder = folder_of(store)
        folder.mkdir(parents=True)
        for name in ("manifest.json", "values.json", "tensors.safetensors"):
            store_module.write_through(folder / name, b"{}" * 9, durable=False)

    with pytest.raises(AssertionError):
        whole_or_absent(tmp_path, in_place, monkeypatch)


def test_files_without_a_manifest_do_not_exist(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(KEY, OUTPUT, {})
    (folder_of(store) / "manifest.json").unlink()
    store = FolderStore(tmp_path)
    assert not store.has(KEY)
    assert not store.verify(KEY)
    with pytest.raises(MissingResult):
        store.get(KEY)
    assert store.put(KEY, OUTPUT, {})
    assert store.has(KEY)


def test_the_first_writer_wins(tmp_path: Path) -> None:
    first, second = FolderStore(tmp_path), FolderStore(tmp_path)
    assert first.put(KEY, Output({"who": "first"}), {})
    assert not second.put(KEY, Output({"who": "second"}), {})
    assert FolderStore(tmp_path).get(KEY).values == {"who": "first"}
    assert not list((tmp_path / "incoming").glob("[!.]*"))


def test_many_writers_and_readers_at_once(tmp_path: Path) -> None:
    keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(12)]

    def work(who: int) -> int:
        store, wins = FolderStore(tmp_path), 0
        for key in keys:
            wins += store.put(key, Output({"who": who}, {"w": torch.full((50,), float(who))}), {}, durable=False)
            result = store.get(key)
            torch.testing.assert_close(result.tensors["w"], torch.full((50,), float(result.values["who"])))
        return wins

    with ThreadPoolExecutor(8) as pool:
        wins = sum(pool.map(work, range(8)))
    assert wins == len(keys)
    assert not (tmp_path / "damaged").exists()


def test_scratch_goes_when_the_result_comes(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (store.scratch(KEY) / "checkpoint").write_text("half way")
    assert (FolderStore(tmp_path).scratch(KEY) / "checkpoint").read_text() == "half way"
    store.put(KEY, OUTPUT, {})
    assert not list((tmp_path / "scratch").iterdir())


def test_a_claimed_scratch_is_kept_on_failure_and_dropped_on_success(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    def fail() -> None:
        with store.claim(KEY) as scratch:
            assert scratch is not None
            (scratch / "checkpoint").write_text("half way")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    with store.claim(KEY) as scratch:
        assert scratch is not None
        assert (scratch / "checkpoint").read_text() == "half way"
        store.put(KEY, OUTPUT, {})
        assert scratch.exists(), "the owner alone removes it"
    assert not list((tmp_path / "scratch").iterdir())


def test_a_task_is_claimed_once_and_nobody_pulls_away_the_owners_checkpoint(tmp_path: Path) -> None:
    one, two = FolderStore(tmp_path), FolderStore(tmp_path)
    with one.claim(KEY) as mine:
        assert mine is not None
        (mine / "checkpoint").write_text("mine")
        with two.claim(KEY) as other:
            assert other is None
            two.put(KEY, OUTPUT, {})
        assert (mine / "checkpoint").read_text() == "mine"
    assert not list((tmp_path / "scratch").iterdir())


def test_what_killed_processes_left_is_swept_away(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(KEY, OUTPUT, {})
    store.scratch(KEY)  # as if killed between the rename and the removal
    kept = store.scratch("a" * 64)
    private, fresh = store.scratch("b" * 64 + "~1"), store.scratch("b" * 64 + "~2")
    (tmp_path / "incoming" / "old").mkdir()
    (tmp_path / "incoming" / "new").mkdir()
    for path in (private, tmp_path / "incoming" / "old"):
        long_ago = time.time() - 2 * store_module.STALE
        os.utime(path, (long_ago, long_ago))
    FolderStore(tmp_path)
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == sorted([kept.name, fresh.name])
    assert [path.name for path in (tmp_path / "incoming").glob("[!.]*")] == ["new"]


def test_what_is_written_just_now_is_not_swept_by_a_clock_that_is_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write, swept = FolderStore(tmp_path), store_module.write_through, []

    def write_slowly(path: Path, content: bytes, *, durable: bool) -> None:
        write(path, content, durable=durable)
        long_ago = time.time() - 2 * store_module.STALE
        os.utime(path.parent, (long_ago, long_ago))
        swept.append(FolderStore(tmp_path))

    monkeypatch.setattr(store_module, "write_through", write_slowly)
    store.put(KEY, OUTPUT, {})
    assert len(swept) > 1
    assert store.get(KEY).values == dict(OUTPUT.values)
    private = store.scratch("b" * 64 + "~1")
    os.utime(private, (0, 0))
    with owned(lambda: private):
        FolderStore(tmp_path)
        assert private.exists()
    FolderStore(tmp_path)
    assert not private.exists()


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one result on a file system that takes nothing."""
    FolderStore(tmp_path).put(KEY, OUTPUT, {})

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for target in ("os.rename", "pathlib.Path.mkdir"):
        monkeypatch.setattr(target, refuse)
    return tmp_path


def test_a_store_that_cannot_be_written_can_be_read(unwritable: Path) -> None:
    store = FolderStore(unwritable)
    assert store.get(KEY).values == dict(OUTPUT.values)
    assert list(store.keys()) == [KEY]
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\)"):
        store.put("c" * 64, OUTPUT, {})
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\); name another folder"):
        FolderStore(unwritable / "elsewhere")


def test_damage_in_a_store_that_cannot_be_written_is_told(unwritable: Path) -> None:
    store = FolderStore(unwritable)
    (folder_of(store) / "values.json").write_text("{}")
    with pytest.raises(DamagedResult, match=r"is damaged \(.*\) and stays there: the store .* cannot be written"):
        store.get(KEY)


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "FORMAT", 2)
    FolderStore(tmp_path).put(KEY, OUTPUT, {})
    monkeypatch.undo()
    with pytest.raises(StoreError, match="has format 2, this version reads format 1; update reticket or name another"):
        FolderStore(tmp_path).get(KEY)
    assert folder_of(FolderStore(tmp_path)).exists()


def test_a_scratch_folder_that_another_drops_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Path.mkdir` meets the folder, looks at it and finds it gone; that is no reason to end a run."""
    store, make, left = FolderStore(tmp_path), Path.mkdir, [3]

    def crossed(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == KEY and left[0]:
            left[0] -= 1
            raise FileExistsError(17, "File exists")
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", crossed)
    assert store.scratch(KEY).is_dir()
    left[0] = 1
    shutil.rmtree(store.scratch(KEY), ignore_errors=True)
    left[0] = 1
    monkeypatch.setattr(store_module, "TRIES", 1)
    with pytest.raises(StoreError, match="File exists"):  # as it was: the assertion above could not hold
        store.scratch(KEY)
    monkeypatch.setattr(store_module, "TRIES", 100)
    left[0] = 0
    (tmp_path / "scratch" / KEY).write_text("a file")
    with pytest.raises(StoreError, match="File exists"):
        store.scratch(KEY)


def test_who_is_at_a_task_is_seen(tmp_path: Path) -> None:
    store, other = FolderStore(tmp_path), FolderStore(tmp_path)
    assert not other.claimed(KEY)
    with store.claim(KEY):
        assert store.claimed(KEY)
        assert other.claimed(KEY)
    assert not other.claimed(KEY)
    store.scratch(KEY)
    assert not other.claimed(KEY)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the tests' own."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.parametrize("linked", ["", "results", "scratch", "runs"])
def test_a_store_behind_a_link_to_another_file_system_works(tmp_path: Path, elsewhere: Path, linked: str) -> None:
    """The whole store, or one of its folders: a rename does not lead from one file system to another."""
    root = tmp_path / "store"
    if linked:
        root.mkdir()
    (root / linked).symlink_to(elsewhere)
    store = FolderStore(root)
    with store.claim(KEY) as scratch:
        assert scratch is not None
        (scratch / "checkpoint").write_text("half way")
        assert store.put(KEY, OUTPUT, {})
    store.enter("/runs/a", [KEY])
    fresh = FolderStore(root)
    assert fresh.get(KEY).values == dict(OUTPUT.values)
    assert list(fresh.keys()) == [KEY]
    assert not (fresh.scratch(KEY) / "checkpoint").exists()
    assert not fresh.put(KEY, OUTPUT, {})
    (folder_of(fresh) / "values.json").write_text("{}")
    with pytest.raises(DamagedResult, match="was moved to"):
        FolderStore(root).get(KEY)
    assert store.put(KEY, OUTPUT, {})
    assert FolderStore(root).remove(KEY)
    assert list(FolderStore(root).keys()) == []
