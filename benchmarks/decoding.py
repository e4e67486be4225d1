"""How fast JPEGs become training images: threads of one process, as streamed data use them, or processes.

`python -m benchmarks.decoding` writes results/decoding.json. Images are of ImageNet's usual size, made up; a random
part of each is scaled to 224 pixels. Two processes of one thread each share nothing and send nothing back, so they are
what any split over processes could reach at best.
"""

import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import make_names
from benchmarks.throughput import spread
from reticket.data import imagenet, open_dataset
from reticket.data.parallel import VARIABLE
from reticket.data.source import StreamedSource
from reticket.experiment import ExecutionConfig
from reticket.tasks.running import environment_of

OUT = Path(__file__).parent / "results" / "decoding.json"
COUNTS = {"train": 2000, "val": 1000}
BATCH, IMAGES, ROUNDS = 64, 512, 7
CORES = 2
ONE, THREADS, PROCESSES = "1 thread", f"{CORES} threads", f"{CORES} processes of 1 thread"


def main() -> None:
    """Measure in turns and keep the figures."""
    with tempfile.TemporaryDirectory() as folder:
        make_names(Path(folder), COUNTS)
        context = multiprocessing.get_context("spawn")
        seen: dict[str, list[float]] = {ONE: [], THREADS: [], PROCESSES: []}
        with context.Pool(CORES) as pool:
            pool.starmap(rate, [(folder, 1, BATCH)] * CORES, chunksize=1)  # what is done once
            for _ in range(ROUNDS):
                seen[ONE].append(pool.apply(rate, (folder, 1)))
                seen[THREADS].append(pool.apply(rate, (folder, CORES)))
                seen[PROCESSES].append(sum(pool.starmap(rate, [(folder, 1)] * CORES, chunksize=1)))
    ratios = {
        f"{a} / {b}": _ratio(seen[a], seen[b]) for a, b in ((THREADS, ONE), (PROCESSES, ONE), (THREADS, PROCESSES))
    }
    for name, value in ratios.items():
        print(f"{name}: {value['median']:.2f} [{value['min']:.2f}, {value['max']:.2f}], n={value['n']}")
    found: dict[str, Any] = {name: spread(values) for name, values in seen.items()}
    found |= {"images": IMAGES, "batch_size": BATCH, "ratios": ratios, "environment": environment_of(ExecutionConfig())}
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def rate(folder: str, threads: int, images: int = IMAGES) -> float:
    """Return the images a second that a process makes with so many threads."""
    torch.set_num_threads(1)
    os.environ[VARIABLE] = str(threads)
    imagenet.COUNTS.update(COUNTS)
    source = open_dataset("imagenet", folder=Path(folder))
    assert isinstance(source, StreamedSource)
    begun = time.perf_counter()
    for x in source.drawn(torch.arange(images).split(BATCH), ("decoding",), augment=True):
        del x
    return images / (time.perf_counter() - begun)


def _ratio(one: list[float], other: list[float]) -> dict[str, Any]:
    return spread([a / b for a, b in zip(one, other, strict=True)])


if __name__ == "__main__":
    main()
