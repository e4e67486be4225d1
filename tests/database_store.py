"""A store of results that is no folder, in a database of one file: the second member that the seat is proven by."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from reticket.experiment import MissingResult, Output, Result

TABLE = "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, content TEXT, tensors BLOB)"


class DatabaseStore:
    """Results as rows of a SQLite table; checkpoints stay in a temporary folder and do not outlive a process."""

    def __init__(self, file: str) -> None:
        self.file = file
        with self._open() as table:
            table.execute(TABLE)

    @property
    def address(self) -> Mapping[str, Any]:
        return {"store": "database_store:DatabaseStore", "file": self.file}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.file, timeout=600)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def has(self, key: str) -> bool:
        with self._open() as table:
            return table.execute("SELECT 1 FROM results WHERE key = ?", [key]).fetchone() is not None

    verify = has

    def get(self, key: str) -> Result:
        with self._open() as table:
            row = table.execute("SELECT content, tensors FROM results WHERE key = ?", [key]).fetchone()
        if row is None:
            raise MissingResult(f"the database '{self.file}' holds no result {key[:16]}; run the experiment first")
        content = json.loads(row[0])
        return Result(key, content["values"], content["provenance"], load(row[1]))

    def put(self, key: str, output: Output, provenance: Mapping[str, Any], *, durable: bool = True) -> bool:
        content = json.dumps({"values": dict(output.values), "provenance": dict(provenance)}, default=dict)
        with self._open() as table:
            sql = "INSERT OR IGNORE INTO results VALUES (?, ?, ?)"
            return table.execute(sql, [key, content, save(dict(output.tensors))]).rowcount == 1

    def scratch(self, key: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=key[:16]))

    @contextmanager
    def claim(self, key: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=key[:16]) as folder:
            yield Path(folder)

    def claimed(self, key: str) -> bool:
        return False
