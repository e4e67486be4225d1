"""What a run tells while it goes on: one frozen, JSON-able value for each thing that happens."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from reticket.errors import InputError

EventKind = Literal[
    "plan-started",
    "task-started",
    "progress",
    "metrics",
    "notice",
    "task-done",
    "task-failed",
    "task-skipped",
    "result-damaged",
    "worker-lost",
    "plan-finished",
]


@dataclass(frozen=True)
class Event:
    """One thing that happened in a run.

    Args:
        kind: what happened.
        key: key of the task concerned; empty for the plan's own events.
        label: its label.
        task: its kind.
        cost: its cost.
        text: a sentence: the plan in words, the error, the runner's word on its progress, why a task was skipped.
        fraction: how much of the task is done, in [0, 1].
        step: for `metrics`: steps of the training so far.
        metrics: figures of that step by name, such as loss (nats), lr and accuracy (percent).
        seconds: how long the task, or the plan, took.
        left: seconds until the plan is finished, as is estimated just now.
        cached: whether the result was found in the store instead of being computed.
        traceback: of a failure, for `--debug`.
        work: for `plan-started`: by kind of task, how many are to be computed (`tasks`) and at what cost (`cost`).
        counts: for `plan-started` and `plan-finished`: how many tasks (planned, shared, cached, missing; done, cached,
            failed, skipped), jobs, and results of the store that the first estimate rests on (learned).
        time: seconds since the epoch.

    >>> Event("task-done", key="ab", label="a network", seconds=1.5, time=0.0).to_json()
    {'kind': 'task-done', 'key': 'ab', 'label': 'a network', 'seconds': 1.5, 'time': 0.0}
    """

    kind: EventKind
    key: str = ""
    label: str = ""
    task: str = ""
    cost: float | None = None
    text: str = ""
    fraction: float | None = None
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    left: float | None = None
    cached: bool = False
    traceback: str = ""
    work: Mapping[str, Mapping[str, int | float]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.kind not in get_args(EventKind):
            raise InputError(f"unknown kind of event '{self.kind}', expected one of {', '.join(get_args(EventKind))}")

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON without its empty fields."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["work"] = {kind: dict(amount) for kind, amount in self.work.items()}
        values["counts"], values["metrics"] = dict(self.counts), dict(self.metrics)
        return {name: value for name, value in values.items() if value not in (None, "", {}) and value is not False}


Listener = Callable[[Event], object]
