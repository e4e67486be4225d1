"""Which runs need which results of a store, so that what no run needs any more can be told from what one does."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reticket.errors import StoreError
from reticket.files import reason, replace_file

FORMAT = 1
EARLIER = "earlier"  # a file beside the entries: results were there before any run was entered


class RunRegister:
    """A folder with one small file for each run: where it stands and the keys of its tasks.

    A run enters itself before it computes anything, so whatever it puts later is known to be needed.

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
        content = {"format": FORMAT, "run": run, "keys": sorted(set(keys))}
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                if has_results:
                    (self.folder / EARLIER).touch()
            replace_file(self._path(run), (json.dumps(content, indent=0) + "\n").encode())
        except OSError as error:
            raise StoreError(
                f"'{self.folder}' cannot be written ({reason(error)}); free space or rights there and run again"
            ) from None

    def runs(self) -> dict[str, tuple[str, ...]]:
        """Return by run the keys of its tasks.

        Raises:
            StoreError: when an entry is damaged: nothing may be taken for unneeded then.
        """
        found = (self._read(path) for path in sorted(self.folder.glob("*.json")))
        return {entry["run"]: tuple(entry["keys"]) for entry in found}

    def forget(self, run: str) -> None:
        """Strike a run off; its results stay until they are removed.

        Args:
            run: as it was entered.

        Raises:
            StoreError: when it was not, or cannot be removed.
        """
        try:
            self._path(run).unlink()
        except OSError as error:
            raise StoreError(f"the run '{run}' cannot be struck off in '{self.folder}' ({reason(error)})") from None

    def _path(self, run: str) -> Path:
        return self.folder / f"{hashlib.sha256(run.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            entry = json.loads(path.read_bytes())
            if entry["format"] == FORMAT and isinstance(entry["run"], str) and _are_texts(entry["keys"]):
                return entry
            problem = "it is of another format"
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            problem = reason(error) if isinstance(error, OSError) else "it is damaged"
        raise StoreError(
            f"'{path}' does not say what a run needs ({problem}); run that experiment again on this store, which "
            f"computes nothing anew, or remove the file"
        )


def _are_texts(keys: Any) -> bool:
    return isinstance(keys, list) and all(isinstance(key, str) for key in keys)
