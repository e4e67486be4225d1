"""Batches of decoded images, made by several threads, with a bounded number of bytes in flight.

Pillow lets go of Python's lock while it decodes and scales, so threads are enough, and they write into a batch in place
where processes would have to send it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from reticket.errors import ConfigError

IN_FLIGHT = 2**28  # bytes of pixels decoded before they are asked for, beyond which no batch is begun
AHEAD = 8  # batches at most
TOGETHER = 8  # images in one piece of work
VARIABLE = "RETICKET_DECODERS"
Job = TypeVar("Job")


def decoders() -> int:
    """Return how many threads decode: RETICKET_DECODERS, or this process's share of the cores that it may use.

    Raises:
        ConfigError: when the variable is not a whole number above 0.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return max(1, len(os.sched_getaffinity(0)) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if not text.isdigit() or int(text) == 0:
        raise ConfigError(f"{VARIABLE} is '{text}'; set it to a number of threads, at least 1")
    return int(text)


def decoded_batches(
    batches: Iterable[Sequence[Job]], pixels: Callable[[Job], UInt8[np.ndarray, "s s 3"]], side: int
) -> Iterator[UInt8[Tensor, "n 3 s s"]]:
    """Yield one tensor for each batch of jobs, in order; what the jobs give does not depend on the number of threads.

    Args:
        batches: jobs, taken only as room for them comes free.
        pixels: makes one image of a job; its error is raised here.
        side: height and width of an image.
    """
    waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
    queue = iter(batches)
    pool = ThreadPoolExecutor(decoders(), thread_name_prefix="decode")

    def submit() -> bool:
        batch = next(queue, None)
        if batch is None:
            return False
        rows = torch.empty(len(batch), side, side, 3, dtype=torch.uint8, device="cpu")
        view = rows.numpy()

        def fill(begin: int) -> None:
            for place in range(begin, min(begin + TOGETHER, len(batch))):
                view[place] = pixels(batch[place])

        waiting.append((rows, [pool.submit(fill, begin) for begin in range(0, len(batch), TOGETHER)]))
        return True

    try:
        while True:
            while _has_room([rows for rows, _ in waiting]) and submit():
                pass
            if not waiting:
                return
            rows, futures = waiting.popleft()
            for future in futures:
                future.result()
            yield rows.permute(0, 3, 1, 2)
            del rows, futures
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _has_room(waiting: Sequence[Tensor]) -> bool:
    return len(waiting) < AHEAD and sum(rows.numel() for rows in waiting) < IN_FLIGHT
