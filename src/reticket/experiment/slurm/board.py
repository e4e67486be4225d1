"""The folder that the jobs of a run share, and its driver with them; every file has one writer.

setup.json            what is to be computed, and with what; written once
taken/KEY             a link to the name of the job that is at this task
failed/KEY.json       a task that failed, so that no other job tries it
journal/JOB.jsonl     what a job says, one message a line
jobs/                 logs, and what submitit keeps; its owner's alone, since submitit unpickles what lies there
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticket.errors import StoreError
from reticket.files import reason, replace_file

SETUP = "setup.json"


@dataclass(frozen=True)
class Failure:
    """How a task failed.

    Args:
        error: in one sentence.
        traceback: of it.
    """

    error: str
    traceback: str = ""


@dataclass(frozen=True)
class Board:
    """One run's folder.

    Args:
        folder: of which the name is that of its jobs, too.
    """

    folder: Path

    @classmethod
    def made(cls, place: Path, setup: Mapping[str, Any]) -> "Board":
        """Return a new board in a folder of boards.

        Raises:
            StoreError: when the folder cannot be written.
        """
        board = cls(place / f"reticket-{uuid.uuid4().hex[:8]}")
        try:
            for name in ("taken", "failed", "stopped", "journal"):
                (board.folder / name).mkdir(parents=True)
            board.jobs.mkdir(mode=0o700)
            replace_file(board.folder / SETUP, json.dumps(setup).encode())
        except OSError as error:
            raise StoreError(
                f"'{place}', where jobs and their logs go, cannot be written ({reason(error)}); use a store of your own"
            ) from None
        return board

    @classmethod
    def all_of(cls, place: Path) -> Iterator["Board"]:
        """Yield the boards in a folder that are this user's own."""
        for folder in sorted(place.glob("reticket-*")):
            with suppress(OSError):
                if folder.stat().st_uid == os.getuid() and (folder / SETUP).is_file():
                    yield cls(folder)

    @property
    def name(self) -> str:
        """What its jobs are called in the queue."""
        return self.folder.name

    @property
    def jobs(self) -> Path:
        """Where logs are."""
        return self.folder / "jobs"

    def log_of(self, job: str) -> Path:
        """Return the file of what a job printed."""
        return self.jobs / f"{job}_0_log.out"

    def setup(self) -> dict[str, Any]:
        """Return what is to be computed, and with what."""
        return json.loads((self.folder / SETUP).read_text("utf-8"))

    def remove(self) -> None:
        """Remove all of it, and the folder of boards with its last one."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    # ---------------------------------------------------------------- who is at what

    def take(self, key: str, job: str) -> bool:
        """Take a task for a job; False where another has it."""
        try:
            os.symlink(job, self.folder / "taken" / key)
        except FileExistsError:
            return False
        return True

    def taken(self, key: str) -> bool:
        """Return whether a job is at a task."""
        return os.path.lexists(self.folder / "taken" / key)

    def release(self, key: str, job: str) -> None:
        """Give a task back that a job has taken."""
        link = self.folder / "taken" / key
        with suppress(FileNotFoundError):
            if os.readlink(link) == job:
                link.unlink()

    def release_all(self, job: str) -> None:
        """Give back whatever a job that is gone had taken."""
        for key in os.listdir(self.folder / "taken"):
            self.release(key, job)

    # ---------------------------------------------------------------- what failed

    def fail(self, key: str, failure: Failure) -> None:
        """Let no job try a task again."""
        content = {"error": failure.error, "traceback": failure.traceback}
        replace_file(self.folder / "failed" / f"{key}.json", json.dumps(content).encode())

    def failure(self, key: str) -> Failure | None:
        """Return how a task failed; None for one that did not."""
        try:
            return Failure(**json.loads((self.folder / "failed" / f"{key}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def note_reached(self, key: str, fraction: float) -> None:
        """Note how far a task is when the time of its job ends."""
        replace_file(self.folder / "stopped" / f"{key}.json", json.dumps(fraction).encode())

    def reached(self, key: str) -> float | None:
        """Return how far a task was when the time of a job ended with it; None where that was never so."""
        try:
            return json.loads((self.folder / "stopped" / f"{key}.json").read_bytes())
        except FileNotFoundError:
            return None

    # ---------------------------------------------------------------- what jobs say

    def say(self, job: str, message: Mapping[str, Any]) -> None:
        """Add a line to a job's journal; it is read when it is whole."""
        with (self.folder / "journal" / f"{job}.jsonl").open("ab", buffering=0) as file:
            file.write(json.dumps(message).encode() + b"\n")

    def speakers(self) -> list[str]:
        """Return the jobs that have said something."""
        return sorted(name.removesuffix(".jsonl") for name in os.listdir(self.folder / "journal"))

    def heard(self, job: str, start: int) -> tuple[list[dict[str, Any]], int]:
        """Return what a job has said.

        Args:
            job: its name.
            start: byte of its journal up to which it was heard before; a first time 0.

        Returns:
            The messages since, and the byte up to which they go.
        """
        try:
            with (self.folder / "journal" / f"{job}.jsonl").open("rb") as file:
                file.seek(start)
                content = file.read()
        except FileNotFoundError:
            return [], start
        whole = content[: content.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()], start + len(whole)
