"""Inputs a second of models that train side by side: as threads, as processes, with graphs or not; the plain loop."""

import gc
import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import CASES
from benchmarks.plain import PlainLoop
from reticket.data import Dataset, open_dataset
from reticket.devices import deterministic
from reticket.experiment.threads import TURN, own_stream, quick_turns
from reticket.models import build_model
from reticket.rng import generator_for, shared_by_threads
from reticket.training import Placement, Recipe, TrainingRun
from reticket.training.graphs import cuda_graph

WAYS = ("graph float32", "graph bfloat16", "eager float32", "eager bfloat16")
PLAIN = "plain loop"
LOST = 40.0  # seconds after which a thread or a process that says nothing is given up


@dataclass(frozen=True)
class Place:
    """Where and how much is measured.

    Args:
        device: "cuda", or "cpu" for a rehearsal.
        data: name of the data set.
        folder: of its files, or None.
        width: factor on ResNet20's channels.
        batch_size: inputs in a step.
        seconds: about how long each measurement lasts.
    """

    device: str
    data: str
    folder: Path | None
    width: float = 1.0
    batch_size: int = 128
    seconds: float = 1.2


@dataclass(frozen=True)
class Way:
    """How models are trained: "graph float32" and so on, how many at once, as "threads" or "processes"."""

    name: str
    models: int
    side_by_side: str = "threads"

    def row(self, inputs_a_second: float, memory: float | None) -> dict[str, Any]:
        """Return the way with what was measured; memory in GiB."""
        return {
            "way": self.name,
            "models": self.models,
            "as": self.side_by_side,
            "inputs_a_second": inputs_a_second,
            "gpu_memory_gib": memory,
        }


class Runner:
    """One model in training.

    Args:
        way: how.
        place: where.
        dataset: the data.
        number: which of the models it is.
    """

    def __init__(self, way: Way, place: Place, dataset: Dataset, number: int) -> None:
        kind, precision = way.name.split()
        width = int(place.width) if place.width == int(place.width) else place.width
        model = build_model("resnet20", generator=generator_for("lease", number), width=width)
        recipe = Recipe(epochs=10**6, batch_size=place.batch_size, lr=0.05, precision=precision)  # type: ignore[arg-type]
        record = cuda_graph if kind == "graph" and place.device != "cpu" else None
        where = Placement(place.device, graphs=record is not None)
        self._run = TrainingRun(model, dataset, recipe, rng_label=("lease", number), where=where, record=record)

    def go(self, steps: int) -> None:
        """Train on, past the ends of epochs, whose losses are read; the device is done at the end."""
        self._run.go(self._run.step + steps)

    def close(self) -> None:
        """Let go of what was recorded."""
        self._run.close()


def by_threads(way: Way, place: Place, dataset: Dataset) -> dict[str, Any]:
    """Measure models that train as threads of this process."""
    if place.device != "cpu":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    team = _Team(way, place, dataset)
    with shared_by_threads(), deterministic(place.device), quick_turns(TURN):
        inputs_a_second = team.measure()
    memory = torch.cuda.max_memory_reserved() / 2**30 if place.device != "cpu" else None
    return way.row(inputs_a_second, memory)


class _Team:
    """Threads that all do as many steps as they are told, then wait for each other."""

    def __init__(self, way: Way, place: Place, dataset: Dataset) -> None:
        self._way, self._place, self._dataset = way, place, dataset
        self._steps = 1
        self._begin, self._end = (threading.Barrier(way.models + 1) for _ in range(2))
        self._errors: list[BaseException] = []

    def measure(self) -> float:
        """Return inputs a second of all models together."""
        members = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(self._way.models)]
        for member in members:
            member.start()
        try:
            self._turn(2)  # records
            pace = self._turn(10) / 10
            steps = max(10, int(self._place.seconds / pace))
            seconds = self._turn(steps)
            self._steps = 0
            self._begin.wait(LOST)
        except threading.BrokenBarrierError:
            raise (self._errors or [RuntimeError("a thread ended")])[0] from None
        for member in members:
            member.join()
        return self._way.models * steps * self._place.batch_size / seconds

    def _turn(self, steps: int) -> float:
        self._steps = steps
        self._begin.wait(LOST)
        begun = time.perf_counter()
        self._end.wait(LOST)
        return time.perf_counter() - begun

    def _told(self) -> int:
        """Wait for the next turn and return its steps; none at the end."""
        self._begin.wait(LOST)
        return self._steps

    def _work(self, number: int) -> None:
        runner = None
        try:
            with own_stream(self._place.device):
                torch.set_num_threads(1)
                runner = Runner(self._way, self._place, self._dataset, number)
                while steps := self._told():
                    runner.go(steps)
                    self._end.wait(LOST)
        except threading.BrokenBarrierError:
            return
        except BaseException as error:
            self._errors.append(error)
            self._begin.abort()
            self._end.abort()
        finally:
            if runner is not None:
                runner.close()


def by_processes(way: Way, place: Place) -> dict[str, Any]:
    """Measure models that train in processes of their own on the one device."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(way.models), context.SimpleQueue()
    processes = [
        context.Process(target=_process, args=(replace(way, models=1), place, n, barrier, results), daemon=True)
        for n in range(way.models)
    ]
    for process in processes:
        process.start()
    try:
        end = time.monotonic() + LOST
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
    if any(process.exitcode != 0 for process in processes):
        raise RuntimeError(f"exit codes {[process.exitcode for process in processes]}")
    found = [results.get() for _ in processes]
    return way.row(sum(rate for rate, _ in found), sum(memory for _, memory in found) or None)


def _process(way: Way, place: Place, number: int, barrier: Any, results: Any) -> None:
    torch.set_num_threads(1)
    dataset = open_dataset(place.data, folder=place.folder)
    assert isinstance(dataset, Dataset)
    with deterministic(place.device):
        runner = Runner(way, place, dataset, number)
        runner.go(2)
        barrier.wait(LOST)
        begun = time.perf_counter()
        runner.go(10)
        steps = max(10, int(place.seconds / (time.perf_counter() - begun) * 10))
        barrier.wait(LOST)
        begun = time.perf_counter()
        runner.go(steps)
        seconds = time.perf_counter() - begun
    memory = torch.cuda.max_memory_reserved() / 2**30 if place.device != "cpu" else 0.0
    results.put((steps * place.batch_size / seconds, memory))


def plain_loop(place: Place, dataset: Dataset, workers: int) -> dict[str, Any]:
    """Measure the loop that everybody writes, with a DataLoader of several workers."""
    case = replace(CASES["resnet20"], batch_size=place.batch_size, params={"width": place.width})
    loop = PlainLoop(case, dataset, workers, place.device)
    loop.train(5)
    begun, inputs = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begun) < place.seconds:
        inputs += loop.train(5)
    return Way(PLAIN, 1, "processes").row(inputs / seconds, None)


def rates(rows: list[dict[str, Any]], name: str, side_by_side: str) -> dict[int, float]:
    """Return inputs a second by number of models of one way, as far as they were measured."""
    return {
        row["models"]: row["inputs_a_second"]
        for row in _measured(rows)
        if (row["way"], row["as"]) == (name, side_by_side)
    }


def _measured(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (row for row in rows if "error" not in row)
