"""How the tasks of a plan are carried out, and the seat of whoever carries them out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from reticket.devices import check_device
from reticket.errors import InputError
from reticket.experiment.loggers import LOGGERS
from reticket.experiment.schedule import Schedule
from reticket.experiment.store import Store
from reticket.registry import Registry


@dataclass(frozen=True)
class ExecutionConfig:
    """How tasks are carried out; none of it but `threads` decides a result.

    Args:
        jobs: tasks at a time, each in a process of its own where there are several.
        threads: threads a task computes with; they can change the last bits of a result.
        device: where tasks compute, "cpu", "cuda" or "cuda:1".
        executor: name of a member of `EXECUTORS`.
        data: folder of the data; None searches RETICKET_DATA and the system's places.
        loggers: names of members of `LOGGERS`, which write the figures of trainings down; one may stand alone.
        budget: seconds after which a run stops by itself and keeps what is done; None for no limit.
        settings: further facts of the machine that runners may ask for.

    Raises:
        InputError: for what cannot be used here.

    >>> ExecutionConfig(jobs=2, data="cifar").facts
    {'data': 'cifar'}
    """

    jobs: int = 1
    threads: int = 1
    device: str = "cpu"
    executor: str = "local"
    data: str | Path | None = None
    loggers: Sequence[str] = ()
    budget: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("jobs", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least 1")
        check_device(self.device)
        EXECUTORS.named(self.executor)
        names = (self.loggers,) if isinstance(self.loggers, str) else tuple(self.loggers)
        object.__setattr__(self, "loggers", tuple(dict.fromkeys(names)))
        for name in self.loggers:
            LOGGERS.named(name).check_installed()

    @property
    def folder(self) -> Path | None:
        """Folder of the data as a path."""
        return Path(self.data) if self.data else None

    @property
    def facts(self) -> dict[str, str]:
        """What runners are told of this machine: the settings, and where data lie."""
        return {**self.settings, **({"data": str(self.data)} if self.data else {})}


@runtime_checkable
class Executor(Protocol):
    """Carries a schedule out: asks it for the next task, computes it with `attempt`, reports how it ended.

    Results go through the store alone, so equal plans give equal stores whatever carries them out.
    """

    def __call__(
        self, schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig
    ) -> None:
        """Return when the schedule is finished.

        Args:
            schedule: gives tasks and hears how they ended.
            store: where results are and go.
            runners: by kind of task, the runner as `package.module:function`.
            execution: how many at a time, with how many threads, where.
        """
        ...


EXECUTORS = Registry[Executor]("executor", "reticket.executors", InputError)


def executor(name: str) -> Callable[[Executor], Executor]:
    """Register an executor; the first line of its docstring is what `reticket list executors` says of it.

    Args:
        name: what users write as `--executor`.

    Raises:
        InputError: when the name is taken.
    """
    return EXECUTORS.register(name)
