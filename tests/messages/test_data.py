"""Broken or missing data: one sentence with the file, what was seen, what was expected and what to do."""

import gzip
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reticket.data import cifar, dataset, fashion, load_dataset
from reticket.data.cifar import parse_records
from reticket.data.idx import read_idx
from reticket.errors import DataError


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"unknown data set 'digts', did you mean 'digits'\?; known are cifar10, cifar100, digits"
    ):
        load_dataset("digts")
    with pytest.raises(DataError, match=r"data set 'no.such:thing' cannot be imported"):
        load_dataset("no.such:thing")
    with pytest.raises(DataError, match="registered already"):
        dataset("digits")(lambda folder: load_dataset("digits"))


def test_missing_data_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETICKET_DATA", raising=False)
    monkeypatch.setattr(fashion, "SYSTEM", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"'fashion-mnist' was not found .*nowhere.*install.*dataset-fashion-mnist"):
        load_dataset("fashion-mnist")
    with pytest.raises(DataError, match=r"not found .*nowhere, RETICKET_DATA is not set.*cifar-10-binary.tar.gz from"):
        load_dataset("cifar10")
    monkeypatch.setenv("RETICKET_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"looked in: '{tmp_path}'"):
        load_dataset("cifar10")


def test_a_folder_may_be_a_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data set 'fashion-mnist' was not found \(looked in: .*empty"):
        load_dataset("fashion-mnist", folder=str(tmp_path / "empty"))


@pytest.mark.parametrize("kind", ["archive", "folder", "itself"])
def test_pickled_cifar_is_refused(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    folder = tmp_path
    if kind == "folder":
        (tmp_path / "cifar-10-batches-py").mkdir()
    else:
        with tarfile.open(archive, "w:gz"):
            pass
        folder = archive if kind == "itself" else tmp_path
    with pytest.raises(DataError, match=r"Python version of CIFAR-10, whose pickles are never loaded.*binary.tar.gz"):
        load_dataset("cifar10", folder=folder)


def test_bad_cifar_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"'f.bin' holds 3,072 bytes, but 30,730,000 were expected .*truncated"):
        parse_records(bytes(3072), "f.bin")
    monkeypatch.setattr(cifar, "RECORDS", 1)
    with pytest.raises(DataError, match=r"'f.bin' has the label 11, but 0..9 were expected"):
        parse_records(bytes([11]) + bytes(3072), "f.bin")
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073))
    with pytest.raises(DataError, match=r"lacks data_batch_2.bin, .*test_batch.bin"):
        load_dataset("cifar10", folder=tmp_path)
    archive = tmp_path / "other.tar.gz"
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(DataError, match=r"lacks data_batch_1.bin"):
        load_dataset("cifar10", folder=archive)
    archive.write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset("cifar10", folder=archive)


def test_bad_idx_files(tmp_path: Path) -> None:
    path = tmp_path / "images"
    good = struct.pack(">4B2I", 0, 0, 8, 2, 3, 4) + bytes(12)
    path.write_bytes(good)
    assert read_idx(path, (3, 4)).shape == (3, 4)
    path.write_bytes(good[:-5])
    with pytest.raises(DataError, match=r"images' holds 7 data bytes, but 12 were expected \(3 x 4\); it is truncated"):
        read_idx(path, (3, 4))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"begins with the bytes \(none\)"):
        read_idx(path, (3, 4))
    path.write_bytes(b"\x00\x00\x0d" + good[3:])
    with pytest.raises(DataError, match=r"begins with the bytes 00 00 0d 02, .* begins with 00 00 08 02"):
        read_idx(path, (3, 4))
    path.write_bytes(good)
    with pytest.raises(DataError, match=r"declares the shape 3 x 4, but 4 x 3 was expected"):
        read_idx(path, (4, 3))
    zipped = tmp_path / "images.gz"
    zipped.write_bytes(gzip.compress(good)[:-6])
    with pytest.raises(DataError, match=r"images.gz' cannot be read \(.*\); fetch the file again"):
        read_idx(zipped, (3, 4))


def test_incomplete_fashion_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "COUNTS", {"train": 1, "t10k": 1})
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 1, 28, 28) + bytes(784))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte' \(or .gz\) is missing"):
        load_dataset("fashion-mnist", folder=tmp_path)


@pytest.mark.parametrize("size", [0, -3, 1290])
def test_impossible_subset(size: int) -> None:
    with pytest.raises(
        DataError, match=rf"choice of {size} inputs from 1297 is not possible: the rarest of 10 classes"
    ):
        load_dataset("digits", train_size=size)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"train_x": torch.zeros(3, 64)}, "train part: 3 inputs and 1297 labels"),
        ({"test_x": torch.zeros(500, 63)}, r"test part: x is torch.float32 of shape \(500, 63\)"),
        ({"test_x": torch.zeros(500, 64, dtype=torch.float64)}, "test part: x is torch.float64"),
        ({"classes": ("0", "1")}, r"labels 0..9; 0..1 were expected, one for each of 2 classes"),
        ({"std": (0.0,)}, "std > 0"),
        ({"mean": (0.0, 1.0)}, "1 of each are needed"),
        ({"augmentation": "flip-crop"}, "augmentation 'flip-crop'; use 'none', or 'crop'"),
    ],
)
def test_a_data_set_that_exists_is_valid(change: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        replace(load_dataset("digits"), **change)
