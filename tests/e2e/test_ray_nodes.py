"""A Ray cluster of two machines, each a network namespace of this one: one of them is lost in mid-run.

`make test-ray` runs this as root, which namespaces need.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.test_killed import SMALL, TINY, start, without_times

PORT = 6399
SETTINGS = (*SMALL, "dense.epochs=4000", "prune.epochs=2000")  # few tasks, of seconds, to be met under way
LONGER = (str(TINY), *(text for setting in SETTINGS for text in ("--set", setting)))


@dataclass(frozen=True)
class Machine:
    """A network namespace with an address of its own."""

    name: str
    address: str

    def python(self, *words: str) -> list[str]:
        """Return the command that runs a module of Python's in it."""
        return ["ip", "netns", "exec", self.name, sys.executable, "-m", *words]

    def join(self, *options: str) -> None:
        """Start Ray in it."""
        size = ("--num-cpus", "1", "--object-store-memory", "80000000", "--disable-usage-stats")
        command = self.python("ray.scripts.scripts", "start", "--node-ip-address", self.address, *size, *options)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def processes(self) -> dict[int, str]:
        """Return the name of each of its processes."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        names: dict[int, str] = {}
        for pid in map(int, listed.stdout.split()):
            try:
                names[pid] = Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0].strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
        return names

    def computes(self) -> bool:
        """Return whether a task is under way in it."""
        workers = [name for name in self.processes().values() if name.startswith("ray::") and name != "ray::IDLE"]
        return any(not name.endswith("Agent") for name in workers)

    def lose(self) -> None:
        """End all that runs in it, at once."""
        while running := self.processes():
            for pid in running:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Machine]]:
    """Two machines with a cable between them, and a cluster on both."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    cable = secrets.token_hex(3)
    found = [Machine(f"reticket-{cable}-{n}", f"10.{cable_number(cable)}.0.{n + 1}") for n in range(2)]
    try:
        for machine in found:
            ip("netns", "add", machine.name)
            ip("-n", machine.name, "link", "set", "lo", "up")
        ends = [f"rt{cable}{n}" for n in range(2)]
        ip("link", "add", ends[0], "netns", found[0].name, "type", "veth", "peer", ends[1], "netns", found[1].name)
        for machine, end in zip(found, ends, strict=True):
            ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", end)
            ip("-n", machine.name, "link", "set", end, "up")
        found[0].join("--head", "--port", str(PORT), "--include-dashboard", "false")
        found[1].join("--address", f"{found[0].address}:{PORT}")
        yield found
    finally:
        for machine in found:
            machine.lose()
            subprocess.run(["ip", "netns", "del", machine.name], check=False, capture_output=True)


def cable_number(cable: str) -> int:
    return 64 + int(cable, 16) % 128


def begin(machine: Machine, out: Path) -> "subprocess.Popen[str]":
    """Begin the tiny experiment by Ray in a machine."""
    cluster = ("--executor", "ray", "--address", f"{machine.address}:{PORT}", "--jobs", "2")
    command = machine.python("reticket", "run", *LONGER, *cluster, "--out", str(out))
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until_it_computes(machine: Machine, run: "subprocess.Popen[str]", out: Path) -> None:
    """Wait until results are there and a machine is at a task."""
    while not (machine.computes() and len(list(out.glob("store/results/*/*"))) > 1):
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.01)


@pytest.mark.slow
def test_a_machine_lost_in_mid_run_and_then_the_head(tmp_path: Path, machines: list[Machine]) -> None:
    head, other = machines
    run = begin(head, tmp_path / "two")
    until_it_computes(other, run, tmp_path / "two")
    other.lose()
    said = run.communicate()[0]
    assert run.returncode == 0, said
    assert '"worker-lost"' in (tmp_path / "two" / "metrics.jsonl").read_text()
    assert start(tmp_path / "one", *LONGER).returncode == 0
    assert without_times(tmp_path / "two") == without_times(tmp_path / "one")

    again = begin(head, tmp_path / "three")
    until_it_computes(head, again, tmp_path / "three")
    for pid, name in head.processes().items():
        if name.endswith("gcs_server"):
            os.kill(pid, signal.SIGKILL)
    said = again.communicate()[0]
    assert again.returncode == 1, said
    assert (
        f"reticket: the Ray cluster at {head.address}:{PORT} was lost or started anew; what is stored is kept" in said
    )
    assert start(tmp_path / "three", *LONGER).returncode == 0
    assert without_times(tmp_path / "three") == without_times(tmp_path / "one")
