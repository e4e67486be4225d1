"""Kill -9 of the driver, of a worker or of the whole group, start again: the results are those of an undisturbed run.

A run kills itself, or one of its workers, some milliseconds after it has told so many events; which, after how many
and how long is drawn by a generator. `make kills` does this 70 times, `make test-all` twice for each executor on a tiny
experiment; `make test` kills the small tasks of `test_experiment_kill.py`.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_files import reticket
from tests.untimed import untimed

TINY = Path(__file__).with_name("tiny.toml")
EXPERIMENT = os.environ.get("RETICKET_KILL_EXPERIMENT", str(TINY))
SMALL = (
    *("seeds=1", "sparsities=[0.4]", 'rewinds=["1ep"]', 'methods=["lth", "permuted", "naive"]'),
    *("barriers=false", "diversity_members=0"),
)
KILLS = int(os.environ.get("RETICKET_KILLS", "2"))
VICTIMS = {"local": ("driver", "worker", "group"), "threads": ("driver", "group")}
LATER = 0.1  # seconds after an event, at most, so that not only the telling of events is interrupted
STOPPING = """
import json, os, random, signal, sys, threading
from pathlib import Path
from reticket.cli import main
from reticket.cli.progress import Display
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for jobs in the background
orders = json.loads(sys.argv[1])
sys.argv[1:] = sys.argv[2:]
show = Display.show
def children():
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
def stop(sign, victim):
    if victim == "group":
        os.killpg(os.getpgid(0), sign)
    elif victim == "worker":
        os.kill(random.choice(children()), sign)
        print("a worker was killed", flush=True)
    else:
        os.kill(os.getpid(), sign)
def heard(display, event):
    show(display, event)
    if not orders or event.kind == "progress" or orders[0]["kind"] not in ("any", event.kind):  # as the log has them
        return
    orders[0]["at"] -= 1
    if orders[0]["at"] <= 0 and (orders[0]["victim"] != "worker" or children()):
        order = orders.pop(0)
        if order["later"]:
            threading.Timer(order["later"], stop, [order["sign"], order["victim"]]).start()
        else:
            stop(order["sign"], order["victim"])
Display.show = heard
main()
"""


def order(at: int, victim: str = "driver", *, sign: int = signal.SIGKILL, kind: str = "any", later: float = 0.0) -> Any:
    """Return the order to send a signal, so many seconds after `at` events of a kind were told."""
    return {"at": at, "victim": victim, "sign": int(sign), "kind": kind, "later": later}


def start(out: Path, *arguments: str, orders: Sequence[Any] = ()) -> subprocess.CompletedProcess[str]:
    """Run an experiment in two jobs, to its end or until what was ordered."""
    command = [sys.executable, "-c", STOPPING, json.dumps(orders), "run", *(arguments or [EXPERIMENT])]
    return subprocess.run(
        [*command, "--jobs", "2", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def without_times(out: Path) -> dict[str, Any]:
    return untimed(json.loads((out / "results.json").read_text()))


def drawn(draw: random.Random, victims: Sequence[str], most: int) -> list[Any]:
    """Return the orders for one start: any number of workers, then the driver or the group."""
    orders = [order(draw.randrange(2, most), draw.choice(victims), later=draw.uniform(0.0, LATER))]
    while orders[-1]["victim"] == "worker":
        orders.append(order(draw.randrange(2, most), draw.choice(victims), later=draw.uniform(0.0, LATER)))
    return orders


@pytest.mark.slow
@pytest.mark.parametrize("executor", VICTIMS)
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path, executor: str) -> None:
    how = (EXPERIMENT, "--executor", executor)
    assert start(tmp_path / "whole", *how).returncode == 0
    lines = len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    draw, kills = random.Random(executor), Counter[str]()
    while kills.total() < KILLS:
        orders = drawn(draw, VICTIMS[executor], max(4, lines // (KILLS + 1)))
        ended = start(tmp_path / "killed", *how, orders=orders)
        assert ended.returncode == -signal.SIGKILL, f"it ended before it was killed: {ended.stderr}"
        assert ended.stdout.count("a worker was killed") == len(orders) - 1
        assert not (tmp_path / "killed" / "results.json").exists()
        kills.update(one["victim"] for one in orders)
    assert start(tmp_path / "killed", *how).returncode == 0
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")
    assert not (tmp_path / "killed" / "store" / "damaged").exists()
    print(f"{executor}: {dict(kills)} kills, no loss, equal results; an undisturbed run tells {lines} events")


@pytest.mark.slow
def test_ctrl_c_stops_says_how_to_resume_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (str(TINY), *(text for setting in SMALL for text in ("--set", setting)))
    ctrl_c = order(3, sign=signal.SIGINT, kind="task-done")
    stopped = start(tmp_path / "stopped", *small, orders=[ctrl_c])
    assert stopped.returncode == 130
    assert "run the same command again to resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert reticket(monkeypatch, "run", *small, "--out", tmp_path / "stopped") == 0
    taken = int(capsys.readouterr().out.partition(" taken from the store")[0].rpartition(" ")[2])
    assert taken > 0
