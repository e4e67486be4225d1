"""Where jobs run: sent by submitit, seen and ended by the commands of the system, by the name of their board."""

import getpass
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from reticket.errors import InputError
from reticket.experiment.slurm.board import Board
from reticket.experiment.slurm.worker import work
from reticket.experiment.workers import THREAD_VARIABLES, WorkerError
from reticket.extras import extra

UNDER_WAY = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
UNDER_WAY |= {"RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
ANSWER = 60.0  # seconds that a command of SLURM has to answer in
GRACE = 12.0  # seconds that jobs on this machine have to end in
NO_LIMIT = 10**6  # minutes


@dataclass(frozen=True)
class Resources:
    """What a job asks for, named as SLURM names it.

    Args:
        partition, account, qos: of the cluster; its defaults where None.
        time: minutes after which a job ends, and is queued again if there is something left to do.
        mem: memory of a node, as "8G".
        gpus: of a node.
        threads: processors for the job's one task.
        setup: lines of shell before it, as `module load cuda`.
        others: further options of sbatch, by name.
        warning: seconds before the limit at which a job is told to stop.

    Raises:
        InputError: for a time or a number of GPUs that cannot be.
    """

    partition: str | None
    account: str | None
    qos: str | None
    time: int
    mem: str | None
    gpus: int
    threads: int
    setup: Sequence[str]
    others: Mapping[str, Any]
    warning: int

    def __post_init__(self) -> None:
        for name, least in (("time", 1), ("gpus", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    f"option '{name}' of executor 'slurm' is {getattr(self, name)}, expected at least {least}"
                )


class Cluster(ABC):
    """Where the jobs of boards run.

    Args:
        resources: of each job.
    """

    patience: float
    """Seconds between two looks at the queue."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    @abstractmethod
    def submit(self, board: Board, count: int) -> list[str]:
        """Send jobs and return their names.

        Raises:
            WorkerError: when they are refused.
        """

    @abstractmethod
    def states(self, board: Board) -> dict[str, str] | None:
        """Return the state of every job of a board that the queue knows, None where it does not answer."""

    @abstractmethod
    def cancel(self, board: Board, *, waiting: bool = False) -> None:
        """End every job of a board, or those alone that wait in the queue."""

    def _variables(self) -> dict[str, str]:
        """Return what has to stand in the environment of a job before Python begins."""
        path = os.pathsep.join(dict.fromkeys(os.path.abspath(place) for place in sys.path))
        return {"PYTHONPATH": path, **dict.fromkeys(THREAD_VARIABLES, str(self._resources.threads))}


class SlurmCluster(Cluster):
    """The cluster of which this machine can send jobs to."""

    patience = 15.0

    def submit(self, board: Board, count: int) -> list[str]:
        """Send an array of jobs and return their names."""
        executor = extra("submitit", "executor 'slurm'").SlurmExecutor(board.jobs)
        try:
            executor.update_parameters(job_name=board.name, **self._parameters(count))
            return [job.job_id for job in executor.map_array(work, [str(board.folder)] * count)]
        except Exception as error:  # submitit's own, of several kinds
            raise WorkerError(
                f"SLURM took no jobs ({_last_line(error)}); mend --executor-option and run again"
            ) from None

    def states(self, board: Board) -> dict[str, str] | None:
        """Return the state of every job of a board, those that ended a few minutes ago included."""
        command = ["squeue", "--noheader", "--array", "--states=all", "--user", getpass.getuser(), "--name", board.name]
        try:
            said = subprocess.run(
                [*command, "--format=%i|%T"], capture_output=True, text=True, timeout=ANSWER, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return dict(line.strip().split("|", 1) for line in said.stdout.splitlines() if "|" in line)  # type: ignore[misc]

    def cancel(self, board: Board, *, waiting: bool = False) -> None:
        """End every job of a board, or those alone that wait in the queue."""
        with suppress(OSError, subprocess.SubprocessError):
            command = ["scancel", "--user", getpass.getuser(), "--name", board.name]
            command += ["--state=PENDING"] if waiting else []
            subprocess.run(command, capture_output=True, timeout=ANSWER, check=False)

    def _parameters(self, count: int) -> dict[str, Any]:
        one = self._resources
        named = {"partition": one.partition, "account": one.account, "qos": one.qos, "mem": one.mem}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self._variables().items()]
        return {
            **{key: value for key, value in named.items() if value is not None},
            **({"gpus_per_node": one.gpus} if one.gpus else {}),
            "time": one.time,
            "cpus_per_task": one.threads,
            "srun_args": [f"--cpus-per-task={one.threads}"],  # srun does not take it over from sbatch
            "setup": [*one.setup, *exports],
            "signal_delay_s": one.warning,
            "stderr_to_stdout": True,
            "array_parallelism": count,
            "additional_parameters": {
                "requeue": True,
                **{key: value for key, value in one.others.items() if value is not False},
            },
        }


class LocalCluster(Cluster):
    """This machine in the place of a cluster: the same jobs, as processes that submitit watches over."""

    patience = 1.0

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self._sent: list[Any] = []

    def submit(self, board: Board, count: int) -> list[str]:
        """Start processes and return the names of their jobs."""
        one = self._resources
        executor = extra("submitit", "executor 'slurm'").LocalExecutor(board.jobs)
        executor.update_parameters(
            timeout_min=one.time, signal_delay_s=one.warning, gpus_per_node=one.gpus, stderr_to_stdout=True
        )
        with _environment(self._variables()), _untouched_by_keys():
            jobs = executor.map_array(work, [str(board.folder)] * count)
        self._sent += jobs
        return [job.job_id for job in jobs]

    def states(self, board: Board) -> dict[str, str] | None:
        """Return which jobs of a board have a process."""
        for job in self._sent:
            job.done()  # whoever started a process has to take note of its end
        return {str(number): "RUNNING" for number, words in _processes(board) if "submitit.local._local" in words}

    def cancel(self, board: Board, *, waiting: bool = False) -> None:
        """End every job of a board: asked first, then made to; none of them waits."""
        if waiting:
            return
        deadline = time.monotonic() + GRACE
        for job in self.states(board) or {}:
            with suppress(OSError):
                os.kill(int(job), signal.SIGTERM)  # passed on to the job's process
        while self.states(board) and time.monotonic() < deadline:
            time.sleep(0.05)
        for number, _ in _processes(board):
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
        for job in self._sent:
            job._process.wait()


def cluster_named(name: str, resources: Resources) -> Cluster:
    """Return the cluster of a name.

    Args:
        name: "slurm", "local", or "auto" for SLURM, which must be there.
        resources: of each job.

    Raises:
        InputError: where there is no SLURM.
    """
    if name == "local":
        return LocalCluster(resources)
    if shutil.which("sbatch") is None:
        raise InputError(
            "executor 'slurm' finds no sbatch on this machine; run it where jobs are sent from, or on this machine "
            "alone with --executor-option cluster=local"
        )
    return SlurmCluster(resources)


def _processes(board: Board) -> Iterator[tuple[int, str]]:
    """Yield number and words of the processes that work on a board."""
    said = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    for line in said.stdout.splitlines():
        number, _, words = line.strip().partition(" ")
        if str(board.jobs) in words:
            yield int(number), words


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """While active, processes that are started have these variables."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _untouched_by_keys() -> Iterator[None]:
    """While active, processes that are started do not hear of Ctrl-C, which reaches all that a terminal shows."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
