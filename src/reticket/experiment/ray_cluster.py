"""The cluster of Ray's that a run computes on: joined by its address, or started here for as long as the run lasts."""

import os
import signal
import site
import socket
import sys
import sysconfig
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from reticket.errors import InputError, ReticketError

LOCAL = "local"  # Ray's word for a cluster of one's own
OBJECT_STORE = 80_000_000  # bytes: results go through the store of the experiment, little through Ray's
LOOK = 1.0  # seconds between two looks whether the cluster is there
LOOK_FOR_NODES = 10.0  # seconds between two looks which machines are lost
GONE = 15.0  # seconds without its head after which it counts as lost; Ray itself ends the process after 60


class ClusterError(ReticketError):
    """A cluster of Ray's was lost, or cannot run the tasks it is given."""


def search_path() -> list[str]:
    """Return this process's search path in absolute form."""
    return [os.path.abspath(place) for place in sys.path]


def own_code() -> list[str]:
    """Return files and folders of the modules and packages imported by now that no installation has put where they are.

    >>> any(place.endswith(("torch", "json")) for place in own_code())
    False
    """
    installed = _installed_places()
    found: dict[str, None] = {}
    for name, module in list(sys.modules.items()):
        place = _place_of(module) if "." not in name and not name.startswith("__") else None
        if place is not None and not any(place.is_relative_to(one) for one in installed):
            found[str(place)] = None
    return list(found)


def _place_of(module: ModuleType | None) -> Path | None:
    """Return the folder of a package or the file of a module that is Python code; None for anything else."""
    folders = list(getattr(module, "__path__", ()))
    if len(folders) == 1:
        return Path(folders[0]).resolve()
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file and not folders and str(file).endswith(".py") else None


def _installed_places() -> list[Path]:
    """Return where installations put modules: Python's own, and those that list what is installed there."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {*site.getsitepackages(), site.getusersitepackages()}
    places |= {place for place in search_path() if any(Path(place).glob("*.dist-info"))}
    return [Path(place).resolve() for place in places]


class Cluster:
    """A cluster that this process is connected to.

    Args:
        ray: the package.
        address: as it was given; `LOCAL` for one of our own.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self.ray, self.address = ray, address
        context = ray.get_runtime_context()
        own = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
        host, _, port = context.gcs_address.rpartition(":")
        self._head = (host.strip("[]"), int(port))
        self._node = (own["NodeManagerAddress"], own["NodeManagerPort"])
        self._seen = self._looked = self._counted = time.monotonic()
        self._lost = self._lost_by_now()

    @property
    def is_own(self) -> bool:
        """Whether it was started for this run."""
        return self.address == LOCAL

    def lacks(self, resources: Mapping[str, float]) -> str:
        """Return in words what no node of the cluster has now; nothing where one could run a task.

        Args:
            resources: that a task takes, by Ray's names.
        """
        for node in self.ray.nodes():
            if node["Alive"] and all(node["Resources"].get(name, 0.0) >= least for name, least in resources.items()):
                return ""
        wanted = ", ".join(f"{least:g} {name}" for name, least in resources.items() if least)
        return f"no node of the Ray cluster has {wanted}"

    def check(self) -> None:
        """Look now and then whether the cluster is still there, before Ray itself ends this process without a word.

        Raises:
            ClusterError: when its head, or Ray on this machine, is not.
        """
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        if _listens(self._head):
            self._seen = now
        if now - self._seen > GONE or not _listens(self._node):  # the latter never comes back
            raise ClusterError(
                f"the Ray cluster at {self._head[0]}:{self._head[1]} was lost or started anew; what is stored is kept, "
                f"run the same command again when it is there"
            )

    def lost_nodes(self) -> set[str]:
        """Return which machines Ray has given up since this was asked before; looked up now and then.

        Ray itself tells of a task on a machine that no cable leads to any more only after minutes.
        """
        now = time.monotonic()
        if now - self._counted < LOOK_FOR_NODES or not _listens(
            self._head
        ):  # to ask a head that is gone would wait for it
            return set()
        self._counted, before = now, self._lost
        self._lost = self._lost_by_now()
        return self._lost - before

    def _lost_by_now(self) -> set[str]:
        return {node["NodeID"] for node in self.ray.nodes() if not node["Alive"]}


def _listens(place: tuple[str, int]) -> bool:
    """Return whether somebody takes connections at a host and port."""
    try:
        socket.create_connection(place, timeout=LOOK).close()
    except TimeoutError:  # busy, or far
        return True
    except OSError:
        return False
    return True


@contextmanager
def connected(ray: Any, address: str | None, cores: int, runtime_env: Mapping[str, Any]) -> Iterator[Cluster]:
    """While active, this process is connected to a cluster; one of the caller's own program is used as it is.

    Args:
        ray: the package.
        address: of the cluster; None for the one that RAY_ADDRESS names, else one that is started here and stopped.
        cores: of one that is started here.
        runtime_env: for all of the run's workers; code that is not installed is added to it.

    Raises:
        InputError: when the cluster cannot be reached, or does not take what it is given.
    """
    if ray.is_initialized():
        yield Cluster(ray, ray.get_runtime_context().gcs_address)
        return
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    with _signals_kept():
        try:
            _connect(ray, address, cores, dict(runtime_env))
            if _is_main_thread():
                signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's own tells of it at length
            yield Cluster(ray, address)
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str, cores: int, runtime_env: dict[str, Any]) -> None:
    _check_address(address)
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of lost tasks, which the run tells itself
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    else:
        runtime_env["py_modules"] = [*runtime_env.get("py_modules", ()), *own_code()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of Ray's, on its own plans
            ray.init(address=address, runtime_env=runtime_env, **options)
    except (ConnectionError, RuntimeError, TypeError, ValueError, ray.exceptions.RayError) as problem:
        what = "cannot be started here" if address == LOCAL else f"at '{address}' cannot be joined"
        raise InputError(f"the Ray cluster {what} ({_first_line(problem)}); look at ray status") from None


def _check_address(address: str) -> None:
    """Refuse at once what Ray itself tries for minutes."""
    if address.startswith("ray://"):
        raise InputError(
            f"address '{address}' is one of Ray's client, which tasks cannot be followed through; run the command on a "
            f"machine of the cluster, or by ray job submit"
        )
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and not _listens((host.strip("[]"), int(port))):
        raise InputError(
            f"no Ray cluster answers at '{address}'; give the address that ray start --head printed, or none to "
            f"start one"
        )


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back what SIGTERM does, which Ray changes; while connected it ends a run as Ctrl-C does."""
    if not _is_main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _first_line(problem: BaseException) -> str:
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
