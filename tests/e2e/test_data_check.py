"""`reticket data check` names what is broken and exits with 2; a whole data set is described."""

import sys
from pathlib import Path

import pytest

from reticket.cli import main
from reticket.data import cifar, cifar100
from tests.generated_data import cifar100_contents, generate, make_small, wnid, write_tar


def check(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", "data", "check", name, "--data", str(folder)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.mark.parametrize("name", ["cifar10", "svhn", "tiny-imagenet"])
def test_a_whole_data_set_is_described(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(monkeypatch, name, generate(name, tmp_path / "data")) == 0
    said = capsys.readouterr().out
    assert f"{name}: no problem found" in said
    counts = {
        "cifar10": "1,500 for training, 300",
        "svhn": "300 for training, 300",
        "tiny-imagenet": "400 for training",
    }
    assert counts[name] in said
    assert ("measured" in said) == (name != "tiny-imagenet")


def test_every_broken_image_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = generate("tiny-imagenet", tmp_path / "data")
    broken = [root / "train" / wnid(3) / "images" / f"{wnid(3)}_0.JPEG", root / "val" / "images" / "val_7.JPEG"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:700])
    assert check(monkeypatch, "tiny-imagenet", root) == 2
    said = capsys.readouterr().out
    assert all(f"'{path}' cannot be decoded (image file is truncated" in said for path in broken)
    assert "tiny-imagenet: 2 broken files" in said


def break_missing_class(root: Path) -> str:
    place = root / "val" / wnid(5)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    return "holds 999 folders of classes, but 1000 were expected"


def break_flat(root: Path) -> str:
    (root / "val").rename(root / "old")
    (root / "val").mkdir()
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    return "is flat, as the official archive is: move each image into the folder"


def break_count(root: Path) -> str:
    place = root / "train" / wnid(5)
    (place / "one_more.JPEG").write_bytes(b"x")
    return "holds 1,001 images, but 1,000 were expected"


def break_other_class(root: Path) -> str:
    (root / "val" / wnid(5)).rename(root / "val" / "n99999999")
    return f"{wnid(5)}' is missing, the other part has that class"


def break_empty(root: Path) -> str:
    for path in (root / "train" / wnid(5)).iterdir():
        path.unlink()
    return f"class '{wnid(5)}' has none"


@pytest.mark.slow_cases("break_missing_class", "break_count")
@pytest.mark.parametrize("harm", [break_missing_class, break_flat, break_count, break_other_class, break_empty])
def test_broken_folders(harm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    root = generate("imagenet", tmp_path / "data")
    expected = harm(root)
    assert check(monkeypatch, "imagenet", root) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "file", "keep", "expected"),
    [
        ("svhn", "train_32x32.mat", 5000, "train_32x32.mat' cannot be read as a MATLAB file"),
        ("svhn", "test_32x32.mat", 0, "test_32x32.mat' cannot be read as a MATLAB file"),
        ("cifar100", "train.bin", 3074, "train.bin' holds 3,074 bytes, but 1,229,600 were expected"),
        ("cifar10", "data_batch_3.bin", 99, "data_batch_3.bin' holds 99 bytes"),
        (
            "tiny-imagenet",
            "val/val_annotations.txt",
            40,
            "line 2, gives 'val_1.JPE' the class '', which is none of wnids.txt",
        ),
        ("tiny-imagenet", "wnids.txt", 100, "wnids.txt' names 10 classes, but 200 were expected"),
    ],
)
def test_half_a_download_is_named(
    name: str, file: str, keep: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    root = generate(name, tmp_path / "data")
    path = root / file
    path.write_bytes(path.read_bytes()[:keep])
    assert check(monkeypatch, name, root) == 2
    assert expected in capsys.readouterr().err


def test_wrong_mat_wrong_labels_and_truncated_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = generate("svhn", tmp_path / "svhn")
    (root / "train_32x32.mat").write_bytes((root / "test_32x32.mat").read_bytes())
    monkeypatch.setattr("reticket.data.svhn.COUNTS", {"train_32x32.mat": 301, "test_32x32.mat": 300})
    assert check(monkeypatch, "svhn", root) == 2
    assert "X is uint8 of shape (32, 32, 3, 300), but uint8 of shape (32, 32, 3, 301)" in capsys.readouterr().err
    contents = cifar100_contents()
    wrong = bytearray(contents["test.bin"])
    wrong[1] = 100
    archive = write_tar(tmp_path / "cifar-100-binary.tar.gz", "cifar-100-binary", contents | {"test.bin": bytes(wrong)})
    assert check(monkeypatch, "cifar100", archive) == 2
    assert "test.bin' has the fine label 100, but 0..99 were expected" in capsys.readouterr().err
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    assert check(monkeypatch, "cifar100", archive) == 2
    said = capsys.readouterr().err
    assert f"'{archive}' cannot be read" in said
    assert f"fetch {cifar100.PUBLISHED.archive} again" in said
    assert cifar.RECORDS == 300
