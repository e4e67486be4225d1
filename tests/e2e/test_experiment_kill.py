"""Kill -9, Ctrl-C and company: whatever happens to a run, the next one ends with the results of an undisturbed one.

Runs are children of one small server process that has imported everything already, so that ten kills take seconds.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reticket.experiment import FolderStore, Plan, Task
from reticket.experiment.task import to_flat

SERVER = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for jobs in the background
sys.path[:] = json.loads(sys.argv[1])
import torch
torch.set_num_threads(1)
from fake_tasks import RUNNERS
from reticket.experiment import ExecutionConfig, FolderStore, Plan, run_plan
from reticket.experiment.task import from_flat

def stopping(kill):
    left = kill["at"]
    def hear(event):
        nonlocal left
        if event.kind == "progress" or kill["kind"] not in ("any", event.kind):
            return
        left -= 1
        if left:
            return
        with open(f"/proc/self/task/{os.getpid()}/children") as children, open(kill["children"], "w") as file:
            file.write(children.read())
        steps = kill["steps"]
        def count(frame, what, argument):  # so many calls and returns later, in the middle of whatever it is
            nonlocal steps
            steps -= 1
            if steps <= 0:
                (os.killpg if kill["group"] else os.kill)(os.getpid(), kill["sign"])
        sys.setprofile(count) if steps else count(None, None, None)
    return hear

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        os.waitpid(child, 0) if order["wait"] else None
        print("over" if order["wait"] else "begun", flush=True)
        continue
    os.setsid()
    code = 9
    try:
        plan = Plan.of(from_flat(order["tasks"]))
        hear = stopping(order["kill"]) if order["kill"] else None
        execution = ExecutionConfig(jobs=order["jobs"], settings={"log": order["log"]})
        summary = run_plan(plan, FolderStore(order["store"]), RUNNERS, execution, on_event=hear)
        code = 0 if summary.complete else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        with open(order["log"] + ".code", "a") as file:
            file.write(f"{os.getpid()} {code}\\n")
        os._exit(code)
"""
TESTS = Path(__file__).parents[1]
STEPS = 9_000  # calls and returns in the running process while it computes two tasks


class Server:
    """Starts runs in child processes of a process that is warm."""

    def __init__(self) -> None:
        path = json.dumps([str(TESTS), *sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        tasks: list[dict[str, Any]],
        store: Path,
        log: Path,
        *,
        jobs: int = 1,
        wait: bool = True,
        kill: dict[str, Any] | None = None,
    ) -> int:
        """Start a run, which may kill itself at an event, wait for its end if asked to, and return its process id."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"tasks": tasks, "store": str(store), "log": str(log), "jobs": jobs, "wait": wait, "kill": kill}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        self.process.stdout.readline()
        return child

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def experiment() -> list[Task]:
    """About 60 tasks of some 20 ms: draws, mixes of draws and of mixes, and walks that keep checkpoints."""
    draws = [Task("draw", 1, {"seed": seed, "seconds": 0.02}) for seed in range(20)]
    mixes = [Task("mix", 1, {"scale": n + 1.0, "seconds": 0.02}, {"a": draws[n], "b": draws[n - 3]}) for n in range(20)]
    wholes = [Task("mix", 1, {"scale": 1.0, "seconds": 0.02}, {"a": mixes[n], "b": mixes[n - 7]}) for n in range(10)]
    walks: list[Task] = []
    for at in range(3, 31, 3):
        walks.append(Task("walk", 1, {"seed": 1, "at": at, "seconds": 0.01}, resumes=tuple(walks[-1:])))
    return [*mixes, *wholes, *walks]


def contents(store: Path, tasks: list[Task]) -> dict[str, list[bytes]]:
    found = {}
    for task in Plan.of(tasks).tasks:
        FolderStore(store).get(task.key)  # checks it
        folder = store / "results" / task.key[:2] / task.key
        found[task.key] = [file.read_bytes() for file in sorted(folder.iterdir()) if file.name != "manifest.json"]
    return found


def killing(log: Path, at: int, *, kind: str = "any", **options: Any) -> dict[str, Any]:
    """Return the order to a run to kill itself as it tells the `at`-th event of a kind; its children are noted."""
    defaults = {"sign": int(signal.SIGKILL), "group": False, "steps": 0, "children": f"{log}.children"}
    return {"at": at, "kind": kind, **defaults, **options}


def stores_agree(store: Path, reference: Path, tasks: list[Task]) -> None:
    """The law itself: all results are there, whole, and those of an undisturbed run."""
    assert contents(store, tasks) == contents(reference, tasks)
    assert not (store / "damaged").exists()
    assert not list((store / "scratch").iterdir())


def until(condition: Any, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    server.run(to_flat(experiment()), folder / "store", folder / "log")
    assert len(contents(folder / "store", experiment())) == 60
    return folder / "store"


def test_killed_ten_times_and_started_again(server: Server, undisturbed: Path, tmp_path: Path) -> None:
    tasks, store, log = to_flat(experiment()), tmp_path / "store", tmp_path / "log"
    moments = random.Random(0)
    for number in range(10):
        more = moments.randrange(1, STEPS) if number % 2 else 0
        server.run(tasks, store, log, kill=killing(log, moments.randrange(2, 8), steps=more))
    assert not lines(Path(f"{log}.code")), "a run ended before it was killed"
    server.run(tasks, store, log)
    stores_agree(store, undisturbed, experiment())


def test_the_law_of_kills_can_fail(server: Server, tmp_path: Path) -> None:
    """A runner whose result depends on how often it was interrupted is caught."""
    task = Task("forgetful", 1, {"seconds": 0.0})
    server.run(to_flat([task]), tmp_path / "undisturbed", tmp_path / "log")
    server.run(to_flat([task]), tmp_path / "store", tmp_path / "log", kill=killing(tmp_path / "log", 1, kind="notice"))
    server.run(to_flat([task]), tmp_path / "store", tmp_path / "log")
    with pytest.raises(AssertionError):
        stores_agree(tmp_path / "store", tmp_path / "undisturbed", [task])


def test_two_runs_share_a_store(server: Server, undisturbed: Path, tmp_path: Path) -> None:
    tasks, store = to_flat(experiment()), tmp_path / "store"
    children = [server.run(tasks, store, tmp_path / f"log{n}", wait=False) for n in range(2)]
    until(lambda: not any(alive(child) for child in children))
    assert [lines(tmp_path / f"log{n}.code") for n in range(2)] == [[f"{child} 0"] for child in children]
    stores_agree(store, undisturbed, experiment())


def test_workers_die_with_their_parent_and_stop_at_ctrl_c(server: Server, undisturbed: Path, tmp_path: Path) -> None:
    tasks, store, log = to_flat(experiment()), tmp_path / "store", tmp_path / "log"
    for sign in (signal.SIGKILL, signal.SIGINT):  # a terminal sends Ctrl-C to the whole group
        kill = killing(log, 1, kind="task-done", sign=int(sign), group=sign == signal.SIGINT)
        child = server.run(tasks, store, log, jobs=2, kill=kill)
        workers = [int(text) for text in Path(f"{log}.children").read_text().split()]
        assert workers
        assert not any(line.split()[1] == str(child) for line in lines(log)), "workers compute, their parent does not"
        until(lambda child=child, workers=workers: not any(alive(process) for process in (child, *workers)))
    assert [line.split()[1] for line in lines(Path(f"{log}.code"))] == ["130"], "KeyboardInterrupt reached the caller"
    server.run(tasks, store, log)
    stores_agree(store, undisturbed, experiment())
