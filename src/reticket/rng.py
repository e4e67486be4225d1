"""Randomness is an argument: every generator is derived from the names of what it is for.

Two things draw from torch's global generators all the same, because torch gives them no other: the constructors of
layers, and dropout. Who lets them draw holds the global generators meanwhile, and puts them back.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor

from reticket.errors import InputError

_GLOBAL = threading.RLock()
_threads = 0  # blocks of `shared_by_threads` that are open


def seed_for(*labels: str | int) -> int:
    """Return a 63-bit seed decided by `labels` alone, equal on every machine and in every Python process.

    >>> seed_for("A", 0, "init") == seed_for("A", 0, "init") != seed_for("B", 0, "init")
    True
    """
    text = "\x1f".join(f"{type(label).__name__}:{label}" for label in labels)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(*labels: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a fresh generator seeded by `labels`, for instance `generator_for(seed, "init")`.

    Args:
        labels: what the randomness is for; equal labels give equal streams.
        device: where the generator lives.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(seed_for(*labels))
    return generator


def as_generator(source: torch.Generator | int, label: str) -> torch.Generator:
    """Return a generator as it is, and for a seed a fresh one.

    Args:
        source: a generator, or a seed.
        label: what the randomness is for, so that one seed gives two purposes streams of their own.

    Raises:
        InputError: for anything else.

    >>> a, b = (torch.rand(2, generator=as_generator(0, "mask")) for _ in range(2))
    >>> torch.equal(a, b), torch.equal(a, torch.rand(2, generator=as_generator(0, "alignment")))
    (True, False)
    """
    if isinstance(source, torch.Generator):
        return source
    if isinstance(source, Integral) and not isinstance(source, bool):
        return generator_for(int(source), label)
    raise InputError(
        f"generator is a {type(source).__name__}, but a torch.Generator or a seed, a whole number, was expected"
    )


@contextmanager
def global_generators(devices: Sequence[torch.device | int] = ()) -> Iterator[None]:
    """Hold the global generators: no other thread of this package draws meanwhile, and at the end they are put back.

    Args:
        devices: CUDA devices whose generators are held and put back too, besides the CPU's.
    """
    with _GLOBAL, torch.random.fork_rng(devices=list(devices)):
        yield


def global_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the global generators that a model on `device` may draw from, by "cpu" and "cuda"."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


@contextmanager
def shared_by_threads() -> Iterator[None]:
    """While active, several threads of this process compute side by side: who draws nothing holds no generator."""
    global _threads
    with _GLOBAL:
        _threads += 1
    try:
        yield
    finally:
        with _GLOBAL:
            _threads -= 1


def are_shared() -> bool:
    """Return whether several threads compute side by side, see `shared_by_threads`."""
    return _threads > 0
