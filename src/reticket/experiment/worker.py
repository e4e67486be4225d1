"""The process that computes tasks for a pool: it takes keys from a pipe, and ends at once when the other end is gone.

Messages are JSON. To the worker: the setup, then `{"key": ...}` for each task. From it: `hello`, `ready`, and what
`serving` says of a task.
"""

import json
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from reticket.errors import ReticketError
from reticket.experiment.serving import Server


class Link:
    """The worker's end of the pipe; a thread reads it, so that the parent's death is seen even during a task."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def receive(self) -> dict[str, Any]:
        """Wait for the next message."""
        return self._orders.get()

    def send(self, say: str, **details: Any) -> None:
        """Send a message; a parent that is gone is no error, since the reading thread ends the process."""
        try:
            with self._lock:
                self._connection.send_bytes(json.dumps({"say": say, **details}).encode())
        except OSError:
            _leave()

    def _read(self) -> None:
        try:
            while True:
                self._orders.put(json.loads(self._connection.recv_bytes()))
        except (EOFError, OSError):
            _leave()


def main(handle: int) -> None:
    """Serve tasks until the pipe closes.

    Args:
        handle: file descriptor of the worker's end of the pipe.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    link = Link(Connection(handle))
    link.send("hello")
    try:
        server = Server(link.receive())
        link.send("ready")
        while True:
            server.serve(link.receive()["key"], link.send)
    except ReticketError as error:
        link.send("stop", error=str(error))
        link.receive()


def _leave() -> None:
    """End the process without unwinding: results are crash-safe, and the main thread may be deep in a computation."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
