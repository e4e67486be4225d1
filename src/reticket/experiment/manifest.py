"""The files of one result in a folder, and the manifest that says what they must be."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from reticket.errors import StoreError
from reticket.experiment.frozen import canonical

FORMAT = 1
MANIFEST, VALUES, TENSORS = "manifest.json", "values.json", "tensors.safetensors"


def problem_of(folder: str | Path, key: str, manifest: dict[str, Any] | None, *, checksums: bool) -> str | None:
    """Return what is wrong with the files of a result, or None."""
    if manifest is None or manifest["key"] != key:
        return f"{MANIFEST} does not hold what it was written with"
    if manifest["format"] != FORMAT:
        raise StoreError(
            f"'{folder}' has format {manifest['format']}, this version reads format {FORMAT}; "
            "update reticket or name another store"
        )
    for name, expected in manifest["files"].items():
        path = f"{folder}/{name}"
        try:
            seen = os.stat(path)
        except FileNotFoundError:
            return f"{name} is missing"
        if not stat.S_ISREG(seen.st_mode):
            return f"{name} is no plain file"
        size = seen.st_size
        if size != expected["bytes"]:
            return f"{name} has {size} bytes, expected {expected['bytes']}"
        if checksums:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    return f"{name} does not match its checksum"
    return None


def manifest_of(key: str, files: Mapping[str, bytes], provenance: dict[str, Any]) -> bytes:
    """Return the manifest of a result: what its files must be, how it came about, and a checksum of its own."""
    manifest = {
        "format": FORMAT,
        "key": key,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "provenance": provenance,
    }
    return pretty({**manifest, "sha256": hashlib.sha256(canonical(manifest)).hexdigest()})


def content_of(path: str | Path) -> bytes:
    """Return the bytes of a plain file; none of a folder, or of a pipe, which would be waited for."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return b""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def parsed_manifest(content: bytes) -> dict[str, Any] | None:
    """Return a manifest that matches its own checksum, else None."""
    try:
        manifest = json.loads(content)
        claimed = manifest.pop("sha256")
        return manifest if hashlib.sha256(canonical(manifest)).hexdigest() == claimed else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def savable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, contiguous, no two in one storage."""
    found: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        saved = tensor.detach().to("cpu").contiguous()
        if saved.untyped_storage().data_ptr() in storages or saved.untyped_storage().nbytes() != saved.nbytes:
            saved = saved.clone()
        storages.add(saved.untyped_storage().data_ptr())
        found[name] = saved
    return found


def pretty(value: dict[str, Any]) -> bytes:
    """Return JSON for people and machines, the same bytes for the same values."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
