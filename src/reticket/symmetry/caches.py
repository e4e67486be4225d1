"""Tensors under `functools.lru_cache` and `functools.cache`: shared by everybody, so nobody's run may leave one there.

A cache without bound shows the dict that it is, which is put back entry by entry. One with a bound can only be emptied:
what it held is computed anew when it is asked for.
"""

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from reticket.rng import are_shared
from reticket.symmetry.reach import is_foreign

HOLDERS = (dict, tuple, list)
Cache = functools._lru_cache_wrapper
_found: WeakKeyDictionary[Any, None] = WeakKeyDictionary()
_looked: WeakKeyDictionary[Any, tuple[tuple[int, ...], bool]] = WeakKeyDictionary()
_known: ContextVar[tuple[Any, ...] | None] = ContextVar("known", default=None)


@contextmanager
def caches_apart(change: Callable[[Tensor], Tensor] | None = None) -> Iterator[None]:
    """While active, cached functions may be called freely; on leaving, what their caches held of tensors is put back.

    Args:
        change: what to show in place of each tensor that a cache holds already; None shows it as it is.

    Where several threads compute side by side the caches are theirs too and are left alone; listing every object that
    there is would then also show tuples that another thread is just making.
    """
    if are_shared():
        yield
        return
    caches = _known.get()
    token = _known.set(caches := _caches()) if caches is None else None
    before = []
    for cache in caches:
        info, entries = cache.cache_info(), None
        if info.currsize:
            entries = _entries(cache)
        else:  # most are, and this stands around every run of a proof
            _looked.pop(cache, None)
        before.append((cache, info.misses, dict(entries or {})))
        if change is not None and info.currsize and _holds_tensor(cache, entries):
            if entries is None:
                cache.cache_clear()
            else:
                entries.update({key: _changed(value, change) for key, value in entries.items()})
    try:
        yield
    finally:
        if token is not None:
            _known.reset(token)
        for cache, misses, entries in before:
            _put_back(cache, misses, entries, always=change is not None)


def _caches() -> tuple[Any, ...]:
    """Return the cached functions that are neither torch's nor Python's.

    Each refers to its type, which is faster to ask for than every object is to look at. What was found once is
    remembered: after `gc.freeze()` the collector lists it no more.
    """
    _found.update((item, None) for item in gc.get_referrers(Cache) if type(item) is Cache)
    return tuple(cache for cache in _found if not is_foreign(getattr(cache, "__module__", None)))


def _entries(cache: Any) -> dict[Any, Any] | None:
    """Return the dict of a cache without bound."""
    if cache.cache_info().maxsize is not None:
        return None
    own = vars(cache)
    return next(item for item in gc.get_referents(cache) if type(item) is dict and item is not own)


def _put_back(cache: Any, misses: int, before: dict[Any, Any], *, always: bool) -> None:
    info = cache.cache_info()
    if not info.currsize or not (always or info.misses != misses):
        return
    entries = _entries(cache)
    if not _holds_tensor(cache, entries):
        return
    if entries is None:
        cache.cache_clear()
    else:
        entries.clear()
        entries.update(before)


def _holds_tensor(cache: Any, entries: dict[Any, Any] | None) -> bool:
    """Return whether a cache holds a tensor; looked for anew only after it has taken something in."""
    info = cache.cache_info()
    state, (known, held) = (info.misses, info.currsize), _looked.get(cache, ((), False))
    if known != state:
        values = gc.get_referents(cache) if entries is None else entries.values()
        held = info.currsize > 0 and any(_has_tensor(value, 4) for value in values)
        _looked[cache] = (state, held)
    return held


def _has_tensor(value: Any, depth: int) -> bool:
    kind = type(value)
    if issubclass(kind, Tensor):
        return True
    if depth == 0 or issubclass(kind, type) or (is_foreign(kind.__module__) and not issubclass(kind, HOLDERS)):
        return False
    inner = value if issubclass(kind, tuple | list) else value.values() if issubclass(kind, dict) else ()
    return any(_has_tensor(one, depth - 1) for one in (*inner, *getattr(value, "__dict__", {}).values()))


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_changed(one, change) for one in value)
    return {key: _changed(one, change) for key, one in value.items()} if type(value) is dict else value
