"""Leaving no trace: whatever a model writes to while it runs for us is put back as it was, whether the run succeeds.

Kept are the values of all tensors that the model reaches, the attributes and classes of its modules and helper objects,
containers, closures, class attributes and globals, tensors under `lru_cache`, random number states, the default dtype
and the default device.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from operator import eq, is_
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reticket.rng import global_generators
from reticket.symmetry.caches import caches_apart
from reticket.symmetry.reach import ABSENT, Container, Reach, content_of, slots_of, watchers

_values: ContextVar[dict[int, "_Value"] | None] = ContextVar("values", default=None)
_unchanged: ContextVar["Kept | None"] = ContextVar("unchanged", default=None)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back, on leaving, everything that the model reaches, and the random number states.

    The global random generators are held meanwhile, see `reticket.rng.global_generators`.
    """
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with global_generators(devices), host_generators(), kept(model):
        yield


@contextmanager
def host_generators() -> Iterator[None]:
    """Put back, on leaving, the global generators of Python and numpy, from which some models draw."""
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002


@contextmanager
def kept(*models: nn.Module, watched: bool = False, still: bool = False) -> Iterator[None]:
    """Put back, on leaving, everything that models reach; blocks inside one another share the copies of values.

    Random number states are left to `untouched`: batches may be read in this block.

    Args:
        models: the models.
        watched: leave alone what plain functions collect that the caller hooked to the models.
        still: the block changes nothing but in blocks like this one inside it, which need not look at everything anew.
    """
    outer, state = _values.get(), _unchanged.get()
    with ExitStack() as exits:
        exits.enter_context(caches_apart())
        exits.callback(torch.set_default_dtype, torch.get_default_dtype())
        exits.callback(_set_device, _device_set())
        if state is None or watched or state.models != models:
            state = Kept(models, known=outer or {}, left=watchers(models) if watched else ())
        exits.callback(state.restore)
        token = _values.set({**(outer or {}), **state.values})
        exits.callback(_values.reset, token)
        exits.callback(_unchanged.reset, _unchanged.set(state if still else None))
        yield


def _device_set() -> torch.device | None:
    """Return the default device that was set by `torch.set_default_device`, not by a block, or None."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _set_device(device: torch.device | None) -> None:
    if _device_set() != device:
        torch.set_default_device(device)


@dataclass(frozen=True, eq=False)
class _Value:
    """A tensor as it was.

    Args:
        tensor: the tensor.
        alias: shares its memory; None for a tensor without memory yet.
        copy: its values; None where they are not kept.
        version: counts writes; 0 where nobody counts.
        settings: `requires_grad` and `grad`, for a leaf.
    """

    tensor: Tensor
    alias: Tensor | None
    copy: Tensor | None
    version: int
    settings: tuple[bool, Tensor | None] | None

    @classmethod
    def of(cls, tensor: Tensor, copied: bool) -> "_Value":
        leaf = tensor.is_leaf and not tensor.is_inference()
        settings = (tensor.requires_grad, tensor.grad) if leaf else None
        if is_lazy(tensor):
            return cls(tensor, None, None, 0, settings)
        alias = tensor.detach()
        held = copied and not tensor.is_meta
        return cls(tensor, alias, alias.clone() if held else None, _version(tensor), settings)

    def restore(self) -> None:
        """Put memory, values and settings back where they changed."""
        tensor, alias = self.tensor, self.alias
        if alias is None:
            if not is_lazy(tensor) and tensor.numel():
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        elif not _in_place_of(tensor, alias):
            tensor.data = alias
        if self.settings is not None:
            wants, gradient = self.settings
            if tensor.requires_grad != wants and tensor.is_leaf:
                tensor.requires_grad_(wants)
            if tensor.is_leaf and tensor.grad is not gradient:
                tensor.grad = gradient
        if alias is not None and self.copy is not None and self._was_written(alias):
            with torch.inference_mode(alias.is_inference()):
                alias.copy_(self.copy)

    def _was_written(self, alias: Tensor) -> bool:
        assert self.copy is not None
        if _version(self.tensor) != self.version:
            return True  # BatchNorm and writes through `.data` do not count: values are compared as well
        return alias.layout is torch.strided and not alias.is_nested and not same_bits(alias, self.copy)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape and dtype hold the same values, NaN like NaN."""
    if torch.equal(a, b):
        return True
    return a.dtype.is_floating_point and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _in_place_of(tensor: Tensor, alias: Tensor) -> bool:
    """Whether a tensor still lies in the memory that it lay in."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
        return True
    same = (tensor.dtype, tensor.shape) == (alias.dtype, alias.shape) and tensor.stride() == alias.stride()
    return same and tensor.device == alias.device and tensor.data_ptr() == alias.data_ptr()


class Kept:
    """What models reach, as it was when this was made; `restore` may be called any number of times.

    Args:
        models: the models.
        known: values that a block around this one keeps already.
        but: tensors whose values need not be kept.
        left: what is not followed at all.
    """

    def __init__(
        self,
        models: Iterable[nn.Module],
        *,
        known: dict[int, _Value] | None = None,
        but: Iterable[Tensor] = (),
        left: Iterable[Any] = (),
    ) -> None:
        self.models = tuple(models)
        reach, known, left_out = Reach(self.models, but=left), known or {}, {id(tensor) for tensor in but}
        self.values = {
            id(t): known[id(t)] if id(t) in known else _Value.of(t, id(t) not in left_out) for t in reach.tensors
        }
        self._objects = [(item, type(item), _attributes(item)) for item in reach.objects]
        self._containers = [(item, _content(item)) for item in reach.containers]
        self._classes = [(kind, dict(vars(kind))) for kind in reach.classes]
        self._globals = [(space, name, space.get(name, ABSENT)) for space, name in reach.globals.values()]
        self._cells = [(cell, content_of(cell)) for cell in reach.cells]
        self._arrays = [(array, array.copy()) for array in reach.arrays if array.flags.writeable]
        self._generators = [(generator, _state_of(generator)) for generator in reach.generators]

    def restore(self) -> None:
        """Put everything back that is not as it was."""
        for item, kind, attributes in self._objects:
            _restore_object(item, kind, attributes)
        for kind, attributes in self._classes:
            _restore_class(kind, attributes)
        for namespace, name, value in self._globals:
            _restore_global(namespace, name, value)
        for cell, content in self._cells:
            if content is not ABSENT and content_of(cell) is not content:
                cell.cell_contents = content
        for container, content in self._containers:
            _restore_container(container, *content)
        with torch.no_grad():
            for value in self.values.values():
                value.restore()
        for array, copy in self._arrays:
            np.copyto(array, copy)
        for generator, state in self._generators:
            _set_state(generator, state)


def _attributes(item: Any) -> dict[str, Any]:
    return {**getattr(item, "__dict__", {}), **{slot: getattr(item, slot) for slot in slots_of(item)}}


def _restore_object(item: Any, kind: type, attributes: dict[str, Any]) -> None:
    if type(item) is not kind:
        object.__setattr__(item, "__class__", kind)
    own = getattr(item, "__dict__", None)
    now = own if own is not None and not slots_of(item) else _attributes(item)
    if _identical(now, attributes):
        return
    if own is not None:
        slots = frozenset(now) - frozenset(own)
        own.clear()
        own.update({name: value for name, value in attributes.items() if name not in slots})
    now = _attributes(item)
    for name in [name for name in now if name not in attributes]:
        object.__delattr__(item, name)
    for name in [name for name in attributes if now.get(name, ABSENT) is not attributes[name]]:
        object.__setattr__(item, name, attributes[name])


def _identical(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    if len(now) != len(before):
        return False
    if all(map(is_, now.values(), before.values())) and all(map(eq, now, before)):  # the rule, at the speed of C
        return True
    return all(now.get(key, ABSENT) is value for key, value in before.items())


def _restore_class(kind: type, attributes: dict[str, Any]) -> None:
    now = vars(kind)
    if _identical(dict(now), attributes):
        return
    for name in [name for name in now if name not in attributes and not name.startswith("__")]:
        type.__delattr__(kind, name)
    for name, value in attributes.items():
        if now.get(name, ABSENT) is not value and not name.startswith("__"):
            type.__setattr__(kind, name, value)


def _restore_global(namespace: Any, name: str, value: Any) -> None:
    """Put a global back, unless it was imported or defined meanwhile."""
    now = namespace.get(name, ABSENT)
    if now is value or isinstance(now, ModuleType | FunctionType | type):
        return
    if value is ABSENT:
        del namespace[name]
    else:
        namespace[name] = value


def _content(item: Container) -> tuple[list[Any], list[Any]]:
    """Return keys and values of a dict; the values alone of another container."""
    return (list(item), list(item.values())) if isinstance(item, dict) else ([], list(item))


def _restore_container(item: Container, keys: list[Any], values: list[Any]) -> None:
    if not values and not item:  # most of them: the hooks that no module has
        return
    same = len(item) == len(values) and all(map(is_, item.values() if isinstance(item, dict) else item, values))
    if same and (not isinstance(item, dict) or all(map(is_, item, keys))):
        return
    content = list(zip(keys, values, strict=True)) if isinstance(item, dict) else values
    base = next(kind for kind in (OrderedDict, dict, list, set, deque) if isinstance(item, kind))
    base.clear(item)  # type: ignore[arg-type]
    (base.extend if base in (list, deque) else base.update)(item, content)  # type: ignore[attr-defined]


def _state_of(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.bit_generator.state


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator | np.random.RandomState):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state
