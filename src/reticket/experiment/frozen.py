"""Values of JSON, checked, frozen, and written as the one text that keys and checksums are made of."""

import json
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from reticket.errors import InputError

_SCALARS = frozenset((str, int, bool, type(None)))  # that are as they must be
_WRITER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain(value: Any, where: str) -> Any:
    """Return `value` as new dicts, lists, str, int, float, bool and None, and nothing else.

    Args:
        value: mappings with text keys, lists, tuples and JSON scalars, nested.
        where: what the value is, for the error.

    Raises:
        InputError: for NaN, infinities and what JSON cannot say.

    >>> plain({"lr": 0.1, "shape": (2, 3)}, "spec")
    {'lr': 0.1, 'shape': [2, 3]}
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{where} is {value}, which JSON cannot hold; give a finite number or null")
        return float(value)
    if isinstance(value, list | tuple):
        return [
            item if type(item) in _SCALARS else plain(item, f"{where}[{position}]")
            for position, item in enumerate(value)
        ]
    if isinstance(value, Mapping):
        _check_keys(value, where)
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    raise InputError(
        f"{where} is of type {type(value).__name__}, which JSON cannot hold; use text, numbers, booleans, lists, dicts"
    )


def frozen(value: Any) -> Any:
    """Return plain JSON with every dict read-only and every list a tuple."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def canonical(value: Any) -> bytes:
    """Return plain JSON as its one canonical text: sorted keys, no spaces, ASCII, floats by `repr`.

    >>> canonical({"b": 1e-3, "a": [1, 1.0, None]})
    b'{"a":[1,1.0,null],"b":0.001}'
    """
    return _WRITER.encode(value).encode()


def written(value: Any) -> str:
    """Return the text of `canonical`; of what most of a task is made, without setting an encoder up.

    >>> written(["B", 3, "order"])
    '["B",3,"order"]'
    """
    if type(value) is int:
        return repr(value)
    if type(value) is list:
        return f"[{','.join([written(item) for item in value])}]"
    return _WRITER.encode(value)


class SharedSpec(Mapping[str, Any]):
    """A part of the specs of many tasks, such as their model: checked, frozen and written once for all of them.

    Args:
        values: nested JSON.
        where: what it is, for the error.

    Raises:
        InputError: for NaN, infinities and what JSON cannot say.

    >>> model = SharedSpec({"name": "mlp", "params": {"hidden": [300, 100]}}, "model")
    >>> model["params"]["hidden"], model.text
    ((300, 100), '{"name":"mlp","params":{"hidden":[300,100]}}')
    """

    __slots__ = ("_values", "text")

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self.text = frozen_and_written(values, where)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self._values))


def frozen_and_written(values: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    """Return an object of JSON frozen deeply, and its canonical text; of what is shared both are there already.

    Args:
        values: nested JSON, in which a `SharedSpec` may stand.
        where: what it is, for the error.

    Raises:
        InputError: for NaN, infinities and what JSON cannot say.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is of type {type(values).__name__}, expected a dict")
    _check_keys(values, where)
    kept: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for key, item in values.items():
        if type(item) is SharedSpec:
            kept[key], texts[key] = item, item.text
        elif type(item) in _SCALARS:
            kept[key], texts[key] = item, written(item)
        else:
            checked = plain(item, f"{where}.{key}")
            kept[key], texts[key] = frozen(checked), written(checked)
    return MappingProxyType(kept), f"{{{','.join([f'{written(key)}:{texts[key]}' for key in sorted(texts)])}}}"


def text_of(value: Any) -> str:
    """Return a value of a spec as its canonical text."""
    return value.text if isinstance(value, SharedSpec) else written(plain(value, "spec"))


def _check_keys(values: Mapping[Any, Any], where: str) -> None:
    for key in values:
        if not isinstance(key, str):
            raise InputError(f"{where} has the key {key!r}, but keys must be text; write it as a string")
