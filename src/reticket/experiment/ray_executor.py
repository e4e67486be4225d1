"""A schedule carried out by a Ray cluster: tasks go where their resources are, results go through the store.

A task is a generator on a worker (`ray_worker`). So the driver waits for all tasks at once, and hears of each as soon
as there is something to hear.
"""

import heapq
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from reticket.errors import InputError, StoreError
from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.ray_cluster import Cluster, ClusterError, connected, search_path
from reticket.experiment.ray_worker import APPEARS, Word
from reticket.experiment.schedule import PAUSE, Outcome, Schedule
from reticket.experiment.serving import pass_on, setup_for
from reticket.experiment.store import Store
from reticket.experiment.task import Task
from reticket.experiment.workers import THREAD_VARIABLES
from reticket.extras import extra

REST = 1.0  # seconds before a task that lost its worker is tried again, then twice as many, and so on
LONGEST_REST = 60.0
GIGABYTE = 1e9
HOW = {  # a task lost its worker, by the name of Ray's error
    "OutOfMemoryError": "Ray ended it for lack of memory",
    "NodeDiedError": "its node was lost",
    "WorkerCrashedError": "it crashed or was killed, perhaps for lack of memory",
}
HOPELESS = ("RuntimeEnvSetupError", "TaskUnschedulableError", "AuthenticationError")  # that trying again does not mend


@dataclass
class Flight:
    """A task that the cluster has.

    Args:
        task: what it is.
        since: when it was sent, by `time.perf_counter`.
        node: Ray's name of the machine that computes it, once it has begun.
    """

    task: Task
    since: float
    node: str = ""


class Driver:
    """At most `jobs` tasks at a time on a cluster, until a schedule is finished.

    Args:
        schedule: gives tasks and hears how they ended.
        store: where results are.
        cluster: computes.
        setup: Ray's reference to what workers have to know.
        remote: Ray's form of the function that computes a task.
        jobs: tasks that the cluster has at a time.
        tries: how often a task may lose its worker.
    """

    def __init__(
        self, schedule: Schedule, store: Store, cluster: Cluster, setup: Any, remote: Any, jobs: int, tries: int
    ) -> None:
        self._schedule, self._store, self._cluster = schedule, store, cluster
        self._setup, self._remote, self._jobs, self._tries = [setup], remote, jobs, tries
        self._flying: dict[Any, Flight] = {}  # by Ray's generator
        self._losses: dict[str, int] = {}  # of workers, by key of the task
        self._resting: list[tuple[float, str, Task]] = []  # until when, why, and what
        self._unseen: list[tuple[float, Task, Outcome]] = []  # stored, they say, but not seen here yet

    def run(self) -> None:
        """Carry the schedule out.

        Raises:
            ClusterError: when the cluster is lost, or cannot run the tasks.
            StoreError: when the store cannot be written, or is another one for a worker.
        """
        while not self._schedule.finished:
            self._wake()
            self._look()
            self._send()
            if not self._schedule.finished:
                for generator in self._heard_from():
                    self._listen(generator)
            self._cluster.check()
            self._leave_lost_nodes()
            self._schedule.until.check()

    def stop(self) -> None:
        """Take back every task at once; what they had not stored is lost, what they stored is whole."""
        for generator in self._flying:
            with suppress(Exception):  # the cluster may be gone
                self._cluster.ray.cancel(generator, force=True)
        self._flying.clear()

    def _send(self) -> None:
        while len(self._flying) < self._jobs and (task := self._schedule.next(patient=False)) is not None:
            generator = self._remote.options(name=task.name).remote(self._setup, task.key)
            self._flying[generator] = Flight(task, time.perf_counter())

    def _heard_from(self) -> list[Any]:
        """Wait until a task says something, or for as long as there is patience."""
        patience = self._schedule.until.patience
        if self._resting:
            patience = min(patience, max(self._resting[0][0] - time.monotonic(), 0.0))
        if not self._flying:
            time.sleep(min(PAUSE, patience))
            return []
        flying = list(self._flying)
        ready, _ = self._cluster.ray.wait(
            flying, num_returns=1, timeout=min(patience, PAUSE) if self._unseen else patience
        )
        if ready:
            ready, _ = self._cluster.ray.wait(flying, num_returns=len(flying), timeout=0)
        return ready

    def _listen(self, generator: Any) -> None:
        flight = self._flying[generator]
        try:
            words = self._cluster.ray.get(next(generator))
        except (StopIteration, self._cluster.ray.exceptions.RayError) as lost:
            self._lose(generator, _how(lost, flight.task))
            return
        for word in words:
            match word["say"]:
                case "begun":
                    flight.node = word["node"]
                case "ended":
                    del self._flying[generator]
                    self._end(flight.task, Outcome(**word["outcome"]))
                case "stop":
                    raise (InputError if word["fixable"] else StoreError)(word["error"])
                case _:
                    pass_on(self._schedule, flight.task, word)

    def _end(self, task: Task, outcome: Outcome) -> None:
        if outcome.error or outcome.busy or self._store.has(task.key):
            self._schedule.ended(task, outcome)
        else:
            self._unseen.append((time.monotonic() + APPEARS, task, outcome))

    def _look(self) -> None:
        """Look for results that workers have stored and that were not seen here yet, as in a network's file system."""
        unseen, self._unseen = self._unseen, []
        for end, task, outcome in unseen:
            if self._store.has(task.key):
                self._schedule.ended(task, outcome)
            elif time.monotonic() < end:
                self._unseen.append((end, task, outcome))
            else:
                raise StoreError(
                    f"a worker has stored the result of '{task.name}' where this machine does not see it; name a store "
                    f"that every machine of the cluster reaches: --store with a shared folder or a bucket"
                )

    def _leave_lost_nodes(self) -> None:
        """Take tasks back from machines that are lost, and those of which is not known where they are."""
        lost = self._cluster.lost_nodes()
        for generator, flight in list(self._flying.items()) if lost else ():
            if flight.node in lost or not flight.node:
                self._cluster.ray.cancel(generator, force=True)
                self._lose(generator, HOW["NodeDiedError"] if flight.node else "a machine went before it had begun")

    def _lose(self, generator: Any, how: str) -> None:
        """Let a task that lost its worker rest, or fail; one whose result is there is done."""
        flight = self._flying.pop(generator)
        task = flight.task
        losses = self._losses[task.key] = self._losses.get(task.key, 0) + 1
        if self._store.has(task.key):
            self._schedule.finish(task, time.perf_counter() - flight.since)
        elif losses < self._tries:
            rest = min(REST * 2 ** (losses - 1), LONGEST_REST)
            reason = f"its worker was lost ({how}); it is tried again after {rest:.0f} s"
            heapq.heappush(self._resting, (time.monotonic() + rest, reason, task))
        else:
            self._schedule.fail(
                task,
                f"its worker was lost {losses} times ({how}); give it more memory by --executor-option "
                f"memory=GIGABYTES, or use fewer --jobs, and run again",
            )

    def _wake(self) -> None:
        while self._resting and self._resting[0][0] <= time.monotonic():
            _, reason, task = heapq.heappop(self._resting)
            self._schedule.again(task, reason)


def on_ray(
    schedule: Schedule,
    store: Store,
    runners: Mapping[str, str],
    execution: ExecutionConfig,
    *,
    address: str | None = None,
    gpus: float = 1.0,
    memory: float | None = None,
    tries: int = 5,
    runtime_env: dict[str, Any] | None = None,
) -> None:
    """Carry a schedule out on a Ray cluster; without an address, on one of this machine that lasts as long as the run.

    Args:
        schedule: gives tasks and hears how they ended.
        store: where results are; every machine of the cluster must reach it.
        runners: by kind of task, the runner as `package.module:function`.
        execution: tasks at a time, threads of each (as many cores are kept for it), device.
        address: of the cluster, as "auto" or "10.0.0.1:6379"; that of RAY_ADDRESS, else none.
        gpus: kept for a task where the device is cuda, such as 0.25.
        memory: gigabytes kept for a task.
        tries: how often a task may lose its worker before it has failed.
        runtime_env: what Ray prepares on every machine, in its own words; code that is not installed here is added.

    Raises:
        InputError: when the cluster cannot be joined, or an option cannot be used.
        ClusterError: when the cluster is lost, or cannot run the tasks.
        StoreError: when the store cannot be written, or is another one for a worker.
    """
    ray = extra("ray", "executor 'ray'")
    resources = _resources(execution, gpus, memory)
    if tries < 1:
        raise InputError(f"tries is {tries}, expected at least 1")
    cores = execution.jobs * execution.threads
    with connected(ray, address, cores, runtime_env or {}) as cluster:
        _check_fit(cluster, schedule, resources)
        function = shipped(search_path(), first=cluster.is_own)
        variables = dict.fromkeys(THREAD_VARIABLES, str(execution.threads))
        remote = ray.remote(
            num_returns="streaming",
            max_retries=0,
            num_cpus=resources["CPU"],
            num_gpus=resources.get("GPU", 0),
            memory=resources.get("memory"),
            runtime_env={"env_vars": variables},
        )(function)
        setup = ray.put(setup_for(schedule, store, runners, execution))
        driver = Driver(schedule, store, cluster, setup, remote, execution.jobs, tries)
        try:
            driver.run()
        finally:
            driver.stop()


def shipped(path: list[str], *, first: bool) -> Callable[..., Iterator[list[Word]]]:
    """Return the function that Ray runs for a task.

    It is defined in here so that Ray ships it whole: this package can be imported there once the search path is set.

    Args:
        path: the driver's search path.
        first: whether it goes before the worker's own, as on the driver's own machine.
    """

    def compute(setup: list[Any], key: str) -> Iterator[list[dict[str, Any]]]:
        import sys

        own = [place for place in sys.path if place not in path]
        sys.path[:] = [*path, *own] if first else [*sys.path, *(place for place in path if place not in sys.path)]
        from reticket.experiment.ray_worker import words_of

        yield from words_of(setup[0], key)

    return compute


def _resources(execution: ExecutionConfig, gpus: float, memory: float | None) -> dict[str, float]:
    """Return what is kept for a task, by Ray's names."""
    device = torch.device(execution.device)
    if device.index is not None:
        raise InputError(f"device '{device}' names one GPU, but Ray says which one a task has; use {device.type}")
    for name, value in (("gpus", gpus), ("memory", memory)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"option '{name}' of executor 'ray' is {value}, expected more than 0")
    found = {"CPU": float(execution.threads)}
    found |= {"GPU": gpus} if device.type == "cuda" else {}
    return found | ({"memory": float(round(memory * GIGABYTE))} if memory is not None else {})


def _check_fit(cluster: Cluster, schedule: Schedule, resources: Mapping[str, float]) -> None:
    lack = cluster.lacks(resources)
    if lack and cluster.is_own:
        raise InputError(f"{lack}, which each task takes; ask for less, or name another cluster by --address")
    if lack:
        schedule.notice(schedule.tasks[0], f"{lack}; tasks wait until one joins")


def _how(lost: BaseException, task: Task) -> str:
    """Return in words how a task lost its worker.

    Raises:
        ClusterError: when it will never have one.
    """
    name = type(lost).__name__
    if name in HOPELESS or name.startswith("RayTaskError"):
        raise ClusterError(f"the Ray cluster cannot run '{task.name}': {_last_line(lost)}")
    return HOW.get(name, name)


def _last_line(problem: BaseException) -> str:
    return next((line.strip() for line in reversed(str(problem).splitlines()) if line.strip()), type(problem).__name__)
