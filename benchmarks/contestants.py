"""Processes that train, evaluate or match when they are told to, so that loops can be measured in turns."""

import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch

from benchmarks.cases import CASES
from benchmarks.ours import OurLoop
from benchmarks.plain import PlainLoop
from reticket.experiment.memory import keep_freed_memory

Work = Literal["train", "evaluate", "match"]


@dataclass(frozen=True)
class Setup:
    """One process.

    Args:
        loop: whose loop.
        threads: of torch, in this process.
        workers: of the plain loop's DataLoader.
    """

    loop: Literal["ours", "plain"]
    threads: int
    workers: int = 0


@dataclass(frozen=True)
class Piece:
    """One piece of work of one process.

    Args:
        inputs: how many were seen.
        seconds: by the clock on the wall.
        cpu: seconds of processor time of the process itself, without a DataLoader's workers.
    """

    inputs: int
    seconds: float
    cpu: float


class Member:
    """The parent's end of a process."""

    def __init__(self, case: str, setup: Setup, folder: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, case, setup, folder))
        self._process.start()
        self.source = self._connection.recv()

    def start(self, work: Work, amount: int) -> None:
        """Tell the process to do some steps of training, or so many passes of other work."""
        self._connection.send((work, amount))

    def wait(self) -> Piece:
        """Return what it did."""
        return self._connection.recv()

    def end(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join()


def together(members: tuple[Member, ...], work: Work, amount: int) -> float:
    """Return the throughput in inputs a second of processes that do the same work side by side."""
    for member in members:
        member.start(work, amount)
    return sum(piece.inputs / piece.seconds for piece in [member.wait() for member in members])


def _serve(connection: Connection, case: str, setup: Setup, folder: Path | None) -> None:
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)
    torch.set_num_threads(setup.threads)
    if setup.loop == "ours":
        keep_freed_memory()  # as every process that carries out tasks does
    dataset, source = CASES[case].load(folder)
    loop = OurLoop(CASES[case], dataset) if setup.loop == "ours" else PlainLoop(CASES[case], dataset, setup.workers)
    connection.send(source)
    while (order := connection.recv()) is not None:
        work, amount = order
        wall, cpu = time.perf_counter(), time.process_time()
        inputs = loop.train(amount) if work == "train" else sum(getattr(loop, work)() for _ in range(amount))
        connection.send(Piece(inputs, time.perf_counter() - wall, time.process_time() - cpu))
