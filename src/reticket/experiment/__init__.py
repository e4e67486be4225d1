"""Experiments as content-addressed tasks: keys, plan, store, executors. Knows no science."""

from reticket.experiment.compute import Context, Workplace, collective, isolated
from reticket.experiment.estimate import Estimate
from reticket.experiment.events import Event
from reticket.experiment.execute import EXECUTORS, Executor, Summary, executor, run_plan
from reticket.experiment.plan import Plan
from reticket.experiment.result import Result
from reticket.experiment.store import DamagedResult, MissingResult, Store, StoreFolderError
from reticket.experiment.task import Output, Task
from reticket.experiment.until import Until
from reticket.experiment.workers import WorkerError

__all__ = [
    "EXECUTORS",
    "Context",
    "DamagedResult",
    "Estimate",
    "Event",
    "Executor",
    "MissingResult",
    "Output",
    "Plan",
    "Result",
    "Store",
    "StoreFolderError",
    "Summary",
    "Task",
    "Until",
    "WorkerError",
    "Workplace",
    "collective",
    "executor",
    "isolated",
    "run_plan",
]
