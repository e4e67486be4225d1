"""Whether a folder is one's own: an advisory lock that the system releases when its process ends, however it ends."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without such locks is treated like a file system without them
    fcntl = None  # type: ignore[assignment]

LOOKS = 5  # at a folder before it counts as somebody else's
_handles: set[int] = set()  # of folders that this process owns or tries to


@contextmanager
def owned(folder: Callable[[], Path]) -> Iterator[bool]:
    """Lock a folder if nobody else holds it; gives whether it is ours until the block ends.

    Args:
        folder: makes the folder if it has to and returns its path; called again when another owner has removed it.
    """
    if fcntl is None:
        folder()
        yield True  # checkpoints are written atomically, so sharing them is safe
        return
    handle = None
    try:
        while True:
            path = folder()
            try:
                handle = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            _handles.add(handle)
            ours = _try(handle)
            if not ours or _same(handle, path):
                break
            _close(handle)
            handle = None
        yield ours
    finally:
        if handle is not None:
            _close(handle)


def held(folder: Path) -> bool:
    """Return whether somebody owns a folder; a folder that is not there has no owner."""
    return fcntl is not None and _refused(folder, fcntl.LOCK_SH)  # shared: two who look are not in each other's way


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """While active, a folder counts as used, together with all others who use it; nothing without such locks.

    Args:
        folder: which is there.
    """
    handle = None
    if fcntl is not None:
        with suppress(OSError):  # one that cannot be read
            handle = os.open(folder, os.O_RDONLY)
    if handle is not None:
        _handles.add(handle)
        _try(handle, together=True)
    try:
        yield
    finally:
        if handle is not None:
            _close(handle)


def used(folder: Path) -> bool:
    """Return whether somebody uses a folder, see `in_use`, this process among them."""
    return fcntl is not None and _refused(folder, fcntl.LOCK_EX)


def _refused(folder: Path, lock: int) -> bool:
    """Return whether a lock of a folder is not to be had now; where there are none, nobody refuses."""
    assert fcntl is not None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _close(handle: int) -> None:
    if handle in _handles:  # else this process was forked meanwhile and has closed it
        _handles.discard(handle)
        os.close(handle)


def _let_go() -> None:
    """Close in a process that was forked what its parent owns: a lock lasts until the last who has it open ends."""
    for handle in tuple(_handles):
        _close(handle)


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go)


def _try(handle: int, *, together: bool = False) -> bool:
    assert fcntl is not None
    kind = fcntl.LOCK_SH if together else fcntl.LOCK_EX
    for again in reversed(range(LOOKS)):
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not again:
                return False
            time.sleep(0.001)  # perhaps somebody only looked, as `held` and `used` do
        except OSError:
            break
        else:
            return True
    return True  # a file system without locks: checkpoints are written atomically, so sharing them is safe


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
