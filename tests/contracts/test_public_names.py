"""The public surface: small, documented, cheap to import."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import reticket as rt


def test_it_is_small_and_every_name_is_there() -> None:
    assert len(rt.__all__) <= 64
    assert sorted(rt.__all__) == list(rt.__all__)
    assert {"Alignment", "match", "run", "sparse"} <= set(rt.__all__) <= set(dir(rt))


@pytest.mark.parametrize("name", rt.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(rt, name)
    text = inspect.getdoc(value) or ""
    assert len(text) > 20, name
    if inspect.isfunction(value):
        parameters = [p for p in inspect.signature(value).parameters if not p.startswith("_")]
        assert all(p in text for p in parameters), f"{name}: {[p for p in parameters if p not in text]}"


def exported() -> dict[str, Callable[..., Any]]:
    """Every function that a package offers, and the methods of every class of its own that one offers."""
    found: dict[str, Any] = {}
    packages = [found.name for found in pkgutil.walk_packages(rt.__path__, "reticket.") if found.ispkg]
    for package in map(importlib.import_module, ["reticket", *packages]):
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            home = f"{getattr(value, '__module__', '')}.{name}"
            if not home.startswith("reticket."):
                continue
            if inspect.isfunction(value):
                found[home] = value
            elif inspect.isclass(value):
                methods = {one: member for one, member in vars(value).items() if not one.startswith("_")}
                found |= {f"{home}.{one}": getattr(m, "__func__", m) for one, m in methods.items()}
    return {home: one for home, one in found.items() if inspect.isfunction(one) and one.__name__ != "<lambda>"}


def test_what_packages_offer_says_what_it_takes() -> None:
    """Every function or method of two arguments or more explains each of them."""
    silent = {}
    for home, function in exported().items():
        names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
        text = (inspect.getdoc(function) or "").partition("Args:")[2]
        if len(names) > 1:
            silent[home] = [name for name in names if not re.search(rf"\b{name}\b", text)]
    assert len(silent) > 80
    assert {home: names for home, names in silent.items() if names} == {}


def test_import_loads_nothing_heavy_but_torch() -> None:
    code = "import sys, torch; before = set(sys.modules); import reticket; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"scipy", "sklearn", "matplotlib", "pydantic", "typer", "rich", "jinja2", "safetensors"}
    assert not heavy & {name.partition(".")[0] for name in loaded}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'transport'"):
        _ = rt.transport  # pyright: ignore[reportAttributeAccessIssue]
