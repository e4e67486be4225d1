"""Names: the nearest right one for a slip, and what `package.module:function` stands for."""

import difflib
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reticket.errors import OF_OTHERS, InputError

_places: list[str] = []


def find_modules_in(folder: str) -> None:
    """Let modules that a user names be found in a folder too, after all that is installed.

    Nothing is searched there until one is named, so that a `csv.py` or `torch.py` in it stands for nothing else.
    """
    _places[:] = [folder]


def as_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names; a text is one name, not as many as it has letters.

    >>> as_names("fc.weight"), as_names(["a", "b"])
    (('fc.weight',), ('a', 'b'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def find_modules_beside(file: str | Path) -> None:
    """Let modules that a file names be found beside it too, after all other places.

    Args:
        file: that names modules, as an experiment's TOML.
    """
    folder = str(Path(file).resolve().parent)
    if folder not in _places:
        _places.append(folder)


def closest(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """Return the most similar of `known`, capitals or not, or None when none is similar.

    Args:
        name: what somebody wrote.
        known: what could be meant.
        least: how similar it must be, 1 being the same, as `difflib` counts.

    >>> closest("resnet2", ["mlp", "resnet20"]), closest("vgg", ["mlp", "resnet20"])
    ('resnet20', None)
    >>> closest("ResNet20", ["resnet20"]), closest("fc.W", ["fc.w", "fc.W1"])
    ('resnet20', 'fc.w')
    """
    spelled: dict[str, list[str]] = {}
    for one in known:
        spelled.setdefault(one.casefold(), []).append(one)
    found = difflib.get_close_matches(name.casefold(), spelled, n=1, cutoff=least)
    return difflib.get_close_matches(name, spelled[found[0]], n=1, cutoff=0)[0] if found else None


def nearest(name: str, known: Iterable[str], least: float = 0.6) -> str:
    """Return `, did you mean 'x'?` for the `closest` of `known`, or nothing when none is similar.

    >>> nearest("resnet2", ["mlp", "resnet20"])
    ", did you mean 'resnet20'?"
    """
    found = closest(name, known, least)
    return f", did you mean '{found}'?" if found else ""


def raised(reason: BaseException, by: Callable[..., Any] | None = None) -> str:
    """Say what an exception of somebody's own code is, and in which line it was raised.

    Args:
        reason: the exception, as it was caught.
        by: a function of theirs; the innermost line of its file is named, the innermost of all when None.

    >>> def load(folder):
    ...     return {}["train"]
    >>> try:
    ...     load(None)
    ... except KeyError as reason:
    ...     print(raised(reason, load))
    KeyError: 'train' (<doctest ...>, line 2)
    """
    text = f"{type(reason).__name__}: {(str(reason).strip().splitlines() or [''])[0]}"
    if isinstance(reason, SyntaxError):
        return text  # which says its place itself
    frames = traceback.extract_tb(reason.__traceback__)
    code = getattr(inspect.unwrap(by), "__code__", None) if by is not None else None
    mine = [frame for frame in frames if code is not None and frame.filename == code.co_filename] or frames
    return f"{text} ({mine[-1].filename}, line {mine[-1].lineno})" if mine else text


def raised_in(model: object, reason: BaseException) -> str:
    """Say what an exception of a model is, and in which line of the file of its forward pass it was raised.

    Args:
        model: a module, scripted or not.
        reason: the exception, as it was caught.
    """
    forward = inspect.getattr_static(type(model), "forward", None)
    return raised(reason, forward if inspect.isfunction(forward) else None)


def imported(name: str, kind: str, error: type[InputError]) -> Callable[..., Any]:
    """Return the function that `package.module:function` names.

    Args:
        name: the path of a function, or of one in a class, on Python's search path.
        kind: what the function is or makes, for the error ("model", "data set").
        error: the class raised.

    Raises:
        InputError: of the class `error`, when the path leads to nothing callable.

    >>> imported("json:dumps", "writer", InputError)({"a": 1})
    '{"a": 1}'
    """
    module, colon, attribute = name.partition(":")
    try:
        if not colon:
            raise ImportError("it has no colon")
        sys.path += [place for place in _places if place not in sys.path]
        found: Any = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as reason:
        raise error(
            f"{kind} '{name}' cannot be imported ({reason}); name a function on Python's search path as "
            f"package.module:function"
        ) from reason
    except OF_OTHERS as reason:  # whatever a module does that is imported
        raise error(f"{kind} '{name}' cannot be imported: {module} raised {raised(reason)}; mend it") from reason
    if not callable(found):
        raise error(f"{kind} '{name}' is a {type(found).__name__}, but a function was expected")
    return found
