"""What a model can write to when it runs: everything that its modules, hooks and functions reach.

From the model on, attributes, containers, closures, classes and the globals that its functions name are followed; of
the functions of classes those that any of them calls by name, from `forward` on.
What belongs to torch, numpy, pytest or Python itself is not, but for containers, modules, random generators and arrays.
"""

import functools
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator, MutableMapping
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

ABSENT = object()
CHECKING = ("jaxtyping", "beartype", "pytest", "_pytest", "pluggy")  # an `assert` that pytest rewrote names its session
FOREIGN = frozenset([*sys.stdlib_module_names, "torch", "numpy", "reticket", "sympy", *CHECKING]) - {"__main__"}
ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
METHODS = (FunctionType, staticmethod, classmethod, property, functools.cached_property, functools._lru_cache_wrapper)
UNUSED = ("__init__", "__new__", "__repr__", "__str__", "__init_subclass__", "__del__")  # by a run
CONTAINERS = (dict, list, set, deque)
GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
OPENED = (Tensor, nn.Module, WeakKeyDictionary, WeakValueDictionary)
Container: TypeAlias = dict[Any, Any] | list[Any] | set[Any] | deque[Any]


def is_foreign(name: object) -> bool:
    """Whether a module of this name belongs to torch, numpy or Python."""
    return isinstance(name, str) and _is_foreign(name)


@functools.cache
def _is_foreign(name: str) -> bool:
    return name.partition(".")[0] in FOREIGN


class Reach:
    """Everything that is reached from some values, each once.

    Args:
        roots: models, or anything else.
        but: values that are not followed.
    """

    def __init__(self, roots: Iterable[Any], *, but: Iterable[Any] = ()) -> None:
        self.tensors: list[Tensor] = []
        self.objects: list[Any] = []
        self.containers: list[Container] = []
        self.arrays: list[np.ndarray] = []
        self.generators: list[Any] = []
        self.cells: list[CellType] = []
        self.classes: list[type] = []
        self.globals: dict[tuple[int, str], tuple[MutableMapping[str, Any], str]] = {}
        self._names = {"forward"}  # that functions use: of a class, only methods of these names can be called
        self._waiting: dict[str, list[Any]] = {}
        self._seen: dict[int, Any] = {id(item): item for item in but}
        self._open = list(roots)
        while self._open:
            item = self._open.pop()
            if not issubclass(type(item), ATOMS) and id(item) not in self._seen:
                self._seen[id(item)] = item  # kept, so that its id stays its own
                self._open.extend(self._visit(item))

    def _visit(self, item: Any) -> Iterator[Any]:
        """Sort one value in and yield what it leads to."""
        kind = type(item)  # not `isinstance`, which asks the value: some warn about being asked
        if issubclass(kind, Tensor):
            self.tensors.append(item)
        elif issubclass(kind, type):
            yield from self._class(item)
        elif issubclass(kind, FunctionType):
            yield from self._function(item)
        elif issubclass(kind, CONTAINERS):
            self.containers.append(item)
            yield from item.values() if isinstance(item, dict) else item
        elif issubclass(kind, np.ndarray):
            self.arrays.append(item)
        elif issubclass(kind, GENERATORS):
            self.generators.append(item)
        else:
            yield from _parts(item)
        if issubclass(kind, OPENED) or not is_foreign(kind.__module__):
            yield kind
            yield from self._object(item)

    def _object(self, item: Any) -> Iterator[Any]:
        if isinstance(item, type | ModuleType | FunctionType) or not (hasattr(item, "__dict__") or slots_of(item)):
            return
        self.objects.append(item)
        yield from getattr(item, "__dict__", {}).values()
        yield from (getattr(item, slot) for slot in slots_of(item))

    def _class(self, kind: type) -> Iterator[Any]:
        for base in kind.__mro__:
            if is_foreign(base.__module__) or (base is not kind and id(base) in self._seen):
                continue
            self._seen[id(base)] = base
            self.classes.append(base)
            for name, value in list(vars(base).items()):
                if name in UNUSED or (name.startswith("__") and not isinstance(value, METHODS)):
                    continue
                if isinstance(value, METHODS) and not name.startswith("__") and name not in self._names:
                    self._waiting.setdefault(name, []).append(value)
                else:
                    yield value

    def _function(self, function: FunctionType) -> Iterator[Any]:
        if is_foreign(function.__module__):
            return
        for cell in function.__closure__ or ():
            self.cells.append(cell)
            content = content_of(cell)
            if content is not ABSENT:
                yield content
        yield function.__defaults__
        yield function.__kwdefaults__
        yield function.__dict__
        names = names_in(function.__code__)
        for name in names - self._names:
            yield from self._waiting.pop(name, ())
        self._names |= names
        yield from self._named(function.__globals__, names)

    def _named(self, namespace: dict[str, Any], names: frozenset[str]) -> Iterator[Any]:
        """Yield the globals that a function names, and what it names of the modules among them."""
        for name in names:
            value = namespace.get(name, ABSENT)
            if value is ABSENT and name in BUILTINS:
                continue
            self.globals[id(namespace), name] = (namespace, name)
            if isinstance(value, ModuleType):
                if not is_foreign(value.__name__):
                    own = vars(value)
                    yield from (
                        own[other] for other in names if other in own and not isinstance(own[other], ModuleType)
                    )
            elif value is not ABSENT:
                yield value


BUILTINS = frozenset(dir(__builtins__) if isinstance(__builtins__, ModuleType) else __builtins__)


def watchers(models: Iterable[nn.Module]) -> list[FunctionType]:
    """Return the plain functions that are hooked to the forward of modules: mostly they collect for their author."""
    modules = [module for model in models for module in model.modules()]
    tables = [table for module in modules for table in (module._forward_hooks, module._forward_pre_hooks)]
    return [hook for table in tables for hook in table.values() if isinstance(hook, FunctionType)]


def content_of(cell: CellType) -> Any:
    """Return what a cell of a closure holds, `ABSENT` while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def slots_of(item: Any) -> tuple[str, ...]:
    """Return the names of an object's slots that hold something."""
    if isinstance(item, Tensor):
        return ()
    return tuple(slot for slot in _slots(type(item)) if hasattr(item, slot))


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    found: list[str] = []
    for base in kind.__mro__:
        own = vars(base).get("__slots__", ()) if not is_foreign(base.__module__) else ()
        found.extend([own] if isinstance(own, str) else own)
    return tuple(slot for slot in found if slot not in ("__dict__", "__weakref__"))


@functools.lru_cache(maxsize=65536)
def names_in(code: CodeType) -> frozenset[str]:
    """Return the names of globals and attributes that a function's code uses, inner functions included."""
    inner = [names_in(const) for const in code.co_consts if isinstance(const, CodeType)]
    return frozenset(code.co_names).union(*inner)


def _parts(item: Any) -> Iterator[Any]:
    """Yield what a value holds that can itself not be written to."""
    kind = type(item)
    if issubclass(kind, tuple | frozenset):
        yield from item
    elif issubclass(kind, MethodType):
        yield item.__self__
        yield item.__func__
    elif issubclass(kind, functools.partial):
        yield from (item.func, item.args, item.keywords)
    elif issubclass(kind, staticmethod | classmethod):
        yield item.__func__
    elif issubclass(kind, property):
        yield from (item.fget, item.fset)
    elif issubclass(kind, functools.cached_property):
        yield item.func
    elif issubclass(kind, functools._lru_cache_wrapper):
        yield item.__wrapped__
