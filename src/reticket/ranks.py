"""Processes that train one model together, one for each device: who one is, and the few words they exchange.

torchrun starts them and tells each its rank. Two ways of talking: tensors, on the devices' own backend; and messages as
JSON on a group of their own, which may wait for days while the first process works alone.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from reticket.errors import InputError, RanksError

PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """One of `world` processes that compute together; by itself when nothing else is said.

    Args:
        rank: 0 is the first, which alone writes files.
        world: number of processes.
        group: for messages; made by `joined`.
    """

    rank: int = 0
    world: int = 1
    group: Any = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and tells of progress."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    def all_reduce_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes, the same bits in each of them."""
        if not self.alone and tensor.numel():
            self._do(lambda: dist.all_reduce(tensor))

    def broadcast_(self, tensor: Tensor) -> None:
        """Replace a tensor by the first process's."""
        if not self.alone:
            self._do(lambda: dist.broadcast(tensor, 0))

    def broadcast_object(self, message: Any) -> Any:
        """Return what the first process says (JSON); the others' argument is not looked at."""
        if self.alone:
            return message
        content = json.dumps(message).encode() if self.first else b""
        length = torch.tensor([len(content)], device="cpu")
        self._do(lambda: dist.broadcast(length, 0, group=self.group))
        data = (
            torch.frombuffer(bytearray(content), dtype=torch.uint8)
            if self.first
            else torch.empty(int(length), dtype=torch.uint8, device="cpu")
        )
        self._do(lambda: dist.broadcast(data, 0, group=self.group))
        return message if self.first else json.loads(bytes(data.tolist()))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return a tensor of the CPU from every process, in the order of ranks; all of one shape."""
        if self.alone:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.world)]
        self._do(lambda: dist.all_gather(found, tensor, group=self.group))
        return found

    def _do(self, exchange: Callable[[], Any]) -> None:
        try:
            exchange()
        except RuntimeError as error:
            seen = str(error).splitlines()[0][:120]
            raise RanksError(
                f"process {self.rank} of {self.world} lost touch with another one ({seen}); start them again: what is "
                f"stored is kept, and training goes on from its checkpoint"
            ) from error


ALONE = Ranks()
_here: ContextVar[Ranks] = ContextVar("ranks", default=ALONE)


def here() -> Ranks:
    """Return this process's place within `joined`; by itself elsewhere."""
    return _here.get()


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """Give this process's place among those that torchrun started, and its own device; by itself without torchrun.

    Within the block `here()` is that place.

    Args:
        device: "cpu" (gloo), or "cuda" (NCCL), of which each process takes the one of its local rank.

    Raises:
        InputError: when torchrun's variables cannot be read, or one certain GPU is named for several processes.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield ALONE, device
        return
    if ":" in device:
        raise InputError(f"device '{device}' is one device for {world} processes; say cuda, and each takes its own")
    if device == "cuda":
        device = f"cuda:{_number('LOCAL_RANK', 0)}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    ranks = Ranks(dist.get_rank(), world, dist.new_group(backend="gloo", timeout=PATIENCE))
    token = _here.set(ranks)
    try:
        yield ranks, device
    finally:
        _here.reset(token)
        dist.destroy_process_group()


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdigit():
        raise InputError(f"{variable} is '{text}', expected a whole number; let torchrun set it")
    return int(text)
