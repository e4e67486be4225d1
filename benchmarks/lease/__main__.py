"""Everything that a short loan of a GPU should answer, in one call; see docs/gpu.md.

    python -m benchmarks.lease --data DIR --out OUT --budget 540
    python -m benchmarks.lease --device cpu --tiny --budget 60 --out OUT    # a rehearsal, which measures nothing

In this order: whether the device computes what the CPU does; how fast it is with several models side by side; the
paper's row ResNet20x1 / CIFAR-10 / 90 % at the longest schedule that this allows, as an ordinary experiment. Each
answer is written as soon as it is known, and one that fails costs itself alone. SIGTERM or Ctrl-C ends it early, with
all files whole; the same command goes on.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.lease import made_up
from benchmarks.lease.answers import Answers, Cut
from benchmarks.lease.row import chosen_before, plan_of, run_row, take_home
from benchmarks.lease.schedule import Chosen, Rates, choose
from benchmarks.lease.smoke import smoke
from benchmarks.lease.symmetries import Discoveries
from benchmarks.lease.throughput import PLAIN, Place, Way, by_processes, by_threads, plain_loop, rates
from reticket.data import Dataset, open_dataset
from reticket.errors import InputError, ReticketError
from reticket.experiment import Event, ExecutionConfig, Until
from reticket.tasks.planning import facts_of
from reticket.tasks.running import environment_of

COUNTS = (8, 12, 16, 4, 1)
PARTS = ("smoke", "throughput", "row")
SMOKE, MEASURING, ENDING = 60.0, 90.0, 25.0  # seconds: at most for the first two parts, kept for report and archive
PROCESSES = 0.4  # share of the throughput's time that is kept for what is measured in processes
OVERHEAD = 2.0  # seconds of a task beside its epochs: recording, evaluation, store
GRACE = 20.0  # seconds beside its own that a part has before it is killed
WORTH = 1.5  # times float32's throughput that bfloat16 must have to be taken: the paper's own arithmetic is float32
TINY_ROW = ("model.params={width=0.25, classes=10}", "matching.samples=64", "checks.barrier_samples=32")


class Lease:
    """One loan, or one part of it in a process of its own.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.begun = time.monotonic()
        self.arguments, self.device, self.tiny = arguments, arguments.device, arguments.tiny
        self.out, self.run = arguments.out, arguments.run
        self.out.mkdir(parents=True, exist_ok=True)
        data = arguments.data
        name = made_up.NAME if self.tiny and data is None else "cifar10"
        size = {"width": 0.25, "batch_size": 16, "seconds": 0.2} if self.tiny else {}
        self.place = Place(self.device, name, data, **size)
        header = {"environment": {**environment_of(ExecutionConfig(device=self.device)), **_card(self.device)}}
        header |= {"budget": arguments.budget, "tiny": self.tiny, "first_seed": arguments.first_seed}
        self.answers = Answers(self.out / "lease.json", header, ("tiny", "first_seed"))
        self.until = Until(arguments.left if arguments.left is not None else arguments.budget)
        self.in_row = False

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.until.left or 0.0

    def cut(self, *_: Any) -> None:
        """End early: the row stops by itself, anything else at once."""
        self.until.now()
        if not self.in_row:
            raise Cut

    def smoke(self) -> None:
        """Ask whether the device computes what the CPU does."""
        self.answers.ask("smoke", lambda: smoke(self.device, tiny=self.tiny))

    def throughput(self) -> None:
        """Measure the throughput."""
        discoveries = Discoveries(self.tiny)
        try:
            if "throughput" not in self.answers:
                self._measure(open_dataset(self.place.data, folder=self.place.folder), discoveries)
        finally:
            discoveries.close()

    def row(self) -> None:
        """Run the row at the longest schedule that what was measured allows, and take home what there is."""
        chosen, execution = self._chosen(open_dataset(self.place.data, folder=self.place.folder))
        self.answers.put("plan", plan_of(chosen, execution))
        print(chosen.sentence, flush=True)
        self.in_row = True
        self.answers.ask("row", lambda: run_row(chosen, self.run, execution, self.until, _tell))
        self.answers.ask("files", lambda: {"left out": take_home(chosen, self.run, execution, self.out)})

    def _measure(self, dataset: Any, discoveries: Discoveries) -> None:
        """Measure the throughput in the order of its worth, while there is time for it."""
        assert isinstance(dataset, Dataset)
        end = time.monotonic() + self.left()
        middle = end - PROCESSES * self.left()
        rows: list[dict[str, Any]] = []
        for way in self._ways():
            rows.append(_row(way, middle, lambda way=way: by_threads(way, self.place, dataset)))
            self.answers.put("throughput", {"rows": rows, "stopped": True})
            print(rows[-1], flush=True)
        self._measure_processes(rows, end, dataset)
        self.answers.put("throughput", {"rows": rows})
        self.answers.ask("symmetry", lambda: discoveries.matched(self.device, max(1.0, end - time.monotonic())))

    def _measure_processes(self, rows: list[dict[str, Any]], end: float, dataset: Dataset) -> None:
        """Measure the plain loop, and the best two ways as processes."""
        measured = sorted((r for r in rows if "error" not in r), key=lambda r: -r["inputs_a_second"])
        best = [Way(row["way"], row["models"], "processes") for row in measured[:2]]
        plain = Way(PLAIN, 1, "processes")
        rows.append(_row(plain, end, lambda: plain_loop(self.place, dataset, 1 if self.tiny else 8)))
        rows += [_row(way, end, lambda way=way: by_processes(way, self.place)) for way in best]
        print(*rows[-1 - len(best) :], sep="\n", flush=True)

    def _ways(self) -> Iterator[Way]:
        """Yield what is measured as threads, the most valuable first."""
        counts = (2, 1) if self.tiny else COUNTS
        for name in ("graph float32", "graph bfloat16"):
            yield from (Way(name, count) for count in counts)
        yield from (Way("eager float32", count) for count in (counts[-1], *counts[:-1]))
        yield Way("eager bfloat16", 1)

    def _chosen(self, dataset: Any) -> tuple[Chosen, ExecutionConfig]:
        """Return the schedule that what was measured allows, and how it is carried out."""
        facts = facts_of(dataset, "resnet20")
        settings = (f"data.name={self.place.data}", *TINY_ROW) if self.tiny else ()
        rows = self.answers["throughput"]["rows"] if "throughput" in self.answers else []
        precise, executor = _best(rows)
        if "plan" in self.answers:  # goes on: the same schedule as before
            chosen = chosen_before(self.answers["plan"], facts, settings)
            executor = self.answers["plan"]["executor"]
        else:
            speeds = {"float32": Rates(precise)}
            half = rates(rows, "graph bfloat16", executor)
            if half and max(half.values()) > WORTH * max(precise.values()):
                speeds["bfloat16"] = Rates(half)
            first = self.arguments.first_seed
            chosen = choose(speeds, self.left(), first, None, facts, overhead=OVERHEAD, settings=settings)
        executor = self.arguments.executor or executor
        return chosen, ExecutionConfig(jobs=chosen.jobs, device=self.device, executor=executor, data=self.place.folder)


class Parts:
    """The parts of a loan, each in a process of its own: what one does to the device, or to itself, ends with it.

    Args:
        budget: seconds in all.
        options: of the command line, handed on.
    """

    def __init__(self, budget: float, options: list[str]) -> None:
        self._options, self._until = options, Until(budget)
        self._ending = min(ENDING, budget / 8)
        self._running: subprocess.Popen[bytes] | None = None

    def go(self) -> int:
        """Do one part after another; a row whose process breaks down goes on in processes of its own."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._cut)
        begun = time.monotonic()
        for name, most in (("smoke", min(SMOKE, self._left() / 4)), ("throughput", min(MEASURING, self._left() / 3))):
            if self._left() and self._part(name, most) == InputError.exit_code:
                return InputError.exit_code  # it said what to change, and the other parts would say the same
        if self._left() and (code := self._part("row", self._left() - self._ending)):
            if code == InputError.exit_code:
                return code
            # it broke down: go on, or report
            self._part("row", max(0.0, self._left() - self._ending), "--executor", "processes")
        print(f"done after {time.monotonic() - begun:.0f} s")
        return 0

    def _left(self) -> float:
        return self._until.left or 0.0

    def _part(self, name: str, seconds: float, *more: str) -> int:
        command = [sys.executable, "-m", "benchmarks.lease", *self._options, "--part", name, "--left", str(seconds)]
        self._running = subprocess.Popen([*command, *more], start_new_session=True)  # Ctrl-C reaches it through `_cut`
        try:
            return self._running.wait(seconds + self._ending + GRACE)
        except subprocess.TimeoutExpired:
            print(f"{name} was killed: it took over {seconds:.0f} s and did not stop", flush=True)
            os.killpg(self._running.pid, signal.SIGKILL)
            return self._running.wait()

    def _cut(self, *_: Any) -> None:
        self._until.now()
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()


def _row(way: Way, end: float, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured of one way, or why it was not; the others are worth having all the same."""
    entry = {"way": way.name, "models": way.models, "as": way.side_by_side}
    try:
        return {**entry, "error": "no time was left"} if time.monotonic() > end else measure()
    except Exception as error:
        return {**entry, "error": str(error)[:500]}


def _best(rows: list[dict[str, Any]]) -> tuple[dict[int, float], str]:
    """Return the fastest float32 way that was measured, by number of models, and its executor."""
    ways = [("graph float32", "threads"), ("eager float32", "threads"), ("graph float32", "processes")]
    found = [(rates(rows, *way), way[1]) for way in ways]
    found = [one for one in found if one[0]] or [({1: 10_000.0}, "processes")]  # nothing was measured: be careful
    return max(found, key=lambda one: max(one[0].values()))


def _tell(event: Event) -> None:
    if event.kind not in ("task-started", "progress"):
        print(f"{event.kind}: {event.label} {event.text}", flush=True)


def _card(device: str) -> dict[str, Any]:
    if device == "cpu":
        return {}
    properties = torch.cuda.get_device_properties(0)
    driver = ""
    with suppress(OSError, subprocess.SubprocessError):
        ask = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        driver = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return {
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "tf32": torch.backends.cudnn.allow_tf32,
    }


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lease", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--data", type=Path, default=os.environ.get("RETICKET_DATA"), help="folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is taken home: at most 8 files")
    parser.add_argument("--run", type=Path, default=Path("runs/lease"), help="run directory; it resumes")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all")
    parser.add_argument("--first-seed", type=int, default=0, help="of the pairs; each loan has its own")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: a small network; made-up data without --data")
    parser.add_argument("--part", choices=PARTS, help="one part alone")
    parser.add_argument("--left", type=float, help="seconds for the part")
    parser.add_argument("--executor", choices=("threads", "processes"), help="of the row, in place of the faster one")
    return parser.parse_args()


def main() -> int:
    """Use one loan, or do one part of it; return the exit code."""
    try:
        arguments = _parsed()
        if arguments.part is None:
            return Parts(arguments.budget, sys.argv[1:]).go()
        lease = Lease(arguments)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lease.cut)
        with suppress(Cut):
            getattr(lease, arguments.part)()
    except ReticketError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if threading.active_count() > 1:  # one that was cut short may be deep in a computation
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
