"""Whether a folder is one's own: an advisory lock that the system releases when its process ends, however it ends."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def owned(folder: Callable[[], Path]) -> Iterator[bool]:
    """Lock a folder if nobody else holds it; gives whether it is ours until the block ends.

    Args:
        folder: makes the folder if it has to and returns its path; called again when another owner has removed it.
    """
    handle = None
    try:
        while True:
            path = folder()
            try:
                handle = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            ours = _try(handle)
            if not ours or _same(handle, path):
                break
            os.close(handle)
            handle = None
        yield ours
    finally:
        if handle is not None:
            os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: checkpoints are written atomically, so sharing them is safe
        return True
    return True


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
