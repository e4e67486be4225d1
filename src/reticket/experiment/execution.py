"""How the tasks of a plan are carried out, and the seat of whoever carries them out."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from reticket.devices import check_device, check_device_name
from reticket.errors import InputError
from reticket.experiment.loggers import LOGGERS
from reticket.experiment.schedule import Schedule
from reticket.experiment.store import Store
from reticket.extras import check_installed
from reticket.options import Options
from reticket.registry import Registry, first_line


@dataclass(frozen=True)
class ExecutionConfig:
    """How tasks are carried out; none of it but `threads` decides a result.

    Args:
        jobs: tasks at a time, each in a process of its own where there are several.
        threads: threads a task computes with; they can change the last bits of a result.
        device: where tasks compute, "cpu", "cuda" or "cuda:1".
        executor: name of a member of `EXECUTORS`.
        options: of that executor, by name; its defaults where they say nothing.
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
    options: Mapping[str, Any] = field(default_factory=dict)
    data: str | Path | None = None
    loggers: Sequence[str] = ()
    budget: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("jobs", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least 1")
        kind = EXECUTORS.named(self.executor)
        (check_device_name if kind.elsewhere else check_device)(self.device)
        kind.check(self.options)
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


Carry = TypeVar("Carry", bound=Callable[..., None])


@dataclass(frozen=True)
class Executor:
    """What carries a schedule out: it asks for the next task, computes it with `attempt`, reports how it ended.

    Results go through the store alone, so equal plans give equal stores whatever carries them out.

    Args:
        name: what users write as `--executor`.
        function: `(schedule, store, runners, execution, *, ...) -> None`.
        options: its settings, what stands after the `*`.
        needs: the package that it imports, if it is an optional one.
        elsewhere: whether tasks compute on other machines, so that their device need not be here.
    """

    name: str
    function: Callable[..., None]
    options: Options
    needs: str | None = None
    elsewhere: bool = False

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that it has not, and an executor whose package is not there.

        Raises:
            InputError: naming them.
        """
        if self.needs is not None:
            check_installed(self.needs, f"executor '{self.name}'")
        self.options.settings(options)

    def __call__(
        self, schedule: Schedule, store: Store, runners: Mapping[str, str], execution: ExecutionConfig
    ) -> None:
        """Return when the schedule is finished.

        Args:
            schedule: gives tasks and hears how they ended.
            store: where results are and go.
            runners: by kind of task, the runner as `package.module:function`.
            execution: how many at a time, with how many threads, where, and the executor's options.
        """
        self.function(schedule, store, runners, execution, **execution.options)


EXECUTORS = Registry[Executor]("executor", "reticket.executors", InputError, says=lambda one: first_line(one.function))


def executor(name: str, *, needs: str | None = None, elsewhere: bool = False) -> Callable[[Carry], Carry]:
    """Register a function `(schedule, store, runners, execution)` that carries a schedule out.

    What stands after a `*` in its signature are options, given by `--executor-option`; the first line of its docstring
    is what `reticket list executors` says of it.

    Args:
        name: what users write as `--executor`.
        needs: the package that it imports when it is called, if users may lack it.
        elsewhere: whether its tasks compute on other machines, so that `device` is not looked for here.

    Raises:
        InputError: when the name is taken.
    """

    def register(function: Carry) -> Carry:
        parameters = inspect.signature(function, eval_str=True).parameters
        own = {key: one for key, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
        options = Options(f"executor '{name}'", own, InputError)
        EXECUTORS.add(name, Executor(name, function, options, needs, elsewhere))
        return function

    return register
