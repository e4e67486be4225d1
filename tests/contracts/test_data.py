"""What holds for every data set, with small stand-ins for the files that are not embedded."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from reticket.data import cifar, fashion, list_datasets, load_dataset
from reticket.errors import DataError


def write_fashion(folder: Path, *, gz: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in fashion.COUNTS.items():
        pixels = bytes((i * 7 + part.count("t")) % 256 for i in range(n * 784))
        labels = bytes(i % 10 for i in range(n))
        contents = {
            f"{part}-images-idx3-ubyte": struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + pixels,
            f"{part}-labels-idx1-ubyte": struct.pack(">4BI", 0, 0, 8, 1, n) + labels,
        }
        for name, raw in contents.items():
            (folder / (f"{name}.gz" if gz else name)).write_bytes(gzip.compress(raw) if gz else raw)
    return folder


def cifar_contents() -> dict[str, bytes]:
    record = [bytes([i % 10]) + bytes((i + j) % 256 for j in range(3072)) for i in range(cifar.RECORDS)]
    return dict.fromkeys((*cifar.TRAIN_FILES, *cifar.TEST_FILES), b"".join(record))


def write_cifar(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in cifar_contents().items():
        (folder / name).write_bytes(raw)
    return folder


def write_cifar_archive(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, raw in cifar_contents().items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return path


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fashion, "COUNTS", {"train": 40, "t10k": 20})
    monkeypatch.setattr(cifar, "RECORDS", 20)
    monkeypatch.delenv("RETICKET_DATA", raising=False)
    write_fashion(tmp_path / "fashion-mnist", gz=True)
    write_cifar(tmp_path / "cifar-10-batches-bin")
    return tmp_path


@pytest.mark.parametrize("name", list_datasets())
def test_every_data_set_is_whole_and_normalises(name: str, data_root: Path) -> None:
    loaded = load_dataset(name, folder=data_root)
    assert loaded.name == name
    for split in ("train", "test"):
        x, y = loaded.split(split)
        assert x.dtype == (torch.uint8 if loaded.is_images else torch.float32)
        assert tuple(x.shape[1:]) == loaded.input_shape
        assert sorted(set(y.tolist())) == list(range(len(loaded.classes)))
        ready = loaded.normalise(x)
        assert ready.dtype == torch.float32
        scaled = x.double() / 255 if loaded.is_images else x.double()
        shape = (-1, 1, 1) if loaded.is_images else (1,)
        mean, std = (torch.tensor(v, dtype=torch.float64).view(shape) for v in (loaded.mean, loaded.std))
        assert_close(ready.double(), (scaled - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list_datasets())
def test_subset_is_balanced_seeded_and_leaves_the_test_part(name: str, data_root: Path) -> None:
    whole = load_dataset(name, folder=data_root)
    one = load_dataset(name, folder=data_root, train_size=23)
    again = load_dataset(name, folder=data_root, train_size=23)
    other = load_dataset(name, folder=data_root, train_size=23, subset_seed=1)
    counts = torch.bincount(one.train_y)
    assert int(counts.sum()) == 23
    assert int(counts.max() - counts.min()) == 1
    assert torch.equal(one.train_x, again.train_x)
    assert not (torch.equal(one.train_x, other.train_x) and torch.equal(one.train_y, other.train_y))
    assert torch.equal(one.test_x, whole.test_x)


def test_digits_split_is_fixed_and_balanced() -> None:
    digits = load_dataset("digits")
    assert len(digits.train_y) == 1297
    assert torch.bincount(digits.test_y).tolist() == [50] * 10
    ready = digits.normalise(digits.train_x)
    assert_close(ready.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
    assert_close(ready.std(correction=0), torch.tensor(1.0), rtol=0, atol=1e-5)


def test_a_data_set_is_found_by_folder_then_variable(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = load_dataset("fashion-mnist", folder=data_root / "fashion-mnist")
    monkeypatch.setenv("RETICKET_DATA", str(data_root))
    assert torch.equal(load_dataset("fashion-mnist").train_x, direct.train_x)
    assert load_dataset("cifar10").train_x.shape == (100, 3, 32, 32)
    monkeypatch.setenv("RETICKET_DATA", str(data_root / "cifar-10-batches-bin"))
    assert load_dataset("cifar10").test_x.shape == (20, 3, 32, 32)
    monkeypatch.setattr(fashion, "SYSTEM", data_root / "fashion-mnist")
    assert torch.equal(load_dataset("fashion-mnist").train_x, direct.train_x)


def test_plain_and_gzipped_idx_files_are_the_same(data_root: Path, tmp_path: Path) -> None:
    plain = load_dataset("fashion-mnist", folder=write_fashion(tmp_path / "plain", gz=False))
    zipped = load_dataset("fashion-mnist", folder=data_root)
    assert torch.equal(plain.train_x, zipped.train_x)
    assert torch.equal(plain.test_y, zipped.test_y)
    assert plain.train_x[0, 0, 0, :3].tolist() == [1, 8, 15]  # row-major


@pytest.mark.parametrize("as_file", [True, False])
def test_cifar_archive_reads_as_the_folder_does(as_file: bool, data_root: Path, tmp_path: Path) -> None:
    place = tmp_path / "archive"
    place.mkdir()
    archive = write_cifar_archive(place / cifar.ARCHIVE)
    from_archive = load_dataset("cifar10", folder=archive if as_file else place)
    from_folder = load_dataset("cifar10", folder=data_root)
    assert torch.equal(from_archive.train_x, from_folder.train_x)
    assert from_folder.train_x[0, :, 0, 0].tolist() == [0, 1024 % 256, 2048 % 256]
    assert from_folder.train_x[0, 0, 0, :3].tolist() == [0, 1, 2]
    assert from_folder.augmentation == "flip-crop"


def test_a_loader_of_the_user_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own_data_for_test.py").write_text(
        "import torch\nfrom reticket.data import Dataset\n"
        "def load(folder):\n    x, y = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])\n"
        "    return Dataset('own', x, y, x, y, ('a', 'b'), mean=(0.0,), std=(1.0,))\n"
        "def wrong(folder):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_dataset("own_data_for_test:load", train_size=2).train_y.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"returned a int, but a reticket.data.Dataset was expected"):
        load_dataset("own_data_for_test:wrong")
