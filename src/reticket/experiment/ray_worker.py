"""What a worker of Ray's runs for one task: a generator that yields what the task says of itself, in batches."""

import queue
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

from reticket.errors import OF_OTHERS, InputError, ReticketError, StoreError
from reticket.experiment.serving import Server
from reticket.extras import extra

BATCH = 0.2  # seconds for which words are gathered before they are sent
LAST = ("ended", "stop")  # words that nothing comes after
APPEARS = 60.0  # seconds after which every machine sees what another one has stored: network file systems remember
LOOK = 0.5  # seconds between two looks

Word = dict[str, Any]


def words_of(setup: Any, key: str) -> Iterator[list[Word]]:
    """Compute a task in a thread and yield what it says; the first word is where it is, the last how it ended.

    Args:
        setup: Ray's reference to the setup of `serving`.
        key: of the task.
    """
    said: queue.SimpleQueue[Word] = queue.SimpleQueue()
    threading.Thread(target=_compute, args=(setup, key, said), name="reticket", daemon=True).start()
    batch: list[Word] = [{"say": "begun", "node": extra("ray", "a worker").get_runtime_context().get_node_id()}]
    yield batch
    while batch[-1]["say"] not in LAST:
        batch = _gathered(said)
        yield batch


def wait_for_inputs(server: Server, key: str, patience: float = APPEARS) -> None:
    """Wait until this machine sees the results that a task reads, which others have stored.

    Args:
        server: with the task and the store.
        key: of the task.
        patience: seconds.

    Raises:
        StoreError: when it does not see one.
    """
    end = time.monotonic() + patience
    for task in server.tasks[key].inputs.values():
        while not server.store.has(task.key):
            if time.monotonic() > end:
                raise StoreError(
                    f"a worker does not see the result of '{task.name}', which is stored; name a store that every "
                    f"machine of the cluster reaches: --store with a shared folder or a bucket"
                )
            time.sleep(LOOK)


@lru_cache(maxsize=1)
def _server(setup: Any) -> Server:
    """Return what a worker keeps from one task of a run to the next."""
    return Server(extra("ray", "a worker").get(setup))


def _compute(setup: Any, key: str, said: "queue.SimpleQueue[Word]") -> None:
    def say(what: str, **details: Any) -> None:
        said.put({"say": what, **details})

    try:
        server = _server(setup)
        torch.set_num_threads(server.threads)  # this thread's own
        wait_for_inputs(server, key)
        server.serve(key, say)
    except ReticketError as error:
        say("stop", error=str(error), fixable=isinstance(error, InputError))
    except OF_OTHERS as error:  # who waits must hear of it
        say("stop", error=f"{type(error).__name__}: {error}", fixable=False)


def _gathered(said: "queue.SimpleQueue[Word]") -> list[Word]:
    batch = [said.get()]
    end = time.monotonic() + BATCH
    while batch[-1]["say"] not in LAST:
        try:
            batch.append(said.get(timeout=max(end - time.monotonic(), 0.0)))
        except queue.Empty:
            break
    return batch
