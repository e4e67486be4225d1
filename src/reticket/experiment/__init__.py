"""Experiments as content-addressed tasks: keys, plan, store, executors. Knows no science."""

from reticket.experiment import trackers as trackers  # whose loggers register themselves
from reticket.experiment.cached import CachedStore
from reticket.experiment.compute import Context, collective, isolated
from reticket.experiment.estimate import Estimate
from reticket.experiment.events import Event
from reticket.experiment.execute import Summary, run_plan
from reticket.experiment.execution import EXECUTORS, ExecutionConfig, Executor, executor
from reticket.experiment.folder import FolderStore, StoreFolderError
from reticket.experiment.locking import in_use, used
from reticket.experiment.loggers import LOGGERS, LoggedTraining, Logger, logged_by, logger
from reticket.experiment.pace import Pace
from reticket.experiment.plan import Plan
from reticket.experiment.remote import RemoteStore
from reticket.experiment.result import Result
from reticket.experiment.store import (
    STORES,
    DamagedResult,
    KeptStore,
    MissingResult,
    Store,
    folder_of,
    named_store,
    open_store,
    store,
    store_there,
)
from reticket.experiment.task import Output, Task
from reticket.experiment.until import Until
from reticket.experiment.workers import WorkerError

__all__ = [
    "EXECUTORS",
    "LOGGERS",
    "STORES",
    "CachedStore",
    "Context",
    "DamagedResult",
    "Estimate",
    "Event",
    "ExecutionConfig",
    "Executor",
    "FolderStore",
    "KeptStore",
    "LoggedTraining",
    "Logger",
    "MissingResult",
    "Output",
    "Pace",
    "Plan",
    "RemoteStore",
    "Result",
    "Store",
    "StoreFolderError",
    "Summary",
    "Task",
    "Until",
    "WorkerError",
    "collective",
    "executor",
    "folder_of",
    "in_use",
    "isolated",
    "logged_by",
    "logger",
    "named_store",
    "open_store",
    "run_plan",
    "store",
    "store_there",
    "used",
]
