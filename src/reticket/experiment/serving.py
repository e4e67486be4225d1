"""What another process is told before it computes tasks of a plan, and what it says while it does, all of it JSON.

Told once: the setup. Said of a task: `progress`, `notice`, `metrics`, `ended`, and `stop` with an error that would meet
every other task too.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from reticket.experiment.compute import TaskCallbacks, attempt
from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.memory import keep_freed_memory
from reticket.experiment.schedule import Schedule
from reticket.experiment.store import Store, open_store
from reticket.experiment.task import Task, from_flat, to_flat

Say = Callable[..., None]  # (what, **details)


def setup_for(
    schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig
) -> dict[str, Any]:
    """Return what another process has to know to compute any task of a schedule.

    Args:
        schedule: its tasks.
        store: where results are.
        runners: by kind of task, the runner as `package.module:function`.
        execution: threads, device, facts of the machine.
    """
    return {
        "store": dict(store.address),
        "runners": dict(runners),
        "threads": execution.threads,
        "device": execution.device,
        "settings": execution.facts,
        "tasks": to_flat(schedule.tasks),
    }


class Server:
    """Computes tasks by their keys.

    Args:
        setup: as `setup_for` gave it in the process that has the schedule.

    Raises:
        ReticketError: when the store or the device cannot be used here.
    """

    def __init__(self, setup: Mapping[str, Any]) -> None:
        torch.set_num_threads(setup["threads"])
        keep_freed_memory()
        self.threads: int = setup["threads"]
        self._execution = ExecutionConfig(threads=setup["threads"], device=setup["device"], settings=setup["settings"])
        self._runners = setup["runners"]
        self.store = open_store(setup["store"])
        self.tasks = {task.key: task for task in from_flat(setup["tasks"])}

    def serve(self, key: str, say: Say, check: Callable[[], None] = lambda: None) -> None:
        """Compute a task and say how it goes, and last how it ended.

        Args:
            key: of the task.
            say: takes what is said.
            check: called whenever the task says how far it is; it ends the task by raising.

        Raises:
            ReticketError: that would meet every other task too.
        """

        def progress(fraction: float, text: str, seconds: float) -> None:
            say("progress", fraction=fraction, text=text, seconds=seconds)

        def metrics(step: int, metrics: Mapping[str, float]) -> None:
            say("metrics", step=step, metrics=dict(metrics))

        callbacks = TaskCallbacks(progress, lambda text: say("notice", text=text), metrics, check)
        say("ended", outcome=asdict(attempt(self.tasks[key], self.store, self._runners, self._execution, callbacks)))


def pass_on(schedule: Schedule, task: Task, message: Mapping[str, Any]) -> None:
    """Pass on to a schedule what was said of a task under way.

    Raises:
        OutOfTime: when it is time to stop.
    """
    match message["say"]:
        case "progress":
            schedule.progress(task, message["fraction"], message["text"], message["seconds"])
        case "notice":
            schedule.notice(task, message["text"])
        case "metrics":
            schedule.metrics(task, message["step"], message["metrics"])
