"""Tensors in nested tuples, lists and mappings: what batches are made of, and how a model takes its inputs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reticket.errors import InputError


def described(value: object) -> str:
    """Return what a batch is made of, for messages.

    >>> described((torch.zeros(2, 3), "x"))
    'tuple(float32 (2, 3), str)'
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "dict(" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + ")"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}(" + ", ".join(described(item) for item in value) + ")"
    return type(value).__name__


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield every tensor in nested tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for member in fields(value):
            yield from tensors_in(getattr(value, member.name))


def examples_in(inputs: object) -> int:
    """Return the number of examples in a model's inputs: the first axis of the first tensor that has one, else 1."""
    return next((tensor.shape[0] for tensor in tensors_in(inputs) if tensor.dim() > 0), 1)


def parts(inputs: object, size: int) -> Iterator[object]:
    """Cut a model's inputs along the examples; a tensor of another first axis goes with every part.

    >>> [described(part) for part in parts((torch.zeros(5, 3), torch.zeros(2)), 4)]
    ['tuple(float32 (4, 3), float32 (2,))', 'tuple(float32 (1, 3), float32 (2,))']

    Args:
        inputs: a tensor, or tensors in tuples, lists and mappings.
        size: examples in a part, at least 1.
    """
    many = examples_in(inputs)
    if many <= size:
        yield inputs
        return
    for begin in range(0, many, size):
        yield _sliced(inputs, slice(begin, begin + size), many)


def _sliced(value: object, where: slice, many: int) -> object:
    if isinstance(value, Tensor):
        return value[where] if value.dim() > 0 and value.shape[0] == many else value
    if isinstance(value, Mapping):
        return {key: _sliced(item, where, many) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_sliced(item, where, many) for item in value)
    return value


def moved(value: object, device: torch.device) -> object:
    """Return a value whose tensors are all on a device; lists become tuples.

    Args:
        value: a tensor, or tensors in tuples, lists and mappings; anything else stays as it is.
        device: where to.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(moved(item, device) for item in value)
    return value


def inputs_of(batch: object, to_inputs: Callable[[object], object] | None = None) -> object:
    """Return what the model takes of a batch: the first element of a tuple or list, anything else as it is."""
    if to_inputs is not None:
        return to_inputs(batch)
    return batch[0] if isinstance(batch, tuple | list) and batch else batch


def checked_batches(batches: Any, who: str) -> Any:
    """Return batches as they are.

    Args:
        batches: an iterable of batches.
        who: wants them, for the error.

    Raises:
        InputError: when they are no iterable, or one network.

    >>> checked_batches(3, "matching")
    Traceback (most recent call last):
    reticket.errors.InputError: matching needs an iterable of batches, as a list or a DataLoader, got a int
    """
    if not isinstance(batches, Iterable) or isinstance(batches, str | Mapping | nn.Module):
        raise InputError(
            f"{who} needs an iterable of batches, as a list or a DataLoader, got a {type(batches).__name__}"
        )
    return batches


def applied(model: nn.Module, inputs: object) -> object:
    """Return what a model gives for `inputs`.

    Args:
        model: any module.
        inputs: a tensor, a tuple or list of positional inputs, or a mapping of keyword inputs.
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)
