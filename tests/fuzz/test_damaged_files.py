"""No file, however damaged, ends a reader in anything but one sentence of this package.

`make test` tries 20 files of each kind, `make fuzz` 1,000: `RETICKET_FUZZ` / 5; `RETICKET_FUZZ_SEED` is the beginning.
"""

import gzip
import io
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from scipy.io import savemat

from reticket.cli.input_files import read_inputs
from reticket.data import cifar, load_dataset
from reticket.data.decode import read_image
from reticket.data.idx import read_idx
from reticket.data.svhn import read_mat
from reticket.errors import ReticketError, TrainingError
from reticket.report.run_folder import read_run
from reticket.report.sweep import read_sweep
from reticket.symmetry import Alignment, Quality, Symmetry, random_alignment
from reticket.symmetry.sites import Site
from reticket.symmetry.terms import Atom, Fixed, concat, product
from reticket.tasks.presets import load_config
from reticket.tickets import Mask, Ticket
from reticket.training import TrainState
from reticket.training.state import read_checkpoint, write_checkpoint
from reticket.weight_files import read_weights
from tests.fuzz.damage import damaged, editor
from tests.generated_data import cifar10_contents
from tests.laws.test_data_damage import tarred
from tests.sample_results import CONFIG, sample_results, write_run

FILES = int(os.environ.get("RETICKET_FUZZ", "100")) // 5
BEGIN = int(os.environ.get("RETICKET_FUZZ_SEED", "0"))
IDX = bytes((0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3))


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, a whole one, what reads it, and what makes the files beside it."""

    name: str
    whole: Callable[[], bytes]
    read: Callable[[Path], object]
    beside: Callable[[Path], object] = lambda folder: None


def written(write: Callable[[io.BytesIO], object]) -> Callable[[], bytes]:
    def whole() -> bytes:
        buffer = io.BytesIO()
        write(buffer)
        return buffer.getvalue()

    return whole


def saved(save: Callable[[Path], object]) -> Callable[[], bytes]:
    """What is written to a path."""

    def whole() -> bytes:
        with TemporaryDirectory() as folder:
            save(Path(folder) / "made")
            return (Path(folder) / "made").read_bytes()

    return whole


def checkpoint(path: Path) -> None:
    weights, momentum, rng = {"w": torch.ones(3)}, {"w": torch.ones(3)}, torch.zeros(20, dtype=torch.uint8)
    write_checkpoint(path, TrainState(weights, momentum, {"cpu": rng}, torch.zeros(2), 3, 0), "run")


def symmetry() -> Symmetry:
    """Heads, a sum, a fixed axis, a site: every kind of term."""
    head, inner, other = Atom("q", 2), Atom("q:1", 3, ("q",)), Atom("b", 4)
    layouts = {"q": (product(head, inner), Fixed(3)), "k": (product(head, inner),), "b": (concat(other, Fixed(2)),)}
    reasons = {"q": ("", "an input"), "k": ("",), "b": ("",)}
    return Symmetry(layouts, reasons, (Site("first", "first", "", 0, (Fixed(2), other)),))


def alignment(path: Path) -> None:
    drawn = random_alignment(symmetry(), torch.Generator().manual_seed(0))
    Alignment(drawn.symmetry, drawn.permutations, {"b": Quality(0.9, 0.3)}).save(path)


def ticket() -> Ticket:
    weights = {"w": torch.arange(-5.0, 6).reshape(11, 1), "v": torch.ones(3)}
    return Ticket.of(weights, Mask({name: w > 0 for name, w in weights.items()}), {"seed": 3, "from": ["A", None]})


@cache
def few_results() -> dict[str, Any]:
    """One entry of every table."""
    return {name: rows[:1] if isinstance(rows, list) else rows for name, rows in sample_results().items()}


def run_folder(folder: Path) -> None:
    write_run(folder, few_results())


def sweep_folder(folder: Path) -> None:
    write_run(folder / "one", few_results())


def run_of(path: Path) -> object:
    return read_run(path.parent)


def taken(state: TrainState | None, path: Path) -> TrainState:
    """A checkpoint that is not there is none, for the run to begin."""
    if state is None:
        raise TrainingError(f"'{path}' is not there")
    return state


INDEX = b'{"metadata": {"total_size": 8}, "weight_map": {"a": "1-of-2.safetensors", "b": "2-of-2.safetensors"}}'


def shards(folder: Path) -> None:
    for number, name in enumerate("ab", 1):
        (folder / f"{number}-of-2.safetensors").write_bytes(save({name: torch.ones(1)}))


SWEEP = b'{"title": "t", "preset": "p", "key": "model.width", "variants": [{"value": 1, "folder": "one"}]}'


def image(mode: str, kind: str) -> Kind:
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 20, 3)).astype(np.uint16)
    made = Image.fromarray(pixels[..., 0]) if mode == "I;16" else Image.fromarray((pixels // 257).astype(np.uint8))
    made = made if mode == "I;16" else made.convert(mode)
    return Kind(f"{mode.replace(';', '')}.{kind}", written(lambda file: made.save(file, kind)), read_image)


def mat(*, compressed: bool) -> Kind:
    arrays = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1.0], [2.0]])}
    write = written(lambda file: savemat(file, arrays, do_compression=compressed))
    return Kind("packed.mat" if compressed else "plain.mat", write, lambda path: read_mat(path, 2))


def cifar10(path: Path) -> object:
    return load_dataset("cifar10", folder=path)


def inputs(path: Path) -> object:
    return read_inputs(str(path), "mlp", 2)


KINDS = (
    Kind("cifar.tar", lambda: tarred(cifar10_contents()), cifar10),
    Kind("cifar.tar.gz", lambda: gzip.compress(tarred(cifar10_contents()), 1), cifar10),
    mat(compressed=False),
    mat(compressed=True),
    Kind("labels", lambda: IDX, lambda path: read_idx(path, (3,))),
    Kind("labels.gz", lambda: gzip.compress(IDX), lambda path: read_idx(path, (3,))),
    *(image(mode, "png") for mode in ("1", "L", "P", "RGB", "RGBA", "I;16")),
    *(image(mode, "jpeg") for mode in ("L", "RGB", "CMYK")),
    Kind("x.npy", written(lambda file: np.save(file, np.ones((3, 4)))), inputs),
    Kind("x.npz", written(lambda file: np.savez(file, x=np.ones((3, 4)), y=np.ones(3, int))), inputs),
    Kind("x.safetensors", lambda: save({"x": torch.ones(3, 4)}), inputs),
    Kind("w.safetensors", lambda: save({"x": torch.ones(3, 4)}), read_weights),
    Kind("w.pt", written(lambda file: torch.save({"x": torch.ones(3, 4)}, file)), read_weights),
    Kind("model.safetensors.index.json", lambda: INDEX, read_weights, shards),
    Kind("run.checkpoint", saved(checkpoint), lambda path: taken(read_checkpoint(path, "run"), path)),
    Kind("sym.json", lambda: symmetry().to_json().encode(), Symmetry.load),
    Kind("al.safetensors", saved(alignment), Alignment.load),
    Kind("mask.safetensors", saved(ticket().mask.save), Mask.load),
    Kind("ticket.safetensors", saved(ticket().save), Ticket.load),
    Kind("results.json", lambda: json.dumps(few_results()).encode(), run_of, run_folder),
    Kind("environment.json", lambda: b'{"python": "3.11", "cpus": 2}', run_of, run_folder),
    Kind("config.toml", lambda: CONFIG.encode(), run_of, run_folder),
    Kind("sweep.json", lambda: SWEEP, lambda path: read_sweep(path.parent), sweep_folder),
    Kind("my.toml", (resources.files("reticket.tasks") / "presets" / "digits.toml").read_bytes, load_config),
)


ODD_PLACES: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "empty": Path.touch,
    "nothing": lambda path: None,
}
NEEDS_NONE = ("environment.json", "config.toml")  # a run directory may lack them


def files(kind: Kind, whole: bytes) -> Iterator[bytes]:
    """Damaged files, every second one by its values where it has any that can be edited."""
    draw, edit = random.Random(f"{BEGIN} {kind.name}"), editor(whole)
    for number in range(FILES):
        yield edit(draw) if edit is not None and number % 2 else damaged(whole, draw)


def refused(kind: Kind, path: Path) -> str:
    """What the reader says of a file, nothing when it takes it."""
    try:
        kind.read(path)
        return ""
    except ReticketError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    assert str(path.parent) in said
    assert len(said) < 1000 + 2 * len(str(path))
    return said


@pytest.fixture
def whole(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(cifar, "RECORDS", 1)
    kind.beside(tmp_path)
    whole, path = kind.whole(), tmp_path / kind.name
    path.write_bytes(whole)
    kind.read(path)
    return whole


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_damaged_file_is_one_sentence(kind: Kind, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    for content in files(kind, whole):
        path.write_bytes(content)
        refused(kind, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_what_stands_in_place_of_a_file_is_one_sentence(kind: Kind, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    path.unlink()
    for place, make in ODD_PLACES.items():
        make(path)
        with written_to(path) if place == "pipe" else nullcontext():
            said = refused(kind, path)
        assert said or kind.name in NEEDS_NONE, place
        if place == "folder":
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


@contextmanager
def written_to(pipe: Path) -> Iterator[None]:
    """Let whoever opens the pipe find it empty instead of waiting for ever; nobody should."""
    opened: list[None] = []

    def write() -> None:
        with pipe.open("wb"):
            opened.append(None)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
        assert opened == [], "the pipe was opened"
    finally:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        thread.join()
        os.close(reader)
