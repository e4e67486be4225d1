"""What the store gives back: values at once, tensors one by one and only when asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file as a read-only mapping; each is mapped into memory when it is first read.

    Args:
        path: the file, or None for no tensors at all.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @cached_property
    def _file(self) -> Any:
        return safe_open(self._path, framework="pt", device="cpu") if self._path is not None else None

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(self._file.keys())) if self._file is not None else ()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(f"no tensor '{name}' in '{self._path}'; it has {', '.join(self._names) or 'none'}")
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


@dataclass(frozen=True, eq=False)
class Result:
    """A stored result.

    Args:
        key: the key of the task it belongs to.
        values: what the runner gave as JSON.
        provenance: how it came about: seconds, device, threads, versions, the task's own fields. It decides nothing.
        tensors: the runner's tensors, read lazily.
    """

    key: str
    values: Mapping[str, Any]
    provenance: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
