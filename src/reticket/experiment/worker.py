"""The process that computes tasks for a pool: it takes keys from a pipe, and ends at once when the other end is gone.

Messages are JSON. To the worker: the setup, then `{"key": ...}` for each task. From it: `hello`, `ready`, `progress`,
`notice`, `metrics`, `ended`, and `stop` with an error that would meet every other task too.
"""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import torch

from reticket.errors import ReticketError
from reticket.experiment.compute import TaskCallbacks, attempt
from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.memory import keep_freed_memory
from reticket.experiment.store import Store, open_store
from reticket.experiment.task import Task, from_flat


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
    setup = link.receive()
    try:
        torch.set_num_threads(setup["threads"])
        keep_freed_memory()
        execution = ExecutionConfig(threads=setup["threads"], device=setup["device"], settings=setup["settings"])
        store = open_store(setup["store"])
        tasks = {task.key: task for task in from_flat(setup["tasks"])}
        link.send("ready")
        while True:
            _serve(tasks[link.receive()["key"]], store, setup["runners"], execution, link)
    except ReticketError as error:
        link.send("stop", error=str(error))
        link.receive()


def _serve(task: Task, store: Store, runners: Mapping[str, str], execution: ExecutionConfig, link: Link) -> None:
    def report(fraction: float, text: str, seconds: float) -> None:
        link.send("progress", fraction=fraction, text=text, seconds=seconds)

    def metrics(step: int, metrics: Mapping[str, float]) -> None:
        link.send("metrics", step=step, metrics=dict(metrics))

    callbacks = TaskCallbacks(report, lambda text: link.send("notice", text=text), metrics)
    outcome = attempt(task, store, runners, execution, callbacks)
    link.send("ended", outcome=asdict(outcome))


def _leave() -> None:
    """End the process without unwinding: results are crash-safe, and the main thread may be deep in a computation."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
