"""Names to functions: a registry's own entries, or the user's `package.module:function`."""

import difflib
import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from reticket.errors import InputError

T = TypeVar("T")
_places: list[str] = []


def find_modules_in(folder: str) -> None:
    """Let modules that a user names be found in a folder too, after all that is installed.

    Nothing is searched there until one is named, so that a `csv.py` or `torch.py` in it stands for nothing else.
    """
    _places[:] = [folder]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the most similar of `known`, or nothing when none is similar.

    >>> nearest("resnet2", ["mlp", "resnet20"])
    ", did you mean 'resnet20'?"
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean '{found[0]}'?" if found else ""


def function_named(
    name: str, registry: Mapping[str, Callable[..., T]], kind: str, error: type[InputError]
) -> Callable[..., T]:
    """Return the function registered as `name`, or import it when `name` reads `package.module:function`.

    Args:
        name: a key of `registry`, or the path of a function on Python's search path.
        registry: what the package itself knows.
        kind: what the function makes, for the error ("model", "data set").
        error: the class raised.

    Raises:
        InputError: of the class `error`, when the name is unknown or the path leads to nothing callable.
    """
    if name in registry:
        return registry[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise error(
            f"unknown {kind} '{name}'{nearest(name, registry)}; known are {', '.join(sorted(registry))}, "
            f"or name a function of your own as package.module:function"
        )
    try:
        if _places and _places[0] not in sys.path:
            sys.path.append(_places[0])
        found: Any = functools.reduce(getattr, attribute.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError, ValueError) as reason:
        raise error(f"{kind} '{name}' cannot be imported ({reason}); it must be on Python's search path") from reason
    if not callable(found):
        raise error(f"{kind} '{name}' is a {type(found).__name__}, but a function that makes the {kind} was expected")
    return cast(Callable[..., T], found)
