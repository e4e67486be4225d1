"""How this process treats memory: freed blocks stay with it, and the collector waits while much is made that stays."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of <malloc.h>
KEPT, LARGEST = 512 * 2**20, 256 * 2**20  # bytes: kept free at the end of the heap, of a block that comes from it


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed blocks of up to 256 MB, for the rest of this process's life.

    A step of a convolutional network frees and takes hundreds of blocks of some MB. glibc gives such blocks back to the
    system and gets them as fresh pages, each of which is filled with zeros on its first use: a tenth of the time of a
    ResNet20's step. No number changes by it.

    Returns:
        Whether the library took it; False where it is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, LARGEST))


@contextmanager
def without_collecting() -> Iterator[None]:
    """Hold the collector of cycles back while much is made that stays, as 10^5 tasks.

    It would look through all of it again whenever it has grown by a quarter, and find nothing: a third of the time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
