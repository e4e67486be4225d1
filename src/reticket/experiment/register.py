"""Which runs need which results of a store, so that what no run needs any more can be told from what one does.

Each run has one small file: where it stands and the keys of its tasks. A run enters itself before it computes anything,
so whatever it puts later is known to be needed.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reticket.errors import StoreError
from reticket.files import reason, replace_file

FORMAT = 1
EARLIER = "earlier"  # a file beside the entries: results were there before any run was entered


def entry_name(run: str) -> str:
    """Return the name of the file of a run.

    >>> entry_name("/runs/a")
    '704e1951db552e57449e008340787233.json'
    """
    return f"{hashlib.sha256(run.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"


def entry_of(run: str, keys: Iterable[str]) -> bytes:
    """Return what stands in the file of a run.

    Args:
        run: its directory, absolute.
        keys: of all its tasks.
    """
    return (json.dumps({"format": FORMAT, "run": run, "keys": sorted(set(keys))}, indent=0) + "\n").encode()


def read_entry(content: bytes, where: str) -> tuple[str, tuple[str, ...]]:
    """Return the run that a file is of, and the keys of its tasks.

    Args:
        content: of the file.
        where: it is, for the error.

    Raises:
        StoreError: when it is damaged: nothing may be taken for unneeded then.
    """
    try:
        entry: Any = json.loads(content)
        if entry["format"] == FORMAT and isinstance(entry["run"], str) and _are_texts(entry["keys"]):
            return entry["run"], tuple(entry["keys"])
        problem = "it is of another format"
    except (ValueError, KeyError, TypeError, RecursionError):
        problem = "it is damaged"
    raise StoreError(
        f"'{where}' does not say what a run needs ({problem}); run that experiment again on this store, which computes "
        f"nothing anew, or remove the file"
    )


class RunRegister:
    """The files of all runs in a folder.

    Args:
        folder: of the files; made when the first run is entered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_whole(self) -> bool:
        """Whether every run that ever used the store was entered, as far as can be told."""
        return self.folder.is_dir() and not (self.folder / EARLIER).exists()

    def enter(self, run: str, keys: Iterable[str], *, has_results: bool) -> None:
        """Note the tasks of a run, in the place of what was noted of it before.

        Args:
            run: its directory, absolute.
            keys: of all its tasks.
            has_results: whether the store holds results just now, which other runs may need if this is the first entry.

        Raises:
            StoreError: when it cannot be written.
        """
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                if has_results:
                    (self.folder / EARLIER).touch()
            replace_file(self.folder / entry_name(run), entry_of(run, keys))
        except OSError as error:
            raise StoreError(
                f"'{self.folder}' cannot be written ({reason(error)}); free space or rights there and run again"
            ) from None

    def runs(self) -> dict[str, tuple[str, ...]]:
        """Return by run the keys of its tasks.

        Raises:
            StoreError: when an entry is damaged or cannot be read.
        """
        try:
            return dict(read_entry(path.read_bytes(), str(path)) for path in sorted(self.folder.glob("*.json")))
        except OSError as error:
            raise StoreError(f"'{self.folder}' cannot be read ({reason(error)})") from None

    def forget(self, run: str) -> None:
        """Strike a run off; its results stay until they are removed.

        Args:
            run: as it was entered.

        Raises:
            StoreError: when it was not, or cannot be removed.
        """
        try:
            (self.folder / entry_name(run)).unlink()
        except OSError as error:
            raise StoreError(f"the run '{run}' cannot be struck off in '{self.folder}' ({reason(error)})") from None


def _are_texts(keys: Any) -> bool:
    return isinstance(keys, list) and all(isinstance(key, str) for key in keys)
