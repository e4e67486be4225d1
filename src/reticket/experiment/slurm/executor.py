"""The executor `slurm`: its options, and whether jobs that are under way do what is to be done already."""

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from reticket.experiment.execution import ExecutionConfig
from reticket.experiment.schedule import Schedule
from reticket.experiment.serving import setup_for
from reticket.experiment.slurm.board import Board
from reticket.experiment.slurm.clusters import UNDER_WAY, Cluster, LocalCluster, Resources, cluster_named
from reticket.experiment.slurm.driver import Driver
from reticket.experiment.store import Store

PLACE = "slurm"  # beside the checkpoints of tasks
WARNING = 120  # seconds before a job's limit at which it is told to stop


def slurm(
    schedule: Schedule,
    store: Store,
    runners: Mapping[str, str],
    execution: ExecutionConfig,
    *,
    cluster: Literal["auto", "slurm", "local"] = "auto",
    partition: str | None = None,
    account: str | None = None,
    qos: str | None = None,
    time: int = 240,
    mem: str | None = None,
    gpus: int | None = None,
    setup: Sequence[str] = (),
    sbatch: Mapping[str, str | int | bool] = {},
    idle: int | float = 60.0,
) -> None:
    """Carry a schedule out in up to `execution.jobs` jobs of a SLURM cluster at a time.

    Args:
        schedule: gives tasks and hears how they ended.
        store: where results are, on a file system that all nodes share.
        runners: by kind of task, the runner as `package.module:function`.
        execution: jobs at a time, threads of each, device.
        cluster: "slurm", or "local" for the same as processes of this machine; "auto" is SLURM.
        partition, account, qos: of the cluster.
        time: minutes after which a job ends; it is queued again where something is left to do.
        mem: memory of a job, as "8G".
        gpus: of a job; one on a device that is a GPU, else none.
        setup: lines of shell that a job begins with, as `module load cuda`.
        sbatch: further options of sbatch, by name.
        idle: seconds for which a job waits while others do all that may start; then it makes room.

    Raises:
        InputError: where there is no SLURM.
        WorkerError: when jobs are refused, or cannot start.
        StoreError: when the store cannot be written.
    """
    if gpus is None:
        gpus = int(torch.device(execution.device).type == "cuda")
    resources = Resources(
        partition, account, qos, time, mem, gpus, execution.threads, setup, sbatch, min(WARNING, 15 * time)
    )
    place = cluster_named(cluster, resources)
    board = _board(
        schedule, store.scratch(PLACE), place, {**setup_for(schedule, store, runners, execution), "idle": idle}
    )
    try:
        driver = Driver(schedule, store, board, place, execution.jobs)
        driver.run()
        driver.part()
    finally:
        place.cancel(board)
    if not schedule.failed:
        board.remove()


def _board(schedule: Schedule, folder: Path, cluster: Cluster, setup: Mapping[str, Any]) -> Board:
    """Return the board of jobs under way that do all that is to be done, or a new one."""
    wanted = {task.key for task in schedule.tasks}
    where = socket.gethostname() if isinstance(cluster, LocalCluster) else ""
    for board in Board.all_of(folder):
        known = board.setup()
        if known["where"] != where or not wanted <= {key for keys in known["stages"] for key in keys}:
            continue
        states = cluster.states(board)
        if states is None:
            continue
        if UNDER_WAY.intersection(states.values()):
            schedule.announce("slurm", f"jobs called {board.name} are under way; listening to them")
            return board
        board.remove()  # of an earlier run of the same, of which nothing is left
    numbers = sorted({schedule.plan.stage[task.key] for task in schedule.tasks})
    stages = [[task.key for task in schedule.tasks if schedule.plan.stage[task.key] == one] for one in numbers]
    return Board.made(folder, {**setup, "where": where, "stages": stages})
