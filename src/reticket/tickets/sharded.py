"""Masks and tickets that are too large to be held at once: in shards, each of which is the file of a mask or ticket.

A mask of 70 billion weights has nine gigabytes at one bit a weight, and seventy as flags. It is written part by part,
and moved through an alignment tensor by tensor.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from reticket.errors import AlignmentError, MaskError
from reticket.tickets import storage
from reticket.tickets.mask import Mask
from reticket.tickets.ticket import Ticket, spread
from reticket.untrusted import one_line
from reticket.weight_files.shards import SAFE_INDEX, Shard, Shards, Slot, new_folder

INDEX_NAME = f"mask{SAFE_INDEX}"
MASK, SIGN = "mask:", "sign:"  # before the names of weights


@runtime_checkable
class MovesTensors(Protocol):
    """What moving tensor by tensor needs of an alignment; `symmetry.Alignment` is one."""

    def tensor(self, name: str, tensor: Tensor) -> Tensor:
        """Return one tensor with its units moved."""
        ...

    def owner_of(self, name: str, shape: Sequence[int]) -> str:
        """Return what it is indexed like; raises where the alignment is of another model."""
        ...


@dataclass
class Counted:
    """How many weights a mask is about.

    Args:
        kept: how many it keeps.
        numel: how many there are.
    """

    kept: int = 0
    numel: int = 0

    @property
    def density(self) -> float:
        """Fraction kept."""
        return self.kept / self.numel


def save_shards(parts: Iterable[Mask | Ticket], folder: str | os.PathLike[str]) -> None:
    """Write a mask or a ticket as shards with an index, one shard a part; no more than a part need be in memory.

    Args:
        parts: of the whole, one after another, as a generator makes them; no weight is in two of them.
        folder: where they go; it is there when it is whole.

    Raises:
        MaskError: when there is no part, or a weight is in two.
        InputError: when the folder has something in it, or cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> parts = (Mask({f"{layer}.weight": torch.ones(2, 2) > 0}) for layer in range(2))
    >>> with TemporaryDirectory() as place:
    ...     save_shards(parts, f"{place}/mask")
    ...     sorted(path.name for path in Path(f"{place}/mask").iterdir())
    ['mask-00001-of-00002.safetensors', 'mask-00002-of-00002.safetensors', 'mask.safetensors.index.json']
    """
    with new_folder(Path(folder)) as beside:
        names: list[list[str]] = []
        for part in parts:
            part.save(beside / f"{len(names)}")
            names.append([slot.name for slot in Shard.open(beside / f"{len(names)}").slots])
        if not names:
            raise MaskError(f"'{folder}' would hold no mask; give at least one part")
        shard_of: dict[str, str] = {}
        for number, held in enumerate(names):
            name = f"mask-{number + 1:05}-of-{len(names):05}.safetensors"
            if twice := shard_of.keys() & held:
                raise MaskError(f"two parts hold '{min(twice).partition(':')[2]}'; give each weight once")
            shard_of |= dict.fromkeys(held, name)
            (beside / f"{number}").rename(beside / name)
        size = sum(path.stat().st_size for path in beside.iterdir())
        index = {"metadata": {"total_size": size}, "weight_map": shard_of}
        (beside / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n")


def transfer_shards(index: Path, alignment: MovesTensors, target: Path) -> Counted:
    """Move a mask or ticket in shards through an alignment that leaves no unit out, into shards of the same layout.

    What is written is, byte by byte, what moving all of it at once would write. In memory is one tensor at a time.

    Args:
        index: of the shards.
        alignment: carries A's units to B's order.
        target: the folder for the moved shards; it is there when it is whole.

    Returns:
        How many weights it keeps.

    Raises:
        MaskError, InputError: when a shard is missing or damaged, or the folder has something in it.
        AlignmentError: when it is of another model; before anything is written.
    """
    shards, parts = Shards.open(index), {}
    for shard in shards.files:
        parts[shard] = part = _Part(shard)
        for name, shape in part.shapes.items():
            try:
                alignment.owner_of(name, shape)
            except AlignmentError as error:
                raise AlignmentError(f"{shard.path}: {error}") from None
    counted = Counted()
    shards.rewrite(target, lambda shard, slot: parts[shard].moved(slot, alignment, counted))
    return counted


class _Part:
    """What a shard says of the weights that it is about.

    Args:
        shard: the file of a mask or ticket.

    Raises:
        MaskError: when it is none, or damaged.
    """

    def __init__(self, shard: Shard) -> None:
        header = storage.header_of(shard.path, shard.metadata, ("ticket", "mask"))
        self.shapes = storage.shapes_of(header, shard.path)
        self._shard = shard
        self._slots = {slot.name: slot for slot in shard.slots}
        kinds = (MASK, SIGN) if header.get("signed", False) is True else (MASK,)
        if odd := self._slots.keys() ^ {f"{kind}{name}" for name in self.shapes for kind in kinds}:
            raise MaskError(
                f"'{shard.path}' does not hold what its header says, see '{one_line(min(odd))}'; the file is damaged, "
                f"write it again"
            )

    def moved(self, slot: Slot, alignment: MovesTensors, counted: Counted) -> np.ndarray:
        """Return the bits of a mask, which are counted, or of its signs, as they are after the move."""
        kind, name = slot.name[: len(MASK)], slot.name[len(MASK) :]
        kept = self._flags(slot if kind == MASK else self._slots[f"{MASK}{name}"], self.shapes[name])
        count = int(np.count_nonzero(kept.numpy()))  # summing flags makes whole numbers of them first
        if kind == MASK:
            counted.kept, counted.numel = counted.kept + count, counted.numel + kept.numel()
            return storage.pack(alignment.tensor(name, kept))
        signs = alignment.tensor(name, spread(kept, self._flags(slot, (count,))))
        return storage.pack(signs[signs != 0] < 0)

    def _flags(self, slot: Slot, shape: tuple[int, ...]) -> Tensor:
        return storage.unpack(self._shard.bytes_of(slot), shape, f"'{self._shard.path}': '{one_line(slot.name)}'")
