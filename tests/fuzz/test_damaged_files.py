"""No file, however damaged, ends a reader in anything but one sentence of this package.

`make test` tries 20 files of each kind, `make fuzz` 400: `RETICKET_FUZZ` / 5; `RETICKET_FUZZ_SEED` is the beginning.
"""

import gzip
import io
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from scipy.io import savemat

from reticket.cli.files import read_inputs, read_weights
from reticket.data import cifar, load_dataset
from reticket.data.decode import read_image
from reticket.data.idx import read_idx
from reticket.data.svhn import read_mat
from reticket.errors import ReticketError
from reticket.report.schema import read_json
from reticket.tasks.presets import load_config
from reticket.training import TrainState
from reticket.training.state import read_checkpoint, write_checkpoint
from tests.generated_data import cifar10_contents
from tests.laws.test_data_damage import tarred

FILES = int(os.environ.get("RETICKET_FUZZ", "100")) // 5
BEGIN = int(os.environ.get("RETICKET_FUZZ_SEED", "0"))
IDX = bytes((0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3))


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, a whole one, and what reads it."""

    name: str
    whole: Callable[[], bytes]
    read: Callable[[Path], object]


def written(write: Callable[[io.BytesIO], object]) -> Callable[[], bytes]:
    def whole() -> bytes:
        buffer = io.BytesIO()
        write(buffer)
        return buffer.getvalue()

    return whole


def checkpoint() -> bytes:
    path = Path(os.environ["PYTEST_CHECKPOINT"])
    weights, momentum, rng = {"w": torch.ones(3)}, {"w": torch.ones(3)}, torch.zeros(20, dtype=torch.uint8)
    write_checkpoint(path, TrainState(weights, momentum, {"cpu": rng}, torch.zeros(2), 3, 0), "run")
    return path.read_bytes()


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
    Kind("x.safetensors", lambda: save({"x": torch.ones(3, 4)}), inputs),
    Kind("w.safetensors", lambda: save({"x": torch.ones(3, 4)}), read_weights),
    Kind("w.pt", written(lambda file: torch.save({"x": torch.ones(3, 4)}, file)), read_weights),
    Kind("run.checkpoint", checkpoint, lambda path: read_checkpoint(path, "run")),
    Kind("results.json", lambda: b'{"a": [1, 2.5, {"b": "x"}], "c": null}', read_json),
    Kind("my.toml", (resources.files("reticket.tasks") / "presets" / "digits.toml").read_bytes, load_config),
)


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Return a file in which bits are flipped, bytes replaced, left out or put in, or which is cut short."""
    found = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(max(1, min(len(found), draw.choice((64, 512, 10**9)))))
        more, word = draw.randrange(1, 9), draw.choice((b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4)))
        match draw.randrange(5):
            case 0 if found:
                found[at] ^= 1 << draw.randrange(8)
            case 1:
                del found[at : at + more]
            case 2:
                found[at:at] = draw.randbytes(more)
            case 3:
                del found[at:]
            case _:
                found[at : at + 4] = word
    return bytes(found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_damaged_file_is_one_sentence(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "RECORDS", 1)
    monkeypatch.setenv("PYTEST_CHECKPOINT", str(tmp_path / "made"))
    whole, path, draw = kind.whole(), tmp_path / kind.name, random.Random(f"{BEGIN} {kind.name}")
    path.write_bytes(whole)
    kind.read(path)
    for _ in range(FILES):
        path.write_bytes(damaged(whole, draw))
        try:
            kind.read(path)
        except ReticketError as error:
            said = str(error)
        else:
            continue
        assert len(said.splitlines()) == 1
        assert str(path) in said
