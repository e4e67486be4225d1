"""What holds for every data set, with small stand-ins for the files that are not embedded."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from reticket.data import (
    ImageFiles,
    Reading,
    cifar,
    cifar100,
    describe,
    fashion,
    list_datasets,
    load_dataset,
    open_dataset,
    svhn,
)
from reticket.data.subset import drawn_indices
from reticket.errors import DataError
from tests.generated_data import (
    cifar10_contents,
    cifar100_contents,
    generate,
    make_small,
    random_bytes,
    write_fashion,
    write_tar,
)


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_small(monkeypatch)
    monkeypatch.delenv("RETICKET_DATA", raising=False)
    for name, folder in (("fashion-mnist", "fashion-mnist"), ("cifar10", "cifar-10-batches-bin")):
        generate(name, tmp_path / folder)
    return tmp_path


@pytest.mark.parametrize("name", list_datasets())
def test_every_data_set_is_as_described_and_normalises(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    loaded = open_dataset(name, folder=generate(name, tmp_path / name))
    described = describe(name)
    assert loaded.name == name
    assert (loaded.size("train"), loaded.size("test")) == (described.train, described.test)
    assert (len(loaded.classes), loaded.input_shape) == (described.classes, described.input_shape)
    for split in ("train", "test"):
        labels = loaded.labels(split)
        assert sorted(set(labels.tolist())) == list(range(len(loaded.classes)))
        x, y = next(loaded.stored(split, 8))
        assert x.dtype == (torch.uint8 if loaded.is_images else torch.float32)
        assert tuple(x.shape[1:]) == loaded.input_shape
        assert torch.equal(y, labels[:8])
        ready = loaded.normalise(x)
        assert ready.dtype == torch.float32
        scaled = x.double() / 255 if loaded.is_images else x.double()
        shape = (-1, 1, 1) if loaded.is_images else (1,)
        mean, std = (torch.tensor(v, dtype=torch.float64).view(shape) for v in (loaded.mean, loaded.std))
        assert_close(ready.double(), (scaled - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.slow_cases("imagenet")
@pytest.mark.parametrize("name", list_datasets())
def test_subsets_are_balanced_seeded_and_change_the_fingerprint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    folder = generate(name, tmp_path / name)

    def part(seed: int) -> tuple[list[int], list[int], str]:
        found = open_dataset(name, folder=folder, train_size=256, test_size=23, subset_seed=seed)
        assert (found.size("train"), found.size("test")) == (256, 23)
        return found.labels("train").tolist(), found.labels("test").tolist(), found.fingerprint()

    one = part(0)
    for labels in one[:2]:
        counts = torch.bincount(torch.tensor(labels), minlength=describe(name).classes)
        assert int(counts.max() - counts.min()) == 1
    assert one == part(0)
    assert one[2] != part(1)[2]


def test_parameters_are_the_loader_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    folder = generate("tiny-imagenet", tmp_path / "data")
    small = open_dataset("tiny-imagenet", folder=folder, params={"side": 32})
    assert small.input_shape == describe("tiny-imagenet", {"side": 32}).input_shape == (3, 32, 32)
    assert small.fingerprint() != open_dataset("tiny-imagenet", folder=folder).fingerprint()
    with pytest.raises(DataError, match=r"'tiny-imagenet' has no parameter 'sides' \(data.params\); it takes side"):
        open_dataset("tiny-imagenet", folder=folder, params={"sides": 3})
    with pytest.raises(DataError, match=r"'digits' has no parameter 'side'.*takes none"):
        describe("digits", {"side": 3})
    with pytest.raises(DataError, match=r"images of 0 pixels cut from 0"):
        open_dataset("tiny-imagenet", folder=folder, params={"side": 0})
    with pytest.raises(DataError, match=r"'tiny-imagenet' is streamed and not held in memory"):
        load_dataset("tiny-imagenet", folder=folder)
    with pytest.raises(DataError, match=r"what data set 'json:loads' holds is known only from its files"):
        describe("json:loads")


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
    assert load_dataset("cifar10").train_x.shape == (1500, 3, 32, 32)
    monkeypatch.setenv("RETICKET_DATA", str(data_root / "cifar-10-batches-bin"))
    assert load_dataset("cifar10").test_x.shape == (300, 3, 32, 32)
    monkeypatch.setattr(fashion, "SYSTEM", data_root / "fashion-mnist")
    assert torch.equal(load_dataset("fashion-mnist").train_x, direct.train_x)


def test_plain_and_gzipped_idx_files_are_the_same(data_root: Path, tmp_path: Path) -> None:
    plain = load_dataset("fashion-mnist", folder=write_fashion(tmp_path / "plain", gz=False))
    zipped = load_dataset("fashion-mnist", folder=data_root)
    assert torch.equal(plain.train_x, zipped.train_x)
    assert torch.equal(plain.test_y, zipped.test_y)
    assert plain.train_x[0, 0, 0, :3].tolist() == random_bytes(3 * 300 * 784).tolist()[:3]  # row-major


@pytest.mark.parametrize("as_file", [True, False])
def test_cifar_archive_reads_as_the_folder_does(as_file: bool, data_root: Path, tmp_path: Path) -> None:
    place = tmp_path / "archive"
    place.mkdir()
    archive = write_tar(place / cifar.ARCHIVE, "cifar-10-batches-bin", cifar10_contents())
    from_archive = load_dataset("cifar10", folder=archive if as_file else place)
    from_folder = load_dataset("cifar10", folder=data_root)
    assert torch.equal(from_archive.train_x, from_folder.train_x)
    record = torch.tensor(list(cifar10_contents()["data_batch_1.bin"][:3073]))
    assert torch.equal(from_folder.train_x[0].flatten().long(), record[1:])  # planes of red, green, blue; row-major
    assert from_folder.augmentation == "flip-crop"


def test_cifar100_reads_fine_labels_names_and_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    contents = cifar100_contents()
    archive = write_tar(tmp_path / "cifar-100-binary.tar.gz", "cifar-100-binary", contents)
    from_archive = load_dataset("cifar100", folder=archive)
    from_folder = load_dataset("cifar100", folder=generate("cifar100", tmp_path / "cifar-100-binary").parent)
    assert from_archive.fingerprint() == from_folder.fingerprint()
    record = torch.tensor(list(contents["train.bin"][3074 * 57 : 3074 * 58]))
    assert from_folder.train_y[57] == record[1] == 57
    assert torch.equal(from_folder.train_x[57].flatten().long(), record[2:])
    assert from_folder.classes[3] == "class_3"
    (tmp_path / "cifar-100-binary" / cifar100.NAMES).unlink()
    assert load_dataset("cifar100", folder=tmp_path / "cifar-100-binary").classes[3] == "3"
    x = from_folder.train_x.double() / 255
    assert_close(torch.tensor(from_folder.mean).double(), x.mean((0, 2, 3)), rtol=0, atol=1e-6)
    assert_close(torch.tensor(from_folder.std).double(), x.std((0, 2, 3), correction=0), rtol=0, atol=1e-6)


def test_svhn_s_ten_is_zero_and_rows_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    loaded = load_dataset("svhn", folder=generate("svhn", tmp_path))
    raw = torch.from_numpy(random_bytes(32 * 32 * 3 * 300).reshape(32, 32, 3, 300))
    assert torch.equal(loaded.train_x[7], raw[:, :, :, 7].permute(2, 0, 1))
    assert loaded.train_y[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert loaded.augmentation == "crop"
    assert sum(svhn.COUNTS.values()) == 600


@pytest.mark.slow
def test_image_folders_have_the_labels_of_their_sorted_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    for name in ("imagenet", "tiny-imagenet"):
        loaded = open_dataset(name, folder=generate(name, tmp_path / name))
        assert isinstance(loaded, ImageFiles)
        for index in (0, 5, 77):
            label = int(loaded.train.labels[index])
            assert loaded.train.name(index).startswith(loaded.classes[label].split()[0])
        assert len(set(loaded.labels("train")[:100].tolist())) > 50  # the beginning mixes the classes
    assert loaded.classes[0] == "n01440764 name of n01440764"
    annotations = (tmp_path / name / "val" / "val_annotations.txt").read_text().splitlines()
    lines = dict(line.split("\t")[:2] for line in annotations)
    for index in (0, 9, 399):
        label = int(loaded.test.labels[index])
        assert loaded.classes[label].startswith(lines[loaded.test.name(index).removeprefix("images/")])
    assert Reading(loaded, "test", 4, torch.tensor([3])).inputs == 1


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


def test_a_draw_of_inputs_is_not_the_beginning_of_a_file_sorted_by_class() -> None:
    labels = torch.arange(10).repeat_interleave(100)
    drawn = drawn_indices(1000, 200, "match", "train")
    assert drawn is not None
    assert len(drawn.unique()) == 200
    assert int(labels[drawn].bincount(minlength=10).min()) > 5
    everything = drawn_indices(50, 200, "match", "train")
    assert everything is not None
    assert sorted(everything.tolist()) == list(range(50))
    assert drawn_indices(1000, None, "match") is None
