"""Experiments as content-addressed tasks: keys, plan, store, executors. Knows no science."""

from reticket.experiment.compute import Context, collective, isolated
from reticket.experiment.estimate import Estimate
from reticket.experiment.events import Event
from reticket.experiment.execute import Summary, run_plan
from reticket.experiment.execution import EXECUTORS, ExecutionConfig, Executor, executor
from reticket.experiment.folder import FolderStore, StoreFolderError
from reticket.experiment.plan import Plan
from reticket.experiment.result import Result
from reticket.experiment.store import DamagedResult, MissingResult, Store, open_store
from reticket.experiment.task import Output, Task
from reticket.experiment.until import Until
from reticket.experiment.workers import WorkerError

__all__ = [
    "EXECUTORS",
    "Context",
    "DamagedResult",
    "Estimate",
    "Event",
    "ExecutionConfig",
    "Executor",
    "FolderStore",
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
    "collective",
    "executor",
    "isolated",
    "open_store",
    "run_plan",
]
