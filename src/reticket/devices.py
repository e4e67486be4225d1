"""Which device is meant, and what it does the same way each time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_users = 0
_before = (False, False)


@contextmanager
def current(device: str | torch.device) -> Iterator[None]:
    """While active, a GPU is the one that torch means when no number is named; nothing for any other device."""
    if torch.device(device).type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


@contextmanager
def deterministic(device: str | torch.device) -> Iterator[None]:
    """While active, cuDNN takes only kernels that give the same bits each time, and looks for no faster ones.

    On a CPU nothing is changed. Threads may be in such blocks side by side; the last to leave puts torch's flags back.

    Args:
        device: where is computed.
    """
    global _users, _before
    if torch.device(device).type != "cuda":
        yield
        return
    flags = torch.backends.cudnn
    with _lock:
        if not _users:
            _before = (flags.deterministic, flags.benchmark)
            flags.deterministic, flags.benchmark = True, False
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                flags.deterministic, flags.benchmark = _before
