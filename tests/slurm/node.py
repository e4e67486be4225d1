"""A SLURM cluster of this one machine, in a private folder: munged, slurmctld and slurmd, started and stopped.

No systemd, no cgroups, no accounting; a job that is queued again begins after seconds (`cred_expire`), elsewhere after
two minutes. Nothing outside of the folder is touched. It needs root, as slurmd does.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
PATIENCE = 60.0  # seconds until the node is ready
CONFIGURATION = """
ClusterName=reticket
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={control}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
KillWait=15
JobRequeue=1
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return in one sentence what a SLURM cluster cannot be started for here; nothing where it can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if lacking:
        return f"SLURM is not installed ({', '.join(lacking)} not found); apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd has to be started by root; run as root, as in a container"


@contextmanager
def single_node(folder: Path, processors: int = 4) -> Iterator[dict[str, str]]:
    """While active, a cluster of one node runs; gives the environment in which its commands find it.

    Args:
        folder: private, empty.
        processors: that the node says it has.
    """
    ports = _free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder, host=socket.gethostname(), control=ports[0], node=ports[1], processors=processors
        )
    )
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    environment = {
        **os.environ,
        "SLURM_CONF": str(configuration),
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin",
    }
    files = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}", *files]
    with ExitStack() as daemons:
        daemons.enter_context(_daemon(munged, environment))
        _wait(lambda: (folder / "munge.socket").exists(), "munged")
        daemons.enter_context(_daemon(["slurmctld", "-D", "-i"], environment))
        daemons.enter_context(_daemon(["slurmd", "-D"], environment))
        _wait(lambda: _said(["sinfo", "--noheader", "--format=%T"], environment).strip() == "idle", "the node")
        yield environment
        subprocess.run(["scancel", "--user=root"], env=environment, check=False)
        _wait(lambda: not _said(["squeue", "--noheader"], environment).strip(), "the end of all jobs")


@contextmanager
def _daemon(command: Sequence[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(command: Sequence[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def _wait(ready: object, what: str) -> None:
    assert callable(ready)
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was waited for {PATIENCE:.0f} s; the logs beside slurm.conf say why")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as sockets:
        held = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
