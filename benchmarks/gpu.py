"""Everything that a short loan of a GPU should answer, in one call of at most ten minutes.

    python -m benchmarks.gpu --device cuda --data DIR --out gpu.json      # --budget 540 seconds
    python -m benchmarks.gpu --device cpu --tiny --out tiny.json          # a rehearsal, which measures nothing

For ResNet20x1 on CIFAR-10: inputs a second and seconds an epoch of one model in float32, bfloat16 and as CUDA graphs;
the sum over 8 models in 8 processes on the one GPU; the plain loop with 0 and with several workers. The file is written
after each answer, so that a call that is cut short keeps what it has. An answer that fails is kept as its error.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import CASES, Case
from benchmarks.plain import PlainLoop
from benchmarks.throughput import spread
from reticket.data import Dataset
from reticket.tasks.running import Machine, environment_of
from reticket.training import Recipe
from reticket.training.graphs import cuda_graph
from reticket.training.run import Run

CASE, EPOCH = CASES["resnet20"], 50_000
WAYS = {
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    "float32, CUDA graphs": ("float32", True),
    "bfloat16, CUDA graphs": ("bfloat16", True),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured: steps of a turn, turns, models side by side, workers of the plain loop."""

    steps: int = 200
    turns: int = 5
    models: int = 8
    workers: int = 8


TINY = Size(steps=1, turns=2, models=2, workers=1)


def main() -> None:
    """Answer one question after another while there is time."""
    arguments = _parsed()
    size, begun = TINY if arguments.tiny else Size(), time.monotonic()
    case = dataclasses.replace(CASE, batch_size=8) if arguments.tiny else CASE
    found: dict[str, Any] = {"case": case.title, "environment": environment_of(Machine(device=arguments.device))}
    found |= {"device": arguments.device, "tiny": arguments.tiny, "size": dataclasses.asdict(size), "answers": {}}
    for name, answer in questions(case, arguments.data, arguments.device, size):
        if time.monotonic() - begun > arguments.budget:
            found["answers"][name] = {"skipped": f"the budget of {arguments.budget:g} s was spent"}
        else:
            try:
                found["answers"][name] = answer()
            except Exception as error:  # the other answers are worth having
                found["answers"][name] = {"error": f"{type(error).__name__}: {error}"}
        print(name, json.dumps(found["answers"][name])[:300], flush=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def questions(
    case: Case, folder: Path | None, device: str, size: Size
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield what is asked, the most valuable first."""
    dataset, source = case.load(folder)
    ways = {name: way for name, way in WAYS.items() if device != "cpu" or not way[1]}
    for name, way in ways.items():
        yield f"ours, {name}", lambda way=way: {"data": source, **ours(case, dataset, device, size, *way)}
    yield "times the host waits within an epoch", lambda: reads(case, dataset, device, size)
    for workers in (0, size.workers):
        yield f"plain, {workers} workers", lambda workers=workers: plain(case, dataset, device, size, workers)
    for name, way in ways.items():
        yield (
            f"{size.models} models in {size.models} processes, {name}",
            lambda way=way: side_by_side(case, folder, device, size, way),
        )


def ours(case: Case, dataset: Dataset, device: str, size: Size, precision: str, graphs: bool) -> dict[str, Any]:
    """Measure this package's loop."""
    run = _run(case, dataset, device, precision, graphs)
    _turn(run, size.steps)
    return _throughput([_turn(run, size.steps) for _ in range(size.turns)])


def reads(case: Case, dataset: Dataset, device: str, size: Size) -> dict[str, Any]:
    """Count where the host waits for the GPU, as torch tells, in a few steps of an epoch and in many."""
    found = {}
    for steps in (size.steps // 20 + 1, min(size.steps, 70)):
        run = _run(case, dataset, device, "float32", False)
        run.go(1)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            if device != "cpu":
                torch.cuda.set_sync_debug_mode("warn")
            run.steps_within_epoch(0, 1 + steps, lambda: None)
            if device != "cpu":
                torch.cuda.set_sync_debug_mode("default")
        found[f"{steps} steps"] = len(seen) if device != "cpu" else None
    return found


def plain(case: Case, dataset: Dataset, device: str, size: Size, workers: int) -> dict[str, Any]:
    """Measure the plain loop."""
    loop, seen = PlainLoop(case, dataset, workers, device), []
    steps = max(1, size.steps // 10)
    for number in range(size.turns + 1):
        begun = time.perf_counter()
        inputs = loop.train(steps)
        _wait(device)
        if number:
            seen.append(inputs / (time.perf_counter() - begun))
    return _throughput(seen)


def side_by_side(case: Case, folder: Path | None, device: str, size: Size, way: tuple[str, bool]) -> dict[str, Any]:
    """Measure several models at once, each in a process of its own on the one device."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(size.models), context.SimpleQueue()
    arguments = (case, folder, device, size, way, ready, results)
    processes = [context.Process(target=_one_of_many, args=arguments) for _ in range(size.models)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"exit codes {[process.exitcode for process in processes]}")
    turns = [results.get() for _ in processes]
    return _throughput([sum(together) for together in zip(*turns, strict=True)])


def _one_of_many(
    case: Case, folder: Path | None, device: str, size: Size, way: tuple[str, bool], ready: Any, results: Any
) -> None:
    torch.set_num_threads(1)
    run = _run(case, case.load(folder)[0], device, *way)
    _turn(run, size.steps)
    seen = []
    for _ in range(size.turns):
        ready.wait()
        seen.append(_turn(run, size.steps))
    results.put(seen)


def _run(case: Case, dataset: Dataset, device: str, precision: str, graphs: bool) -> Run:
    recipe = Recipe(epochs=100_000, batch_size=case.batch_size, lr=0.05, precision=precision)  # type: ignore[arg-type]
    record = cuda_graph if graphs else None
    return Run(case.build(), dataset, recipe, ("benchmark",), None, 0, torch.device(device), record=record)


def _turn(run: Run, steps: int) -> float:
    """Return inputs a second over some steps; `go` ends by reading the losses, so the device is done then."""
    begun, first, n, size = time.perf_counter(), run.step, run.batches.n, run.recipe.batch_size
    run.go(first + steps)
    inputs = sum(min(size, n - size * (step % run.batches.steps)) for step in range(first, run.step))
    return inputs / (time.perf_counter() - begun)


def _throughput(seen: list[float]) -> dict[str, Any]:
    found = spread(seen)
    return {"inputs_a_second": found, f"seconds for {EPOCH} inputs": EPOCH / found["median"]}


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--data", type=Path, default=os.environ.get("RETICKET_DATA"), help="folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="file of the answers")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds after which no question is begun")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal that measures nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
