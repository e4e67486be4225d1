"""Nested values with tensors in them, such as an optimiser's state, as named tensors alone, and back."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reticket.errors import TrainingError

OUTLINE = "outline"  # the name under which all that is no tensor stands, as the bytes of a JSON text
PLAIN = (bool, int, float, str)


def flattened(value: object) -> dict[str, Tensor]:
    """Return the tensors in a nested value by their place, and besides one tensor of bytes that says all the rest.

    The tensors are those in the value, no copies.

    Args:
        value: tensors, numbers, texts and None in mappings, lists and tuples.

    Raises:
        TrainingError: when there is something else in it.

    >>> found = flattened({"state": {0: {"step": torch.tensor(3.0)}}, "lr": 0.1})
    >>> list(found), rebuilt(found)
    (['state/0/step', 'outline'], {'state': {0: {'step': tensor(3.)}}, 'lr': 0.1})
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_outline(value, "", tensors)).encode()
    return {**tensors, OUTLINE: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def rebuilt(tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `flattened` was given.

    Raises:
        KeyError, ValueError: when these are not its tensors.
    """
    return _value(json.loads(bytes(tensors[OUTLINE].tolist())), tensors)


def _outline(value: object, place: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"tensor": place}
    inside = f"{place}/" if place else ""
    if isinstance(value, Mapping):
        return {"map": [[key, _outline(item, f"{inside}{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_outline(item, f"{inside}{number}", tensors) for number, item in enumerate(value)]}
    raise TrainingError(
        f"the optimiser keeps a {type(value).__name__} in '{place}', which no checkpoint can hold: tensors, numbers, "
        f"texts and None in mappings, lists and tuples can be kept"
    )


def _value(outline: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(outline, Mapping):
        return outline
    ((kind, inside),) = outline.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "map":
        return {key: _value(item, tensors) for key, item in inside}
    items = [_value(item, tensors) for item in inside]
    return tuple(items) if kind == "tuple" else items
