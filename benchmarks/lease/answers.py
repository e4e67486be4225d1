"""What a loan of a GPU has answered so far: one JSON file, whole at every moment."""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SCHEMA = 1


class Cut(BaseException):
    """The loan was ended from outside; no failure of the question under way."""


class Answers:
    """Answers by name, written as soon as they are known; a failure costs its own answer alone.

    Args:
        path: of the file. Answers that it holds already for the same header are kept, errors excepted.
        header: what the answers were found with.
        compared: names of the header's entries that must be the same for earlier answers to count.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], compared: tuple[str, ...] = ()) -> None:
        self._path = path
        self.found: dict[str, Any] = {"schema": SCHEMA, **header, "answers": {}}
        with suppress(OSError, ValueError, AttributeError):
            earlier = json.loads(path.read_text("utf-8"))
            if all(earlier.get(name) == self.found[name] for name in ("schema", *compared)):
                answered = {name: value for name, value in earlier["answers"].items() if _whole(value)}
                self.found["answers"] = answered
        self.write()

    def __contains__(self, name: str) -> bool:
        return name in self.found["answers"]

    def __getitem__(self, name: str) -> Any:
        return self.found["answers"][name]

    def put(self, name: str, value: Any) -> None:
        """Keep an answer, or a better one."""
        self.found["answers"][name] = value
        self.write()

    def ask(self, name: str, question: Callable[[], Any]) -> Any:
        """Return the answer to a question; asked only where none is kept, and an error is an answer too."""
        if name not in self:
            begun = time.monotonic()
            try:
                value = question()
            except Exception as error:  # the other answers are worth having
                value = {"error": f"{type(error).__name__}: {str(error).strip()[:2000]}"}
            self.put(name, value)
            print(f"{name} ({time.monotonic() - begun:.1f} s): {json.dumps(value)[:400]}", flush=True)
        return self[name]

    def write(self) -> None:
        """Write all answers beside the file and rename."""
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        part.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        part.replace(self._path)


def _whole(value: Any) -> bool:
    return not (isinstance(value, dict) and ({"error", "skipped"} & value.keys() or value.get("stopped")))
