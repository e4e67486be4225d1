"""What the code of a user's own model is: its module and every module of its own package that it imports."""

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def code_outside(function: Callable[..., Any]) -> str:
    """Return what a key must hold of a function's code: nothing for this package's own, whose name says it all.

    >>> import json
    >>> code_outside(digest_of_code), len(code_outside(json.dumps))
    ('', 64)
    """
    return "" if function.__module__.partition(".")[0] == __name__.partition(".")[0] else digest_of_code(function)


def digest_of_code(function: Callable[..., Any] | ModuleType) -> str:
    """Return a sha256 of the code that a function or module is made of; empty where its source cannot be read.

    Besides its own module these are the modules it imports, and those they import, as far as they are of the same
    package (or lie beside a module that is in none), imports inside functions included. Packages of others count by no
    more than their name in that code, and what is imported by a computed name is not seen.
    """
    module = inspect.getmodule(function)
    try:
        source = inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):  # typed into a prompt, or compiled
        return ""
    if module is None:
        return ""
    found = {module.__name__: source}
    waiting = [(_package_of(module), source)]
    while waiting:
        package, text = waiting.pop()
        for other in _imported(text, package):
            spec = None if other in found else _own(other, module)
            if spec is not None and spec.origin is not None:
                found[other] = Path(spec.origin).read_text("utf-8")
                is_package = spec.submodule_search_locations is not None
                waiting.append((other if is_package else other.rpartition(".")[0], found[other]))
    if len(found) == 1:
        return hashlib.sha256(source.encode()).hexdigest()
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _package_of(module: ModuleType) -> str:
    return module.__package__ or ""


def _imported(source: str, package: str) -> Iterator[str]:
    """Yield the full names of all that a source may import: modules, their packages, and names that may be modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                kept = parts[: len(parts) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            yield from _with_parents(base)
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])


def _own(name: str, module: ModuleType) -> ModuleSpec | None:
    """Return where a module lies, if it is of the same package as `module`, or beside it where that is in none."""
    package = _package_of(module).partition(".")[0]
    if package and name.partition(".")[0] != package:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):  # a class or function, or a module that is not there
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    if not package and Path(module.__file__ or "").resolve().parent not in Path(spec.origin).resolve().parents:
        return None
    return spec
