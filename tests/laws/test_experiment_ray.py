"""The driver of tasks on Ray against a cluster that is made up: a machine that falls silent loses its tasks."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reticket.experiment import Event, FolderStore, Output, Plan, Task, Until, ray_executor
from reticket.experiment.ray_cluster import Cluster
from reticket.experiment.ray_executor import Driver
from reticket.experiment.schedule import Schedule

DRAW = Task("draw", 1, {"seed": 0})
ENDED = {"say": "ended", "outcome": {"seconds": 1.0}}


class Said:
    """What a task says, in batches; silent once they are spent."""

    def __init__(self, *batches: list[dict[str, Any]]) -> None:
        self.batches = list(batches)

    def __next__(self) -> list[dict[str, Any]]:
        return self.batches.pop(0)


class Cut(Cluster):
    """A cluster that loses machine b as soon as it is asked for the second time."""

    def __init__(self) -> None:
        self.cancelled: list[Said] = []
        self.asked = 0
        self.ray = SimpleNamespace(
            wait=lambda flying, num_returns, timeout: ([one for one in flying if one.batches], []),
            get=lambda words: words,
            cancel=lambda task, force: self.cancelled.append(task),
            exceptions=SimpleNamespace(RayError=RuntimeError),
        )

    def check(self) -> None:
        """It answers."""

    def lost_nodes(self) -> set[str]:
        self.asked += 1
        return {"b"} if self.asked == 2 else set()


@pytest.mark.parametrize(
    ("first", "how"),
    [(Said([{"say": "begun", "node": "b"}]), "its node was lost"), (Said(), "a machine went before it had begun")],
)
def test_tasks_of_a_machine_that_falls_silent_are_done_again(
    first: Said, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "REST", 0.0)
    store, events, cluster = FolderStore(tmp_path), list[Event](), Cut()
    attempts = iter([first, Said([{"say": "begun", "node": "a"}], [ENDED])])

    def sent(tasks: Iterator[Said], setup: object, key: str) -> Said:
        found = next(tasks)
        if found is not first:
            store.put(key, Output({"x": 1}), {})
        return found

    remote = SimpleNamespace(options=lambda name: SimpleNamespace(remote=lambda setup, key: sent(attempts, setup, key)))
    schedule = Schedule(Plan.of([DRAW]), store.has, events.append, Until(60))
    Driver(schedule, store, cluster, None, remote, jobs=1, tries=2).run()
    assert (schedule.done, cluster.cancelled) == ([DRAW.key], [first])
    assert [event.text for event in events if event.kind == "worker-lost"] == [
        f"its worker was lost ({how}); it is tried again after 0 s"
    ]
