"""Which device is meant, whether it is there, and what it does the same way each time."""

import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

from reticket.errors import InputError

_lock = threading.Lock()
_users = 0
_before = (False, False)


def check_device(device: str, error: type[InputError] = InputError) -> None:
    """Refuse a device on which nothing can be computed here.

    Args:
        device: what a user wrote: "cpu", "cuda", "cuda:1".
        error: the class raised.

    Raises:
        InputError: of the class `error`.

    >>> check_device("cpu")
    """
    check_device_name(device, error)
    available_device(device, error)


def available_device(device: str | torch.device, error: type[InputError] = InputError) -> torch.device:
    """Return a device, of whatever kind; refuse words that name none, and a GPU that is not there.

    Args:
        device: "cpu", "cuda", "cuda:1", or another that torch knows.
        error: the class raised.

    Raises:
        InputError: of the class `error`.

    >>> available_device("cpu")
    device(type='cpu')
    """
    found = _named(device, error)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise error(f"device '{device}' was asked for, but torch sees no GPU; use cpu")
    if found.type == "cuda" and (found.index or 0) >= (count := torch.cuda.device_count()):
        raise error(f"device '{device}' is not there, torch sees {count} of its kind; use cuda:0")
    return found


def check_device_name(device: str, error: type[InputError] = InputError) -> torch.device:
    """Return what a user's words name, wherever it is; refuse what nobody computes on.

    Args:
        device: "cpu", "cuda", "cuda:1".
        error: the class raised.

    Raises:
        InputError: of the class `error`.

    >>> check_device_name("cuda:1").index
    1
    """
    found = _named(device, error)
    if found.type not in ("cpu", "cuda"):
        raise error(f"device '{device}' is of a kind that reticket does not compute on; use cpu or cuda")
    return found


def _named(device: str | torch.device, error: type[InputError]) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise error(f"device '{device}' is not one that torch knows; use cpu or cuda") from None


@cache
def hardware_of(device: str) -> str:
    """Return the name of what computes here: of the GPU that `device` names, else of the processor."""
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
