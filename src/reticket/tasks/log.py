"""The events of a run, one line of JSON each; a disk that takes no more of them does not end the run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from reticket.experiment import Event
from reticket.experiment.events import Listener
from reticket.files import check_plain, reason


class Log:
    """Appends events to a file and passes them on.

    Args:
        file: where to append; None for passing on alone.
        tell: is told of each event, and in a notice when the file takes no more.
        path: of the file, for the notice.
    """

    def __init__(self, file: IO[str] | None, tell: Listener, path: Path) -> None:
        self._file, self._tell, self._path = file, tell, path

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        if self._file is not None and event.kind != "progress":  # for the display only: five a second would fill a disk
            try:
                self._file.write(json.dumps(event.to_json()) + "\n")
                self._file.flush()
            except OSError as error:
                self.give_up(error.strerror or str(error))
        self._tell(event)

    def give_up(self, reason: str) -> None:
        """Append no more, and say so once."""
        self._file = None
        text = f"'{self._path}' cannot be written ({reason}); the run goes on without it, results are kept in the store"
        self._tell(Event("notice", label="log", text=text))


@contextmanager
def logged(path: Path, tell: Listener) -> Iterator[Log]:
    """Give a log that appends to `path`, or that passes on alone where the path cannot be written."""
    try:
        check_plain(path)
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        log = Log(None, tell, path)
        log.give_up(reason(error))
        yield log
        return
    try:
        yield Log(file, tell, path)
    finally:
        with suppress(OSError):  # closing writes what a full disk did not take
            file.close()
