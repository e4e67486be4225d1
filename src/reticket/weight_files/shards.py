"""Weights that are too large to be read at once: shards of safetensors, read and written one tensor after another.

What is written has the layout of what is read, file by file and byte by byte: tensors change their values, not their
shapes or types. In memory is one tensor at a time; files are read, not mapped, since mapped pages count as memory.
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reticket.errors import InputError
from reticket.files import check_plain, said
from reticket.untrusted import one_line
from reticket.weight_files.on_disk import INDEX, check_shard, shards_in

SAFE_INDEX = f".safetensors{INDEX}"
WHOLE = {
    1: torch.uint8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
}  # by bytes: moved as they are, whatever they say
OF_WEIGHTS = (".safetensors", INDEX, ".bin", ".pt", ".pth", ".ckpt")  # end names of weights, whoever wrote them
PART = ".part"  # ends the name of a folder that is being written


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies in its file.

    Args:
        name: of the tensor.
        shape: of the tensor.
        start: of its first byte in the file.
        size: in bytes.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class Shard:
    """One file of safetensors of which no more than the head was read.

    Args:
        path: of the file.
        head: its bytes before the first tensor.
        slots: its tensors, in the order in which they lie.
        metadata: texts by name.
    """

    path: Path
    head: bytes
    slots: tuple[Slot, ...]
    metadata: Mapping[str, str]

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Read the head of a file, which is whole.

        Raises:
            InputError: when it cannot be read or is damaged.
        """
        try:
            check_plain(path)
            with safe_open(path, framework="numpy") as checked:  # sizes and places fit the file
                metadata = checked.metadata() or {}
            with path.open("rb") as file:
                length = file.read(8)
                head = length + file.read(int.from_bytes(length, "little"))
            entries = json.loads(head[8:])
        except (OSError, SafetensorError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as weights ({said(error)})") from None
        entries.pop("__metadata__", None)
        slots = [
            Slot(
                name,
                tuple(one["shape"]),
                len(head) + one["data_offsets"][0],
                one["data_offsets"][1] - one["data_offsets"][0],
            )
            for name, one in entries.items()
        ]
        return cls(path, head, tuple(sorted(slots, key=lambda slot: slot.start)), metadata)

    def bytes_of(self, slot: Slot) -> UInt8[np.ndarray, " bytes"]:
        """Return the bytes of a tensor.

        Raises:
            InputError: when they cannot be read.
        """
        try:
            found = np.fromfile(self.path, np.uint8, slot.size, offset=slot.start)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read as weights ({said(error)})") from None
        if len(found) != slot.size:
            raise InputError(f"{self.path}: ends within '{one_line(slot.name)}'; download the folder again")
        return found

    def tensor(self, slot: Slot) -> Tensor:
        """Return a tensor in whole numbers of as many bytes as its own have, which can be moved as they are.

        Raises:
            InputError: when it cannot be read, or its numbers are parts of a byte.
        """
        count = math.prod(slot.shape)
        width = slot.size // count if count else 1
        if width not in WHOLE or width * count != slot.size:
            raise InputError(
                f"{self.path}: '{one_line(slot.name)}' has {slot.size} bytes for {count} numbers, and only numbers of "
                f"1, 2, 4 or 8 bytes can be moved; write it in another type"
            )
        return torch.from_numpy(self.bytes_of(slot)).view(WHOLE[width]).reshape(slot.shape)


@dataclass(frozen=True)
class Shards:
    """A folder of shards and the index that names them.

    Args:
        index: the file.
        files: the shards, in its order.
    """

    index: Path
    files: tuple[Shard, ...]

    @classmethod
    def open(cls, index: Path) -> "Shards":
        """Read an index and the heads of its shards, which hold what it says.

        Raises:
            InputError: when a shard is missing or damaged, or holds other tensors.
        """
        shard_of, files = shards_in(index), []
        for name in dict.fromkeys(shard_of.values()):
            if not (index.parent / name).exists():
                raise InputError(f"{index}: names the shard '{name}', which is not there; download the folder again")
            shard = Shard.open(index.parent / name)
            check_shard(index, shard_of, name, [slot.name for slot in shard.slots])
            files.append(shard)
        return cls(index, tuple(files))

    def rewrite(self, target: Path, moved: Callable[[Shard, Slot], np.ndarray]) -> None:
        """Write a folder of the same shards with other values; it is there when it is whole, and not before.

        Args:
            target: the folder; there may be one without weights.
            moved: returns the new numbers of a tensor, in as many bytes; asked for one after another.

        Raises:
            InputError: when weights are there already, or it cannot be written; nothing half-written is left.
        """
        with new_folder(target) as folder:
            for shard in self.files:
                with (folder / shard.path.name).open("wb") as file:
                    file.write(shard.head)
                    for slot in shard.slots:  # no name is given to what it becomes: it goes before the next is read
                        file.write(moved(shard, slot).reshape(-1).view(np.uint8))  # pyright: ignore[reportArgumentType]
            shutil.copyfile(self.index, folder / self.index.name)


def index_at(source: str | Path) -> Path | None:
    """Return the index of shards of safetensors that a user names by itself or by its folder, None for anything else.

    Args:
        source: what the user wrote.
    """
    path = Path(source)
    if path.name.endswith(SAFE_INDEX):
        return path
    found = sorted(path.glob(f"*{SAFE_INDEX}")) if path.is_dir() else []
    return found[0] if len(found) == 1 and not (path / found[0].name.removesuffix(INDEX)).exists() else None


def check_new(target: Path) -> None:
    """Refuse a folder for shards in which weights are already; to be asked before a long computation.

    Args:
        target: where shards are to go; other files, as a configuration, may be there.

    Raises:
        InputError: when weights are there, or something that is no folder.
    """
    if target.is_dir():
        if found := sorted(one.name for one in target.iterdir() if one.name.endswith(OF_WEIGHTS)):
            raise InputError(
                f"{target}: '{found[0]}' is there already, and shards are written into a folder without weights; name "
                f"another with -o"
            )
    elif os.path.lexists(target):
        raise InputError(f"{target}: is there already, and shards are written into a folder; name another with -o")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder whose files come into `target` when the block ends, and go if it fails.

    Args:
        target: where they are to be; a folder without weights may be there.

    Raises:
        InputError: when weights are there already, or it cannot be written.
    """
    check_new(target)
    beside = target.with_name(f".{target.name[:32]}.{uuid.uuid4().hex[:12]}{PART}")
    try:
        beside.mkdir(parents=True)
        yield beside
        if target.is_dir() and any(target.iterdir()):
            _move_into(target, beside)
        else:
            os.replace(beside, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({said(error)}); choose another place with -o") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _move_into(target: Path, beside: Path) -> None:
    """Move files beside those of a folder, the index last, which makes them weights; all or none."""
    names = sorted((one.name for one in beside.iterdir()), key=lambda name: (name.endswith(INDEX), name))
    try:
        for name in names:
            os.rename(beside / name, target / name)
    except BaseException:
        for name in names:
            if not (beside / name).exists():
                (target / name).unlink(missing_ok=True)
        raise
