"""Signatures of the package are checked while its tests run: types by beartype, shapes too where jaxtyping names them.

The import hooks of the two check every call, and decorate a function within a function anew each time the outer one
runs: half of the suite's processor time. Here a function or method is checked in its first calls and then in every
so-manieth, by a wrapper that is built at the first of them. What is defined within functions goes unchecked.
"""

import ast
import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

PACKAGE = "reticket"
FIRST, EVERY = 64, 16  # calls that are checked: the first ones, then one of so many
MARK = "__checked__"
types_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float too, as for type checkers


def check_signatures() -> None:
    """Import the package's modules with signatures that are checked, from now on."""
    sys.meta_path.insert(0, _Finder())


def checked(defined: Any) -> Any:
    """A function whose calls are checked now and then; a class, whose own methods are."""
    if isinstance(defined, FunctionType):
        return _function(defined) if defined.__annotations__ else defined
    if isinstance(defined, staticmethod | classmethod):
        return type(defined)(checked(defined.__func__))
    if isinstance(defined, property):
        get, put, remove = (way and checked(way) for way in (defined.fget, defined.fset, defined.fdel))
        return property(get, put, remove, defined.__doc__)
    if isinstance(defined, type) and not getattr(defined, "_is_protocol", False):
        for name, member in list(vars(defined).items()):
            if isinstance(member, FunctionType | staticmethod | classmethod | property) and name != "__del__":
                setattr(defined, name, checked(member))
    return defined


def _function(function: FunctionType) -> Callable[..., Any]:
    calls = 0
    in_full: Callable[..., Any] | None = None

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls, in_full
        calls += 1
        if calls > FIRST and calls % EVERY:
            return function(*args, **kwargs)
        in_full = in_full or _in_full(function)
        return in_full(*args, **kwargs)

    # who looks through frames for the caller's line passes over what comes from no file
    wrapper.__code__ = wrapper.__code__.replace(co_filename="<checked>")
    return functools.update_wrapper(wrapper, function)


def _in_full(function: FunctionType) -> Callable[..., Any]:
    shapes = any("jaxtyping" in repr(hint) for hint in function.__annotations__.values())
    return jaxtyped(function, typechecker=types_checked) if shapes else types_checked(function)


class _Finder(MetaPathFinder):
    """Finds the package's modules where Python would, and gives them the loader below."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Compiles a module with its functions and classes marked, and caches the bytecode under a name of its own."""

    own = f".checked-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]}.pyc"

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        tree = ast.parse(data, filename=path)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                node.decorator_list.append(_mark(node))  # before any other, which may keep the function
            elif isinstance(node, ast.ClassDef):
                node.decorator_list.insert(0, _mark(node))  # after a dataclass has written its methods
        head = next((i for i, node in enumerate(tree.body) if not _comes_first(node)), len(tree.body))
        tree.body[head:head] = ast.parse(f"from {__name__} import checked as {MARK}").body
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def get_data(self, path: Any) -> bytes:
        return super().get_data(self._cache(path))

    def set_data(self, path: Any, data: Any, *, _mode: int = 0o666) -> None:
        super().set_data(self._cache(path), data, _mode=_mode)

    def _cache(self, path: str) -> str:
        return path.removesuffix(".pyc") + self.own if path.endswith(".pyc") else path


def _mark(node: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Name(MARK, ast.Load()), node)


def _comes_first(node: ast.stmt) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
