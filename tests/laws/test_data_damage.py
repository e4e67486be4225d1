"""Laws of damage: what is read of a file is what was written, or an error; and no file makes more of itself than it is.

The readers meet files in which single bits are flipped, which are cut short, or which unpack to far more than they
should; each gives the data that were written or one sentence.
"""

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from reticket.data import cifar, load_dataset, svhn
from reticket.data.archives import BESIDE
from reticket.data.idx import read_idx
from reticket.data.mat import read_arrays
from reticket.data.svhn import read_mat
from reticket.errors import DataError
from tests.generated_data import cifar10_contents, write_files

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda raw: gzip.compress(raw, 1, mtime=0),
    "bz2": bz2.compress,
    "xz": lambda raw: lzma.compress(raw, preset=0),
}


def tarred(contents: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda member: None) -> bytes:
    """Return a tar archive; `change` may alter each member's header."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, raw in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(raw)
            change(member)
            tar.addfile(member, io.BytesIO(raw))
    return whole.getvalue()


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    monkeypatch.setattr(cifar, "RECORDS", 2)
    return cifar10_contents()


def loaded(path: Path) -> str:
    return load_dataset("cifar10", folder=path).fingerprint()


def flipped(good: bytes, at: int, bit: int) -> bytes:
    damaged = bytearray(good)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def no_flip_is_silent(good: bytes, path: Path, read: Callable[[Path], object], flips: int) -> int:
    """The law itself: a file with one flipped bit gives what the whole one gives, or a DataError; return the errors."""
    path.write_bytes(good)
    whole, draw, refused = read(path), random.Random(0), 0
    for _ in range(flips):
        path.write_bytes(flipped(good, draw.randrange(len(good)), draw.randrange(8)))
        found, error = outcome(read, path)
        assert found == whole if error is None else str(path.parent) in error
        refused += error is not None
    return refused


def outcome(read: Callable[[Path], object], path: Path) -> tuple[object, str | None]:
    """Return what was read, or the sentence of the error."""
    try:
        return read(path), None
    except DataError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", PACKED)
def test_no_flipped_bit_of_an_archive_is_silent(kind: str, contents: dict[str, bytes], tmp_path: Path) -> None:
    good = PACKED[kind](tarred(contents))
    assert no_flip_is_silent(good, tmp_path / "cifar-10-binary.tar.gz", loaded, 60) >= 55


def test_the_law_of_flips_can_fail(contents: dict[str, bytes], tmp_path: Path) -> None:
    """Read as tarfile reads, no further than the last member, the same flips give other data."""

    def as_tarfile_does(path: Path) -> list[bytes]:
        try:
            with tarfile.open(path) as tar:
                return [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
        except Exception as error:
            raise DataError(f"{path}: {error}") from error

    good = PACKED["gz"](tarred(contents))
    with pytest.raises(AssertionError):
        no_flip_is_silent(good, tmp_path / "cifar-10-binary.tar.gz", as_tarfile_does, 60)


def test_a_damaged_header_is_not_the_end_of_an_archive(contents: dict[str, bytes], tmp_path: Path) -> None:
    path, good = tmp_path / "cifar-10-binary.tar", tarred(contents)
    path.write_bytes(good)
    loaded(path)
    second = good.index(b"cifar-10-batches-bin/data_batch_2.bin")
    path.write_bytes(flipped(good, second + 3, 0))
    with pytest.raises(DataError, match=rf"the header at byte {second:,} is damaged: bad checksum\); fetch cifar-10-b"):
        loaded(path)
    path.write_bytes(good[: good.rindex(b"cifar-10-batches-bin/")])
    with pytest.raises(DataError, match=r"header at byte .* is damaged"):
        loaded(path)


def as_link(member: tarfile.TarInfo) -> None:
    if member.name.endswith("data_batch_3.bin"):
        member.type, member.linkname, member.size = tarfile.SYMTYPE, "data_batch_1.bin", 0


def as_device(member: tarfile.TarInfo) -> None:
    if member.name.endswith("data_batch_3.bin"):
        member.type, member.size = tarfile.CHRTYPE, 0


def as_pipe(member: tarfile.TarInfo) -> None:
    if member.name.endswith("data_batch_3.bin"):
        member.type, member.size = tarfile.FIFOTYPE, 0


@pytest.mark.parametrize("change", [as_link, as_device, as_pipe])
def test_members_that_are_no_files(change: Callable[..., None], contents: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar"
    path.write_bytes(tarred(contents, change))
    with pytest.raises(DataError, match=r"data_batch_3.bin' is a link, a device or sparse, but a plain file was expec"):
        loaded(path)


def test_members_that_are_twice_there_or_of_absurd_size(contents: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar"
    path.write_bytes(tarred({**contents, "old/test_batch.bin": contents["test_batch.bin"]}))
    with pytest.raises(DataError, match=r"'test_batch.bin' is there twice"):
        loaded(path)
    for name, size in (("readme.html", 2**60), ("data_batch_1.bin", 2**33)):
        member = tarfile.TarInfo(name)
        member.size = size
        path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
        with pytest.raises(DataError, match=rf"'{name}' declares {size:,} bytes, but at most"):
            loaded(path)


@pytest.mark.slow
def test_small_files_do_not_become_large_ones(contents: dict[str, bytes], tmp_path: Path) -> None:
    """Of 200 MB of zeros, a few megabytes are unpacked."""
    zeros = 200 * 2**20
    bomb = tmp_path / "cifar-10-binary.tar.gz"
    with gzip.open(bomb, "wb", 1) as file:
        file.write(tarred(contents)[:-10240])
        for _ in range(zeros // 2**20):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"unpacks to more than {12 * 3073 + BESIDE:,} bytes"):
        loaded(bomb)
    idx = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(idx, "wb", 1) as file:
        file.write(bytes((0, 0, 8, 1)) + (3).to_bytes(4, "big"))
        for _ in range(zeros // 2**20):
            file.write(bytes(2**20))
    with pytest.raises(DataError, match="holds more than 3 data bytes, but 3 were expected"):
        read_idx(idx, (3,))
    assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    mat = tmp_path / "train_32x32.mat"
    savemat(mat, {"X": np.zeros((1024, 1024, 50), np.uint8)}, do_compression=True)
    tracemalloc.reset_peak()
    with pytest.raises(DataError, match="an array unpacks to more than"):
        read_mat(mat, 10)
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


def test_what_is_no_plain_file_is_named(contents: dict[str, bytes], tmp_path: Path) -> None:
    write_files(tmp_path, contents)
    (tmp_path / "data_batch_2.bin").unlink()
    os.mkfifo(tmp_path / "data_batch_2.bin")
    with pytest.raises(DataError, match=r"data_batch_2.bin' is a pipe or a device, but a plain file was expected"):
        loaded(tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    (tmp_path / "data_batch_2.bin").mkdir()
    with pytest.raises(DataError, match=r"data_batch_2.bin' is a folder, but a plain file was expected; put the file"):
        loaded(tmp_path)


# ---------------------------------------------------------------- MATLAB files


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "f4", "f8", "i8"])
def test_arrays_of_matlab_files_are_those_that_scipy_reads(kind: str, compressed: bool, tmp_path: Path) -> None:
    generator, path = np.random.default_rng(0), tmp_path / "a.mat"
    written = {
        "X": generator.integers(0, 100, (3, 4, 2, 5)).astype(kind),
        "y": generator.integers(0, 9, (7, 1)).astype(kind),
        "one": np.array([[3]], kind),
        "longer_than_four": np.zeros((0, 3), kind),
    }
    savemat(path, written, do_compression=compressed)
    found, theirs = read_arrays(path, 4000), loadmat(path)
    for name, array in written.items():
        np.testing.assert_array_equal(found[name], theirs[name])
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_other_contents_of_matlab_files_are_refused(tmp_path: Path) -> None:
    path, deep = tmp_path / "train_32x32.mat", np.empty((1, 1), object)
    deep[0, 0] = "inside"
    for name, value in {
        "cells": deep,
        "text": "letters",
        "fields": {"a": 1},
        "complex": np.ones((2, 2), complex),
        "logical": np.ones((2, 2), bool),
    }.items():
        savemat(path, {"X": value})
        with pytest.raises(DataError, match=r"train_32x32.mat' cannot be read as a MATLAB file \(.*\); fetch it again"):
            read_mat(path, 3)
        assert name
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64))
    with pytest.raises(DataError, match="does not begin as a MATLAB file of version 5"):
        read_mat(path, 3)
    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1.5], [2.0]])})
    with pytest.raises(DataError, match=r"labels 1.5..2, but whole numbers 1..10 were expected"):
        read_mat(path, 2)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_matlab_file_is_a_sentence_or_its_numbers(compressed: bool, tmp_path: Path) -> None:
    """A packed file has checksums; of a plain one every bit before the numbers is tried."""
    path = tmp_path / "train_32x32.mat"
    x = np.random.default_rng(1).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    savemat(path, {"y": np.array([[3], [10]], np.uint8), "X": x}, do_compression=compressed)
    good = path.read_bytes()

    def read(path: Path) -> bytes:
        images, labels = read_mat(path, 2)
        return images.numpy().tobytes() + labels.numpy().tobytes()

    if compressed:
        assert no_flip_is_silent(good, path, read, 300) >= 280
        return
    heads = len(good) - x.nbytes
    for at in range(124, heads):
        for bit in range(8):
            path.write_bytes(flipped(good, at, bit))
            assert str(path) in (outcome(read, path)[1] or str(path))
    for end in range(0, len(good), 97):
        path.write_bytes(good[:end])
        with pytest.raises(DataError, match=r"train_32x32.mat"):
            read(path)
    assert svhn.COUNTS["train_32x32.mat"] == 73_257
    assert torch.equal(read_mat(path_of(good, path), 2)[1], torch.tensor([3, 0]))


def path_of(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path
